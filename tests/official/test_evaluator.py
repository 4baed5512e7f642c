"""`Evaluator` gives the scores and files of the official one, and is right where that one is not."""

import importlib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from medmnist import evaluator as official
from numpy.typing import NDArray

import medmnist_hf.official as medmnist
from medmnist_hf.catalog import Subset, Task, subsets
from medmnist_hf.errors import ScoreError
from medmnist_hf.official import evaluator as ours
from medmnist_hf.scoring.official import ScoreWarning
from tests.official.conftest import Root

Theirs = Callable[..., Any]
TOLERANCE = 1e-12
EVERY = [pytest.param(entry, id=entry.flag) for entry in subsets()]


def scores_of(entry: Subset, rows: int, kind: type[np.floating[Any]] = np.float64) -> NDArray[Any]:
    """Probabilities in the shape that a network gives."""
    rng = np.random.default_rng(1)
    if entry.task in {Task.BINARY, Task.MULTI_LABEL}:
        return rng.random((rows, 1 if entry.task is Task.BINARY else len(entry.labels))).astype(kind)
    scores = rng.random((rows, len(entry.labels)))
    return np.asarray(scores / scores.sum(axis=1, keepdims=True), kind)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("entry", EVERY)
def test_scores_and_files_are_the_official_ones(
    entry: Subset, kind: type[np.floating[Any]], root: Root, theirs: Theirs, tmp_path: Path
) -> None:
    folder, results = root(entry.flag), []
    for module, split in ((medmnist, "test"), (theirs(folder), "test")):
        evaluator = module.Evaluator(entry.flag, split, root=folder)
        assert (evaluator.labels.dtype, evaluator.size, evaluator.size_flag) == (np.uint8, 28, "")
        out = tmp_path / module.__name__
        out.mkdir()
        results.append(evaluator.evaluate(scores_of(entry, len(evaluator.labels), kind), str(out), "mine"))
        assert tuple(results[-1]) == (results[-1].AUC, results[-1].ACC) and results[-1]._fields == ("AUC", "ACC")
    assert results[0] == pytest.approx(results[1], abs=TOLERANCE)
    assert contents(tmp_path / medmnist.__name__) == contents(tmp_path / "medmnist")


def test_two_columns_and_vectors_of_the_binary_task(root: Root, theirs: Theirs, tmp_path: Path) -> None:
    folder = root("breastmnist")
    scores = np.random.default_rng(2).random((8, 2))
    for given in (scores, scores[:, 1], scores[:, 1:]):
        mine, other = (
            module.Evaluator("breastmnist", "test", root=folder).evaluate(given, str(tmp_path), name)
            for module, name in ((medmnist, "mine"), (theirs(folder), "theirs"))
        )
        assert mine == pytest.approx(other, abs=TOLERANCE)
        files = {path.name.rpartition("@")[2]: path.read_bytes() for path in tmp_path.glob("*.csv")}
        assert files["mine.csv"] == files["theirs.csv"]


def test_a_prediction_file_is_read_and_written_as_there(
    root: Root, theirs: Theirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = root("bloodmnist", size=64)
    module = theirs(folder)
    monkeypatch.setattr(module.Evaluator.__init__, "__defaults__", (None, folder))
    lines = [f"{row},{','.join(f'{value:.3f}' for value in np.eye(8)[row % 8] * 0.9)}\n" for row in reversed(range(8))]
    printed = []
    for name, evaluate in (
        ("mine", lambda path: medmnist.Evaluator.parse_and_evaluate(path, root=folder)),
        ("theirs", module.Evaluator.parse_and_evaluate),
    ):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "bloodmnist_64_test@3.csv"
        path.write_text("".join(lines))
        metrics = evaluate(str(path))
        printed.append((capsys.readouterr().out.replace("np.float64", "").translate({40: None, 41: None}), metrics))
    assert printed[0] == printed[1]
    files = contents(tmp_path / "mine")
    assert files == contents(tmp_path / "theirs")
    assert set(files) == {"bloodmnist_64_test@3.csv", "bloodmnist_64_test_[AUC]1.000_[ACC]1.000@3.csv"}


def test_what_follows_the_split_in_the_name_is_free(
    root: Root, theirs: Theirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, results = root("breastmnist"), []
    module = theirs(folder)
    monkeypatch.setattr(module.Evaluator.__init__, "__defaults__", (None, folder))
    for package, options in ((module, {}), (medmnist, {"root": folder})):
        out = tmp_path / package.__name__
        out.mkdir()
        for name, score in (("testABC@a.csv", "0.75"), ("test@b", "1"), ("test of mine@c.txt", "True")):
            path = out / f"breastmnist_{name}"
            path.write_text("".join(f"{row},{score}\n" for row in range(8)))
            results.append(package.Evaluator.parse_and_evaluate(str(path), **options))
    assert results[:3] == results[3:]
    mine, other = (sorted(path.name for path in folder.iterdir()) for folder in (out, tmp_path / "medmnist"))
    assert mine == other and len(mine) == 6


class More(NamedTuple):
    AUC: float
    ACC: float
    F1: float


class Own(medmnist.Evaluator):  # type: ignore[misc]
    def evaluate(self, y_score: Any, save_folder: Any = None, run: object = None) -> Any:
        metrics = super().evaluate(y_score)
        return self.get_standard_evaluation_filename(More(metrics.AUC, metrics.ACC, 0.25), run)


def test_the_file_name_takes_other_metrics(root: Root) -> None:
    name = Own("breastmnist", "test", root=root("breastmnist")).evaluate(np.full(8, 0.75), run="mine")
    assert re.fullmatch(r"breastmnist_test_\[AUC\]0.500_\[ACC\]0.\d{3}_\[F1\]0.250@mine.csv", name)


def test_a_row_of_scores_is_written_as_a_column(root: Root, tmp_path: Path) -> None:
    evaluator = medmnist.Evaluator("breastmnist", "test", root=root("breastmnist"))
    scores = np.random.default_rng(3).random(8)
    for name, given in (("row", scores[None]), ("column", scores[:, None])):
        evaluator.evaluate(given, tmp_path / name, "mine")
    assert contents(tmp_path / "row") == contents(tmp_path / "column")


@pytest.mark.parametrize("entry", EVERY)
def test_dummy_predictions(entry: Subset, root: Root, theirs: Theirs) -> None:
    """There is a column too few where classes exclude each other; the others are the official ones."""
    folder, dummies = root(entry.flag), []
    for module in (medmnist, theirs(folder)):
        np.random.seed(4)
        dummies.append(module.Evaluator(entry.flag, "test", root=folder).get_dummy_prediction())
    mine, other = dummies
    if entry.task in {Task.BINARY, Task.MULTI_LABEL}:
        np.testing.assert_array_equal(mine, other)
    else:
        assert mine.shape[1] == len(entry.labels) == other.shape[1] + 1
        np.testing.assert_allclose(mine.sum(axis=1), 1)


def test_functions_take_arrays_of_any_shape_and_a_threshold() -> None:
    rng = np.random.default_rng(5)
    binary, labels = rng.integers(0, 2, (50, 1)), rng.integers(0, 2, (50, 3))
    classes = rng.integers(0, 4, (50, 1))
    for truth, scores, task in (
        (binary, rng.random((50, 1)), "binary-class"),
        (binary[:, 0], rng.random(50), "binary-class"),
        (binary, rng.normal(size=(50, 2)), "binary-class"),
        (labels, rng.random((50, 3)), "multi-label, binary-class"),
        (classes, rng.random((50, 4)), "multi-class"),
        (classes[:, 0], rng.normal(size=(50, 4)), "ordinal-regression"),
        (classes, rng.random((50, 3)), "multi-class"),
    ):
        assert ours.getAUC(truth, scores, task) == pytest.approx(official.getAUC(truth, scores, task), abs=TOLERANCE)
        for threshold in (0.5, 0.2, 0.9):
            mine, other = (each.getACC(truth, scores, task, threshold=threshold) for each in (ours, official))
            assert mine == pytest.approx(other, abs=TOLERANCE)


# What differs


def test_a_single_row_is_scored(root: Root) -> None:
    """The official functions drop the axis of rows if it has length one."""
    for truth, scores, task, acc in (
        ([[1]], [[0.9]], "binary-class", 1.0),
        ([[2]], [[0.1, 0.2, 0.7]], "multi-class", 1.0),
        ([[1, 0]], [[0.9, 0.8]], "multi-label, binary-class", 0.5),
    ):
        arrays = np.array(truth), np.array(scores)
        assert ours.getACC(*arrays, task) == acc
        with pytest.warns(ScoreWarning, match="AUC is nan"):
            assert math.isnan(ours.getAUC(*arrays, task))
        with pytest.raises((AssertionError, IndexError, ValueError, TypeError)):
            official.getACC(*arrays, task)
            official.getAUC(*arrays, task)


def test_a_wrong_number_of_columns_or_rows_is_refused(root: Root, theirs: Theirs) -> None:
    folder = root("bloodmnist")
    evaluator = medmnist.Evaluator("bloodmnist", "test", root=folder)
    scores = scores_of(evaluator_entry := subsets()[7], 8)
    assert evaluator_entry.flag == "bloodmnist"
    with pytest.raises(ScoreError, match="scores have 7 columns: 8 classes need one column each"):
        evaluator.evaluate(scores[:, :7])
    with pytest.raises(ScoreError, match="8 references but 7 rows of scores"):
        evaluator.evaluate(scores[:7])
    with pytest.raises(ScoreError, match="scores hold nan"):
        evaluator.evaluate(scores * np.nan)
    assert theirs(folder).Evaluator("bloodmnist", "test", root=folder).evaluate(scores[:, :7]).AUC > 0


def test_logits_are_scored_as_there_and_reported(root: Root, theirs: Theirs, caplog: Any) -> None:
    folder = root("breastmnist")
    logits = np.random.default_rng(6).normal(size=(8, 1))
    mine, other = (
        module.Evaluator("breastmnist", "test", root=folder).evaluate(logits) for module in (medmnist, theirs(folder))
    )
    assert mine == pytest.approx(other, abs=TOLERANCE)
    assert "scores are not in 0..1: ACC takes those above 0.5 for positive, so pass probabilities" in caplog.messages


def test_the_name_of_a_run_keeps_its_dots(
    root: Root, theirs: Theirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official method cuts it at the first one."""
    folder = root("breastmnist")
    module = theirs(folder)
    monkeypatch.setattr(module.Evaluator.__init__, "__defaults__", (None, folder))
    with pytest.raises(OSError, match="non-existent directory"):
        module.Evaluator("breastmnist", "test").evaluate(np.full((8, 1), 0.25), str(tmp_path / "none"))
    written = module.Evaluator("breastmnist", "test").evaluate(np.full((8, 1), 0.25), str(tmp_path), "resnet18.a1")
    (path,) = tmp_path.glob("*.csv")
    assert module.Evaluator.parse_and_evaluate(str(path)) == written
    assert sorted(each.name.partition("@")[2] for each in tmp_path.glob("*.csv")) == [
        "resnet18.a1.csv",
        "resnet18.csv",
    ]

    evaluator = medmnist.Evaluator("breastmnist", "test", root=folder)
    evaluator.evaluate(np.full((8, 1), 0.25), tmp_path / "new" / "folder", "resnet18.a1_in1k")
    (path,) = (tmp_path / "new" / "folder").iterdir()
    medmnist.Evaluator.parse_and_evaluate(path, root=folder)
    assert list(path.parent.iterdir()) == [path] and path.name.endswith("@resnet18.a1_in1k.csv")
    medmnist.Evaluator.parse_and_evaluate(path, run=7, root=folder)
    assert any(each.name.endswith("@7.csv") for each in path.parent.iterdir())
    stamped = evaluator.get_standard_evaluation_filename((0.5, 0.25))
    assert stamped.startswith("breastmnist_test_[AUC]0.500_[ACC]0.250@1") and stamped.endswith(".csv")
    unnamed = path.rename(path.with_name("breastmnist_test.csv"))
    with pytest.raises(ScoreError, match="its name has no run after @: pass run="):
        medmnist.Evaluator.parse_and_evaluate(unnamed, root=folder)


def test_the_size_may_be_text(root: Root, theirs: Theirs) -> None:
    folder = root("breastmnist")
    with pytest.raises(FileNotFoundError, match="breastmnist_28"):
        theirs(folder).Evaluator("breastmnist", "val", size="28", root=folder)
    assert medmnist.Evaluator("BreastMNIST", "val", size="28", root=folder).size_flag == ""
    with pytest.raises(ValueError, match="breastmnist has no size 29"):
        medmnist.Evaluator("breastmnist", "val", size=29, root=folder)


def test_results_are_saved(tmp_path: Path) -> None:
    """The official function, which the first release had, fails."""
    labels, scores = np.array([[1], [0]], np.uint8), np.array([[0.25, 0.75], [1.0, 0.0]])
    ours.save_results(labels, scores, tmp_path / "mine.csv")
    expected = "\ufeffid,true_0,score_0,score_1\n0,1,0.25,0.75\n1,0,1.0,0.0\n"
    assert (tmp_path / "mine.csv").read_text(encoding="utf-8") == expected
    with pytest.raises(AttributeError):
        importlib.import_module("medmnist.evaluator").save_results(labels, scores, tmp_path / "theirs.csv")
