"""Prediction files: round trip with the official package, all digits, and one-line errors."""

import math
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from medmnist import evaluator as official_evaluator

from medmnist_hf.array_types import FloatArray
from medmnist_hf.catalog import DEFAULT_SIZE, NPZ_SPLITS, SPLITS, Subset, Task, subset, subsets
from medmnist_hf.conversion.sources.phantom import phantom_counts, phantom_labels
from medmnist_hf.errors import BuildError, CatalogError, MedMNISTError, ScoreError, SourceError
from medmnist_hf.evaluation.prediction_files import (
    PREDICTION_BYTES,
    parse_name,
    prediction_name,
    read_predictions,
    write_predictions,
)
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import check
from medmnist_hf.scoring.published import published_results

PAIRS = [(entry.flag, size) for entry in subsets() for size in entry.sizes]
RUNS = ["1", "resnet18.a1_in1k", "1763931456.789", "seed=3 lr=1e-3", "vit@dino", "[AUC]0.1_[ACC]0.2", "Läufe"]
ROWS = 24


def official_at(root: Path) -> Any:
    """The official evaluator with another root, which `parse_and_evaluate` has no argument for."""

    class Rooted(official_evaluator.Evaluator):  # type: ignore[misc]
        def __init__(self, flag: str, split: str, size: int | None = None) -> None:
            super().__init__(flag, split, size, root=str(root))

    return Rooted


def write_labels(root: Path, entry: Subset, size: int) -> None:
    """An NPZ file with the labels of a phantom and no images, which neither evaluator needs."""
    counts = phantom_counts(entry, ROWS)
    labels: dict[str, Any] = {
        f"{prefix}_labels": phantom_labels(entry, counts, split) for split, prefix in NPZ_SPLITS.items()
    }
    np.savez(root / entry.file(size).name, **labels)


def some_scores(entry: Subset, labels: np.ndarray[Any, Any], seed: int) -> FloatArray:
    """Scores correlated with the labels, in the columns that the official recipes write."""
    rng = np.random.default_rng(seed)
    if entry.task is Task.MULTI_LABEL:
        return np.asarray(np.clip(0.6 * labels + rng.random(labels.shape) * 0.7, 0, 1))
    logits = rng.normal(size=(len(labels), len(entry.labels))) + 2 * (labels == np.arange(len(entry.labels)))
    powers = np.exp(logits)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(("flag", "size"), PAIRS)
def test_round_trip_with_the_official_package(
    flag: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each package reads the files of the other with the same scores, for every split."""
    entry, root, own_folder, official_folder = (
        subset(flag),
        tmp_path / "root",
        tmp_path / "ours",
        tmp_path / "official",
    )
    for folder in (root, official_folder):
        folder.mkdir()
    write_labels(root, entry, size)
    rooted = official_at(root)
    for seed, split in enumerate(SPLITS):
        labels = phantom_labels(entry, phantom_counts(entry, ROWS), split)
        scores = some_scores(entry, labels, seed)
        expected = score(check(labels, scores, entry.task))
        path = write_predictions(own_folder, flag, size, split, scores, labels, run="run.1")
        found = read_predictions(path)
        assert np.array_equal(found.scores, scores) and np.array_equal(found.index, np.arange(len(labels)))
        assert (found.flag, found.size, found.split, found.run) == (flag, size, split, "run.1")
        assert (found.auc, found.acc) == (round(expected.auc, 3), round(expected.acc, 3))

        copy = Path(shutil.copy(path, tmp_path / path.name))
        metrics = rooted.parse_and_evaluate(str(copy))
        assert tuple(metrics) == pytest.approx((expected.auc, expected.acc), abs=1e-12)
        assert (tmp_path / path.name.replace("@run.1", "@run")).is_file(), "quirks (a) and (b) of the official parser"

        evaluator = rooted(flag, NPZ_SPLITS[split], None if size == DEFAULT_SIZE else size)
        evaluator.evaluate(scores, str(official_folder), "resnet.v2")
        (written,) = official_folder.glob(f"{flag}*_{NPZ_SPLITS[split]}_*.csv")
        official_file = read_predictions(written)
        assert np.array_equal(official_file.scores, scores)
        assert (official_file.flag, official_file.size, official_file.split, official_file.run) == (
            flag,
            size,
            split,
            "resnet.v2",
        )
        assert (official_file.auc, official_file.acc) == (found.auc, found.acc)
        rescored = score(check(labels, official_file.scores, entry.task))
        assert (rescored.auc, rescored.acc) == (expected.auc, expected.acc)
        assert written.name == path.name.replace("run.1", "resnet.v2")
        assert written.read_bytes() == path.read_bytes(), "identical files"


def test_the_real_file(real_data: Path) -> None:
    (path,) = (real_data.parent / "predictions").glob("*.csv")
    before = {entry.name: entry.stat().st_mtime_ns for entry in path.parent.iterdir()}
    found = read_predictions(path)
    assert (found.flag, found.size, found.split, found.run) == ("breastmnist", 28, "test", "resnet18_224_1")
    assert (found.auc, found.acc, found.scores.shape) == (0.913, 0.846, (156, 2))
    assert {entry.name: entry.stat().st_mtime_ns for entry in path.parent.iterdir()} == before, "reading never writes"


@given(st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_digit_survives(tmp_path: Path, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float64, np.float32]))
    elements = st.floats(0, 1, width=64 if dtype is np.float64 else 32)
    scores = data.draw(arrays.arrays(dtype, st.tuples(st.integers(2, 9), st.just(5)), elements=elements))
    references = np.arange(len(scores)) % 5
    path = write_predictions(tmp_path, "retinamnist", 28, "train", scores, references, run="x")
    found = read_predictions(path)
    assert found.scores.dtype == np.float64 and np.array_equal(found.scores, scores)
    assert all("e" in line or "." in line for line in path.read_text().splitlines())
    path.unlink()


@pytest.mark.parametrize("run", RUNS)
def test_any_run_name_survives(tmp_path: Path, run: str) -> None:
    path = write_predictions(tmp_path / "new" / "folder", "BreastMNIST", 64, "validation", [0.1, 0.9], [0, 1], run=run)
    assert path.name == f"breastmnist_64_val_[AUC]1.000_[ACC]1.000@{run}.csv"
    found = read_predictions(path)
    assert (found.run, found.split, found.size, found.auc, found.acc) == (run, "validation", 64, 1.0, 1.0)
    assert list(path.parent.iterdir()) == [path], "no other file"


@given(
    st.sampled_from(PAIRS),
    st.sampled_from(SPLITS),
    st.floats(0, 1),
    st.floats(0, 1),
    st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable() and not {"/", "\\"} & set(text)),
)
def test_names_survive_a_round_trip(pair: tuple[str, int], split: str, auc: float, acc: float, run: str) -> None:
    found = parse_name(prediction_name(*pair, split, auc, acc, run))
    assert (found.flag, found.size, found.split, found.run) == (*pair, split, run)
    assert (found.auc, found.acc) == (float(f"{auc:.3f}"), float(f"{acc:.3f}"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("octmnist_test_[AUC]0.672_[ACC]0.892@3.csv", ("octmnist", 28, "test", "3", 0.672, 0.892)),
        ("pathmnist_28_val_[AUC]0.5_[ACC]1@a.b.csv", ("pathmnist", 28, "validation", "a.b", 0.5, 1.0)),
        ("PathMNIST_224_validation@x.csv", ("pathmnist", 224, "validation", "x", None, None)),
        ("nodulemnist3d_64_train.csv", ("nodulemnist3d", 64, "train", "", None, None)),
        ("breastmnist_test_[AUC]nan_[ACC]0.731@x.csv", ("breastmnist", 28, "test", "x", math.nan, 0.731)),
        ("breastmnist_test_[AUC]0.9.1_[ACC]@x.csv", ("breastmnist", 28, "test", "x", None, None)),
        ("breastmnist_test@[AUC]0.9_[ACC]0.8.csv", ("breastmnist", 28, "test", "[AUC]0.9_[ACC]0.8", None, None)),
    ],
)
def test_names_written_by_other_tools(name: str, expected: tuple[object, ...]) -> None:
    found = parse_name(name)
    actual = (found.flag, found.size, found.split, found.run, found.auc, found.acc)
    assert repr(actual) == repr(expected)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("pathmnits_test@1.csv", CatalogError, "did you mean 'pathmnist'?"),
        ("pathmnist_32_test@1.csv", CatalogError, "has no size 32"),
        ("organmnist3d_224_test@1.csv", CatalogError, "has no size 224"),
        ("pathmnist_testing@1.csv", ScoreError, "not the name of a prediction file"),
        ("pathmnist@1.csv", ScoreError, "not the name of a prediction file"),
        ("pathmnist_test@1.txt", ScoreError, "not the name of a prediction file"),
        ("", ScoreError, "not the name of a prediction file"),
    ],
)
def test_names_that_are_refused(name: str, error: type[MedMNISTError], message: str) -> None:
    with pytest.raises(error) as caught:
        parse_name(name)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("run", ["", "a/b", "a\\b", "a\nb", "a\x00b"])
def test_run_names_that_are_refused(tmp_path: Path, run: str) -> None:
    with pytest.raises(ScoreError, match="run name"):
        write_predictions(tmp_path / "new", "breastmnist", 28, "test", [0.1, 0.9], [0, 1], run=run)
    assert list(tmp_path.iterdir()) == [], "no file is left"


def test_lines_in_any_order_and_form(tmp_path: Path) -> None:
    path = tmp_path / "breastmnist_test_[AUC]0.5_[ACC]0.5@x.csv"
    path.write_bytes(b"\xef\xbb\xbf2, 0.25,7.5e-1\r\n 0 ,1,0\r\n\r\n1,0.5,.5\r\n")
    found = read_predictions(path)
    assert found.scores.tolist() == [[1, 0], [0.5, 0.5], [0.25, 0.75]]
    assert found.index.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("flag", "text", "message"),
    [
        ("breastmnist", "", "contains no scores"),
        ("breastmnist", "\n \n", "contains no scores"),
        ("breastmnist", "index,score\n0,0.5\n", "line 1 begins with 'index', not a row number"),
        ("breastmnist", ",0,1\n0,0.5,0.5\n", "line 1 begins with '', not a row number"),
        ("breastmnist", "0,0.5\n-1,0.5\n", "line 2 begins with '-1'"),
        ("breastmnist", "0.0,0.5\n", "line 1 begins with '0.0'"),
        ("breastmnist", "0,0.1,0.2,0.7\n", "line 1 has 3 scores but breastmnist needs 1 or 2"),
        ("breastmnist", "0\n", "line 1 has 0 scores"),
        ("breastmnist", "0,0.5\n1,0.5,0.5\n", "line 2 has 2 scores, the first line 1"),
        ("retinamnist", "0,0.1,0.2,0.3,0.4\n", "line 1 has 4 scores but retinamnist needs 5"),
        ("chestmnist", "0,0.1,0.2\n", "line 1 has 2 scores but chestmnist needs 14"),
        ("breastmnist", "0,0.5\n1,nan\n", "line 2 has 'nan' as a score"),
        ("breastmnist", "0,inf\n", "line 1 has 'inf' as a score"),
        ("breastmnist", "0,1e999\n", "line 1 has '1e999' as a score"),
        ("breastmnist", "0,\n", "line 1 has an empty cell as a score"),
        ("breastmnist", "0,a\n", "line 1 has 'a' as a score"),
        ("breastmnist", "0,1_0\n", "line 1 has '1_0' as a score"),
        ("breastmnist", '0,"0,5"\n', "line 1 has '0,5' as a score: write finite numbers, with a decimal point"),
        ("breastmnist", '0,"0.5\n', "line 1 is not valid CSV (unexpected end of data)"),
        ("breastmnist", '0,"0.5"1\n', "line 1 is not valid CSV"),
        ("breastmnist", "0;0.5\n", "line 1 begins with '0;0.5'"),
        ("breastmnist", "0,0.5\n0,0.5\n", "row 0 appears twice"),
        ("breastmnist", "0,0.5\n2,0.5\n", "row 1 is missing"),
        ("breastmnist", "1,0.5\n2,0.5\n", "row 0 is missing"),
        ("breastmnist", "0,0.5\x00\n", "line 1 has"),
        ("breastmnist", "0," + "5" * 200_000, "line 1"),
    ],
)
def test_content_that_is_refused(tmp_path: Path, flag: str, text: str, message: str) -> None:
    path = tmp_path / f"{flag}_test_[AUC]0.5_[ACC]0.5@x.csv"
    path.write_text(text)
    with pytest.raises(ScoreError) as caught:
        read_predictions(path)
    error = str(caught.value)
    assert error.startswith(f"{path}: ") and message in error and "\n" not in error and len(error) < 400


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        read_predictions(tmp_path / "breastmnist_test@x.csv")
    with pytest.raises(SourceError, match="is a folder"):
        read_predictions(tmp_path)
    path = tmp_path / "breastmnist_test@x.csv"
    path.write_bytes(b"\xff\xfe0\x00")
    with pytest.raises(ScoreError, match="not UTF-8 text"):
        read_predictions(path)


def test_scores_that_cannot_be_scored_are_not_written(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for scores, message in (
        ([0.1, math.nan], "nan at row 1"),
        ([0.1, 0.2, 0.3], "2 references but 3 rows"),
        ([[0.1, 0.2, 0.7]] * 2, "scores have 3 columns"),
        ([-3.0, 4.0], "outside 0..1"),
    ):
        with pytest.raises(ScoreError, match=message):
            write_predictions(folder, "breastmnist", 28, "test", scores, [0, 1], run="x")
    with pytest.raises(CatalogError, match="unknown split 'dev'"):
        write_predictions(folder, "breastmnist", 28, "dev", [0.1, 0.9], [0, 1], run="x")
    with pytest.raises(CatalogError, match="no size 32"):
        write_predictions(folder, "breastmnist", 32, "test", [0.1, 0.9], [0, 1], run="x")
    assert not folder.exists()


def test_logits_are_written_as_probabilities(tmp_path: Path) -> None:
    logits = np.array([[2.0, -1.0], [0.0, 0.5], [-3.0, 800.0]])
    path = write_predictions(tmp_path, "breastmnist", 28, "test", logits, [0, 1, 1], run="x", from_logits=True)
    found = read_predictions(path)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert found.scores[:, -1] == pytest.approx((powers / powers.sum(axis=1, keepdims=True))[:, 1], abs=1e-15)
    assert (found.auc, found.acc) == (1.0, 1.0)


@pytest.mark.parametrize("scores", [[0.1, 0.7], [[0.1], [0.7]], [[0.9, 0.1], [0.3, 0.7]], [[0.1, 0.7]]])
def test_shapes_of_binary_scores(tmp_path: Path, scores: list[Any]) -> None:
    found = read_predictions(write_predictions(tmp_path, "breastmnist", 28, "test", scores, [[0], [1]], run="x"))
    assert found.scores[:, -1].tolist() == [0.1, 0.7]
    assert (found.auc, found.acc) == (1.0, 1.0)


def test_lists_of_findings(tmp_path: Path) -> None:
    scores = np.full((3, 14), 0.25)
    scores[1, [0, 3]] = 0.75
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = write_predictions(tmp_path, "chestmnist", 28, "test", scores, [[], [0, 3], []], run="x")
    assert path.name == "chestmnist_test_[AUC]1.000_[ACC]1.000@x.csv"


def test_a_folder_that_cannot_be_written_gives_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BuildError, match="cannot write") as caught:
        write_predictions(tmp_path / "file", "breastmnist", 28, "test", [0.1, 0.9], [0, 1], run="x")
    assert "\n" not in str(caught.value)
    with pytest.raises(BuildError, match="File name too long"):
        write_predictions(tmp_path / "out", "breastmnist", 28, "test", [0.1, 0.9], [0, 1], run="x" * 300)
    assert os.listdir(tmp_path / "out") == []  # noqa: PTH208  (hidden files count)


def test_a_file_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    for scores in ([0.1, 0.9], [0.2, 0.8]):
        path = write_predictions(tmp_path, "breastmnist", 28, "test", scores, [0, 1], run="x")
    assert path.read_text() == "0,0.2\n1,0.8\n"
    assert list(tmp_path.iterdir()) == [path]


def test_published_results_exist() -> None:
    assert len(published_results("breastmnist")) == 7


def test_quoted_cells_and_a_decimal_comma(tmp_path: Path) -> None:
    name = "breastmnist_test_[AUC]0,867_[ACC]0,5@x.csv"
    (tmp_path / name).write_text('"0","0.25","0.75"\r\n\r\n1, 0.5,"0.5"\r\n', encoding="utf-8")
    found = read_predictions(tmp_path / name)
    assert found.scores.tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert (found.auc, found.acc) == (0.867, 0.5), "decimal commas in the name are accepted"


def test_too_large_a_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "breastmnist_test.csv"
    with path.open("wb") as file:
        file.truncate(PREDICTION_BYTES + 1)
    with pytest.raises(SourceError, match=r"cannot be read \(it has more than 67,108,864 bytes\)"):
        read_predictions(path)
