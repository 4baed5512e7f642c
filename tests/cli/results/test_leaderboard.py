"""The leaderboard: published results of one protocol, and a user's own among them."""

import math
from pathlib import Path

import numpy as np
import pytest

from medmnist_hf.catalog import Subset, subsets
from medmnist_hf.errors import CatalogError, ScoreError
from medmnist_hf.evaluation.evaluate import evaluate_file
from medmnist_hf.evaluation.prediction_files import write_predictions
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.published import published_notes, published_results
from tests.fixtures.benchmarks import leave_run
from tests.fixtures.scored import app, facts, flat, run, runner, write_labels, write_scores


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labels(tmp_path_factory.mktemp("labels"))


def test_a_second_subset_is_named() -> None:
    error = runner.invoke(app, ["leaderboard", "breastmnist", "retinamnist"]).exception
    assert isinstance(error, ScoreError) and str(error).startswith("retinamnist is a subset, not a file: ")


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_the_published_rows(entry: Subset) -> None:
    text = flat(run("leaderboard", entry.flag))
    for row in published_results(entry.flag):
        assert row.method in text
    for note in published_notes(entry.flag):
        assert f"note: {' '.join(note.split())}" in text
    output = facts("leaderboard", entry.python_class)
    assert (output["subset"], output["split"], output["protocol"]["name"]) == (entry.flag, "test", "official")
    assert output["files"] == []
    assert [row["auc"] for row in output["rows"]] == sorted((row["auc"] for row in output["rows"]), reverse=True)


def test_files_on_official_labels(real_data: Path, tmp_path: Path) -> None:
    """The MD5 of the official file is verified, so results are ranked; text and JSON give the same ranks."""
    rng, labels = np.random.default_rng(0), np.load(real_data / "breastmnist.npz")["test_labels"]
    paths = []
    for name, spread in (("good.1", 0.45), ("poor.2", 3.0)):
        scores = 1 / (1 + np.exp(-(labels[:, 0] - 0.5 + rng.normal(0, spread, 156))))
        paths.append(write_predictions(tmp_path, "breastmnist", 28, "test", scores, labels, run=name))
    arguments: tuple[str | Path, ...] = ("leaderboard", "breastmnist", *paths, "--data", real_data)
    arguments = (*arguments, "--resamples", "50")
    result = run(*arguments)
    text = flat(result)
    assert "good.1 (yours)" in text and "poor.2 (yours)" in text and paths[0].name not in text
    assert not result.stderr and not any(kind.banner in text for kind in Provenance if kind.banner)
    output = facts(*arguments)
    assert sum(row["own"] for row in output["rows"]) == 2 and len(output["rows"]) == 9
    assert output["not_comparable"] == {}
    for file, path in zip(output["files"], paths, strict=True):
        expected = evaluate_file(path, real_data, ci=True, resamples=50)
        (row,) = (row for row in output["rows"] if row["name"] == expected.result.run)
        places = f"place {row['auc_rank']} by AUC and {row['acc_rank']} by ACC of 8"
        assert f"{row['name']}: AUC" in text and places in text and file["provenance"] == "verified"
        comparison = file["comparisons"][0]
        assert comparison["published"]["method"] == "ResNet-18 (28)"
        assert math.isclose(comparison["auc_difference"], round(expected.score.auc, 3) - 0.901, abs_tol=1e-9)
        assert comparison["auc_covered"] == (
            expected.intervals["auc"].high >= 0.9005 and expected.intervals["auc"].low <= 0.9015
        )


def test_a_file_on_unverified_labels_is_listed_apart_without_a_rank(data: Path, tmp_path: Path) -> None:
    """NPZ files with official names but other MD5s are unverified."""
    paths = write_scores(tmp_path, "breastmnist", 1), write_scores(tmp_path, "breastmnist", 2, size=64)
    arguments = ("leaderboard", "breastmnist", *paths, "--data", data, "--resamples", "50")
    result = run(*arguments)
    text = flat(result)
    assert result.stdout.strip().startswith("UNVERIFIED: ") and "UNVERIFIED: run.1 (yours)" in text
    assert not any(row.method in text for row in published_results("breastmnist")) and "of size 64" not in text
    assert text.count("unverified data is not ranked") == 2 and "place" not in text
    span = evaluate_file(paths[0], data, ci=True, resamples=50).intervals["acc"]
    assert f"ACC {span.estimate:.3f} [{span.low:.3f}, {span.high:.3f}] (Wilson)" in text and "] (DeLong), ACC" in text
    output = facts(*arguments)
    assert [row["own"] for row in output["rows"]] == [False] * 7 and "note:" not in text
    (other,) = output["not_comparable"].items()
    assert other[0] == "unverified" and {row["name"] for row in other[1]} == {"run.1", "run.2"}
    assert all(set(row) == {"name", "auc", "acc", "auc_error", "acc_error"} for row in other[1]), "no rank"
    assert [(file["provenance"], file["comparisons"]) for file in output["files"]] == [("unverified", [])] * 2


def test_without_published_results_a_file_is_listed_alone(unpublished: str, data: Path, tmp_path: Path) -> None:
    path = write_scores(tmp_path, unpublished, 1, size=64)
    text = flat(run("leaderboard", unpublished, path, "--data", data, "--resamples", "50"))
    assert "run.1 (yours)" in text and "unverified data is not ranked" in text and "note:" not in text


def test_without_published_results_an_official_file_is_listed_alone(
    unpublished: str, real_data: Path, tmp_path: Path
) -> None:
    labels = np.load(real_data / f"{unpublished}.npz")["test_labels"]
    path = write_predictions(tmp_path, unpublished, 28, "test", labels[:, 0] * 0.5, labels, run="one")
    text = flat(run("leaderboard", unpublished, path, "--data", real_data, "--resamples", "20"))
    assert "one (yours)" in text and "no published results to compare with" in text and "note:" not in text


def test_results_of_another_protocol_and_those_selected_on_test() -> None:
    text = run("leaderboard", "breastmnist", "--protocol", "224-pretrained").stdout
    ranked, fenced = text.split("\nSelected on the test split, so not ranked:\n")
    assert "swin_tiny_patch4_window7_224, last 60 % of the blocks" in ranked and "MedViTV2-L" not in ranked
    assert "MedViTV2-L" in fenced and "ResNet-18 (28)" not in text and "(224)" not in text
    output = facts("leaderboard", "breastmnist", "--protocol", "224-pretrained", "--size", "224")
    assert [row["name"] for row in output["selected_on_test"]] == ["MedViTV2-L"]
    assert output["rows"][0]["published"]["source"] == "mayo_2026" and output["rows"][0]["published"]["seeds"] == 10
    for arguments in (["breastmnist", "--protocol", "224-pretrained", "--size", "28"], ["breastmnist-224"]):
        refused = runner.invoke(app, ["leaderboard", *arguments])
        assert isinstance(refused.exception, ScoreError) and "is not for size" in str(refused.exception)
    assert "give --protocol 224-scratch or 224-pretrained or 224-frozen" in str(refused.exception)


def test_clean_leaves_out_results_whose_selection_is_unknown() -> None:
    options = ("leaderboard", "organmnist3d")
    every, clean = facts(*options), facts(*options, "--clean")
    assert [row["name"] for row in every["rows"] if row["published"]["selected_on"] == "unknown"] == ["ResNet-18"]
    assert {row["published"]["selected_on"] for row in clean["rows"]} == {"validation"}
    assert clean["left_out"] == 1 and "1 result is left out" in flat(run(*options, "--clean"))


def test_a_file_of_another_size_and_a_run_of_another_protocol_have_no_place(real_data: Path, tmp_path: Path) -> None:
    run_dir, labels = tmp_path / "run", np.load(real_data / "breastmnist.npz")["test_labels"]
    leave_run(run_dir, test=[0.9], validation=[0.8], dataset="breastmnist", method="linear-probe", shots=5)
    folder = run_dir / "seed-0"
    file = write_predictions(folder, "breastmnist", 28, "test", labels[:, 0] * 0.5 + 0.1, labels, run="few")
    options = ("leaderboard", "breastmnist", run_dir, "--data", real_data)
    for protocol, reason in (
        ("official", "has no place: the run does not belong to protocol official: give --protocol few-shot"),
        ("few-shot", ""),
        (
            "224-pretrained",
            "has no place: it has images of size 28, protocol 224-pretrained 224: give --protocol few-shot",
        ),
    ):
        output = facts(*options, "--protocol", protocol)
        (line,) = (row for row in output["rows"] if row["own"])
        assert line["auc_rank"] is line["acc_rank"] is None and line["auc"] == 1
        assert [note for note in output["notes"] if "no place" in note] == ([f"few {reason}"] if reason else [])
        assert f"few {reason}" in flat(run(*options, "--protocol", protocol))
    notes = facts(*options, "--protocol", "few-shot", "--size", "64")["notes"]
    assert notes == ["few has no place: it has images of size 28, and results of size 64 are listed"]
    (line,) = (row for row in facts("leaderboard", "breastmnist", file, "--data", real_data)["rows"] if row["own"])
    assert line["auc_rank"] == 1, "nothing is known of how a file was made"


def test_an_unknown_size_is_one_line() -> None:
    result = runner.invoke(app, ["leaderboard", "breastmnist", "--size", "17"])
    assert isinstance(result.exception, CatalogError) and "has no size 17" in str(result.exception)


def test_an_unknown_protocol_is_one_line() -> None:
    result = runner.invoke(app, ["leaderboard", "breastmnist", "--protocol", "best"])
    assert isinstance(result.exception, ScoreError)
    assert str(result.exception).startswith("unknown protocol 'best': choose from official, 28-pretrained, ")
