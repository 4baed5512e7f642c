"""Measures by group equal those of the group's rows alone; small and unknown groups are marked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmnist_hf.catalog import Task, subset
from medmnist_hf.conversion.added_columns import AddedFiles
from medmnist_hf.conversion.build import BuildOptions, build_config
from medmnist_hf.errors import ScoreError, SourceError
from medmnist_hf.evaluation.by_group import UNKNOWN, GroupEvaluation, evaluate_by, read_column
from medmnist_hf.evaluation.evaluate import Evaluation, evaluate_file
from medmnist_hf.evaluation.labels import read_labels
from medmnist_hf.evaluation.prediction_files import write_predictions
from medmnist_hf.scoring.metrics import metrics
from medmnist_hf.scoring.predictions import check
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.scored import write_labels, write_scores
from tests.fixtures.source_ids import METADATA, lesions, write_csv


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(tmp_path_factory.mktemp("labels"))


@pytest.fixture
def scored(labels: Path, tmp_path: Path) -> Any:
    def make(flag: str) -> Evaluation:
        return evaluate_file(write_scores(tmp_path, flag), labels)

    return make


def named(result: GroupEvaluation) -> list[str]:
    return [group.name for group in result.groups]


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "chestmnist"])
def test_each_group_is_scored_by_its_rows(scored: Any, flag: str) -> None:
    evaluation = scored(flag)
    rows, every = evaluation.score.rows, evaluation.predictions
    values = ["female" if row % 3 else "male" for row in range(rows)]
    result = evaluate_by(evaluation, "sex", values, resamples=50)
    assert named(result) == ["female", "male"] and sum(group.rows for group in result.groups) == rows
    for group in result.groups:
        chosen = np.array(values) == group.name
        truth = every.truth[:, chosen].T if every.task is Task.MULTI_LABEL else every.truth[chosen]
        own = check(truth, every.columns[:, chosen].T, every.task, num_classes=len(subset(flag).labels))
        expected = metrics(own, ["auc", "acc", "balanced_accuracy"])
        assert {name: each.estimate for name, each in group.intervals.items()} == pytest.approx(expected, nan_ok=True)
        for interval in group.intervals.values():
            assert np.isnan(interval.low) or interval.low <= interval.estimate <= interval.high


def test_the_gap_is_between_groups_that_are_not_small(scored: Any) -> None:
    evaluation = scored("breastmnist")
    rows = evaluation.score.rows
    right = evaluation.predictions.chosen == evaluation.predictions.truth
    values = ["tiny"] * 3 + [("good" if hit or row % 5 == 0 else "bad") for row, hit in enumerate(right[3:])]
    values[:] = [value if value == "tiny" or row % 2 else "other" for row, value in enumerate(values)]
    result = evaluate_by(evaluation, "site", values, resamples=50)
    small = {group.name for group in result.groups if group.small}
    assert "tiny" in small
    for measure, gap in result.gaps.items():
        by_name = {group.name: group.intervals[measure].estimate for group in result.groups if not group.small}
        assert gap.difference == pytest.approx(max(by_name.values()) - min(by_name.values()))
        assert not {gap.best, gap.worst} & small
    assert rows == sum(group.rows for group in result.groups)


@pytest.mark.parametrize(
    ("column", "values", "names", "bins"),
    [
        ("age", [5, 19.0, "20", None, 85, "nan"], ["0-19", "20-39", "80-99", UNKNOWN], "20 years each"),
        ("grade", [2, 10, 1, 2], ["1", "2", "10"], ""),
        (
            "dose",
            list(range(30)),
            ["0 to under 7.25", "7.25 to under 14.5", "14.5 to under 21.75", "21.75 to 29"],
            "4",
        ),
        ("site", ["b", "a", "", "7"], ["7", "a", "b", UNKNOWN], ""),
        ("site", [None, ""], [UNKNOWN], ""),
    ],
)
def test_numbers_are_divided_as_stated(
    scored: Any, column: str, values: list[Any], names: list[str], bins: str
) -> None:
    evaluation = scored("breastmnist")
    repeated = [values[row % len(values)] for row in range(evaluation.score.rows)]
    result = evaluate_by(evaluation, column, repeated, resamples=2)
    assert named(result) == names
    assert result.bins.startswith(bins)


def test_columns_are_read_from_builds_and_csv_files(phantoms: Phantoms, tmp_path: Path) -> None:
    folder = build(phantoms, tmp_path, "breastmnist", 28, rows=60)
    evaluation = evaluate_file(write_scores(tmp_path, "breastmnist"), folder)
    assert read_column("label", evaluation, folder) == evaluation.predictions.truth.tolist()
    with pytest.raises(SourceError, match="has no column 'sex', but label: name one of them, or give a CSV file"):
        read_column("sex", evaluation, folder)
    rows = evaluation.score.rows
    order = np.random.default_rng(0).permutation(rows)
    lines = [f"test,{row},{'f' if row % 2 else 'm'}" for row in order] + ["train,0,f"]
    path = tmp_path / "people.csv"
    path.write_text("\n".join(["split,index,sex", *lines]))
    assert read_column("sex", evaluation, file=path) == ["f" if row % 2 else "m" for row in range(rows)]
    for text, message in (
        ("\n".join(["split,index,sex", *lines[1:]]), "lines for test, but there are"),
        ("\n".join(["split,index,sex", *lines[1:], lines[2]]), "the column index is not 0 to"),
        ("split,index\ntest,0", "has no column 'sex': name a column of its first line"),
    ):
        path.write_text(text)
        with pytest.raises(SourceError, match=message):
            read_column("sex", evaluation, file=path)


def test_wrong_values_are_refused(scored: Any) -> None:
    evaluation = scored("pathmnist")
    with pytest.raises(ScoreError, match="sex has 1 values, but there are"):
        evaluate_by(evaluation, "sex", ["f"])


def test_columns_of_corrected_dermamnist(phantoms: Phantoms, tmp_path: Path) -> None:
    entry, file = subset("dermamnist-corrected"), phantoms("dermamnist-corrected", 28, 60)
    people = write_csv(tmp_path / "meta.csv", METADATA, lesions(file))
    options = BuildOptions(added=AddedFiles(metadata=people), max_shard_size=40_000)
    folder = build_config(entry, 28, file, tmp_path, options=options).config_dir
    truth = read_labels(entry.flag, 28, "test", folder).values
    scores = np.random.default_rng(0).dirichlet(np.ones(len(entry.labels)), len(truth))
    path = write_predictions(tmp_path, entry.flag, 28, "test", scores, truth, run="a")
    evaluation = evaluate_file(path, folder)
    sexes = evaluate_by(evaluation, "sex", read_column("sex", evaluation, folder), resamples=20)
    assert named(sexes) == ["female", "male"]
    ages = evaluate_by(evaluation, "age", read_column("age", evaluation, folder), resamples=20)
    assert named(ages)[-1] == UNKNOWN and ages.bins == "20 years each"
