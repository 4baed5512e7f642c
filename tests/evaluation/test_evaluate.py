"""Score prediction files: the real file, every task, warnings and errors."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from medmnist_hf.array_types import FloatArray
from medmnist_hf.catalog import Subset, Task, subset, subsets
from medmnist_hf.conversion.sources.phantom import phantom_counts, phantom_labels
from medmnist_hf.errors import CatalogError, MedMNISTError, ScoreError, SourceError
from medmnist_hf.evaluation.evaluate import compare_files, evaluate_file
from medmnist_hf.evaluation.prediction_files import write_predictions
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.intervals import compare, intervals
from medmnist_hf.scoring.metrics import CLASSWISE, metrics
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import check
from tests.fixtures.predictions import pair

ROWS = 60
TASKS = ["breastmnist", "pathmnist", "retinamnist", "chestmnist", "nodulemnist3d"]


def labels_of(entry: Subset, split: str = "test") -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return phantom_labels(entry, phantom_counts(entry, ROWS), split)


def scores_of(entry: Subset, seed: int = 0, split: str = "test") -> FloatArray:
    rng, truth = np.random.default_rng(seed), labels_of(entry, split)
    if entry.task is Task.MULTI_LABEL:
        return np.asarray(np.clip(0.5 * truth + rng.random(truth.shape) * 0.7, 0, 1))
    powers = np.exp(rng.normal(size=(len(truth), len(entry.labels))) + (truth == np.arange(len(entry.labels))))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NPZ files with the labels of phantoms."""
    root = tmp_path_factory.mktemp("labels")
    for entry in subsets():
        for file in entry.files:
            test, train = labels_of(entry), labels_of(entry, "train")
            np.savez(root / file.name, test_labels=test, train_labels=train)
    return root


def result(folder: Path, flag: str, size: int = 28, split: str = "test", seed: int = 0) -> Path:
    entry = subset(flag)
    return write_predictions(
        folder, flag, size, split, scores_of(entry, seed, split), labels_of(entry, split), run="x"
    )


def one_line(error: BaseException) -> str:
    assert isinstance(error, MedMNISTError) and "\n" not in str(error)
    return str(error)


def test_the_real_file(real_data: Path) -> None:
    (path,) = (real_data.parent / "predictions").glob("*.csv")
    for source in (real_data, real_data / "breastmnist.npz"):
        found = evaluate_file(path, source)
        assert (f"{found.score.auc:.3f}", f"{found.score.acc:.3f}") == ("0.913", "0.846")
        assert (found.score.rows, found.warnings, found.metrics, found.intervals) == (156, (), {}, {})


@pytest.mark.parametrize("flag", TASKS)
def test_evaluation_equals_the_scoring_functions(data: Path, tmp_path: Path, flag: str) -> None:
    entry = subset(flag)
    path, truth, scores = result(tmp_path, flag), labels_of(entry), scores_of(entry)
    found = evaluate_file(path, data, ["ece"], per_class=True, ci=True, resamples=50, seed=3)
    assert found.score == score(check(truth, scores, entry.task))
    assert found.metrics == metrics(check(truth, scores, entry.task), ["ece", *(f"{name}:*" for name in CLASSWISE)])
    names = ["auc", "acc", "ece", "auc:*"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        expected = intervals(check(truth, scores, entry.task), names, resamples=50, seed=3)
    assert repr(found.intervals) == repr(expected), "repr, because nan is not equal to itself"
    assert found.warnings == tuple(f"{path.name}: {warning.message}" for warning in caught)
    assert found.entry == entry
    if entry.task is not Task.BINARY:
        positives = [found.positives(label) for label in range(len(entry.labels))]
        hot = truth if entry.task is Task.MULTI_LABEL else truth == np.arange(len(entry.labels))
        assert positives == hot.sum(axis=0).tolist()


def test_a_name_with_wrong_scores_gives_a_warning(data: Path, tmp_path: Path) -> None:
    path = result(tmp_path, "breastmnist")
    original = evaluate_file(path, data)
    assert original.warnings == () and original.result.auc is not None
    renamed = path.rename(tmp_path / "breastmnist_test_[AUC]0.999_[ACC]0.998@x.csv")
    found = evaluate_file(renamed, data)
    assert found.score == original.score
    assert len(found.warnings) == 2
    for name, value, warning in zip(("AUC 0.999", "ACC 0.998"), ("auc", "acc"), found.warnings, strict=True):
        assert f"the name says {name}, but its scores give {getattr(original.score, value):.3f}" in warning
    for digit in (1, -1):
        close = renamed.with_name(f"breastmnist_test_[AUC]{original.score.auc + 0.0004 * digit:.5f}@x.csv")
        renamed.rename(close)
        assert evaluate_file(close, data).warnings == (), "within the rounding of three decimals"
        renamed = close
    assert evaluate_file(renamed.rename(tmp_path / "breastmnist_test.csv"), data).warnings == ()


def test_an_absent_class_gives_a_warning(tmp_path: Path) -> None:
    truth = np.array([[0], [1], [2], [1]], np.uint8)
    np.savez(tmp_path / "retinamnist.npz", test_labels=truth)
    path = write_predictions(tmp_path, "retinamnist", 28, "test", np.eye(5)[truth[:, 0]], truth, run="x")
    found = evaluate_file(path, tmp_path, ci=True, resamples=20)
    assert found.score.absent == (3, 4) and found.score.auc == 1.0
    assert any("no AUC for class 3, 4" in warning for warning in found.warnings)


def test_a_split_without_any_auc(tmp_path: Path) -> None:
    np.savez(tmp_path / "breastmnist.npz", test_labels=np.ones((3, 1), np.uint8))
    path = tmp_path / "breastmnist_test_[AUC]nan_[ACC]1.000@x.csv"
    path.write_text("0,0.9\n1,0.8\n2,0.7\n")
    found = evaluate_file(path, tmp_path)
    assert np.isnan(found.score.auc) and found.score.acc == 1.0
    assert any("AUC is nan" in warning for warning in found.warnings)


def test_synthetic_labels_set_the_provenance(data: Path, tmp_path: Path) -> None:
    from medmnist_hf.conversion.build import build_config
    from medmnist_hf.conversion.sources.source import Phantom

    entry = subset("breastmnist")
    (tmp_path / "npz").mkdir()
    build_config(entry, 28, Phantom(tmp_path / "npz", rows=ROWS).fetch(entry, 28), tmp_path / "dist")
    path = result(tmp_path, "breastmnist")
    found = evaluate_file(path, tmp_path / "dist")
    assert found.score == evaluate_file(path, data).score
    assert found.provenance is Provenance.SYNTHETIC
    assert compare_files(path, path, tmp_path / "dist", resamples=10).provenance is Provenance.SYNTHETIC
    assert evaluate_file(path, data).provenance is Provenance.UNVERIFIED, "an NPZ file of an official name"


@pytest.mark.parametrize("flag", TASKS)
def test_comparison_equals_the_scoring_functions(data: Path, tmp_path: Path, flag: str) -> None:
    entry = subset(flag)
    size = entry.sizes[1]
    first, second = result(tmp_path, flag, seed=1), result(tmp_path, flag, size, seed=2)
    found = compare_files(first, second, data, ["auc", "acc", "f1"], resamples=50, seed=5)
    both = pair(labels_of(entry), scores_of(entry, 1), scores_of(entry, 2), entry.task)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        expected = compare(*both, ["auc", "acc", "f1"], resamples=50, seed=5)
    assert repr(found.metrics) == repr(expected) and found.warnings == tuple(
        str(warning.message) for warning in caught
    )
    assert [each.difference.method for each in found.metrics.values()] == ["DeLong", "Student", "bootstrap"]
    assert (found.flag, found.split, found.rows) == (flag, "test", both[0].rows)


def test_files_that_cannot_be_compared(data: Path, tmp_path: Path) -> None:
    first = result(tmp_path, "breastmnist")
    for other in (result(tmp_path, "pneumoniamnist"), result(tmp_path, "breastmnist", split="train")):
        with pytest.raises(ScoreError, match="compare files of one subset and split") as caught:
            compare_files(first, other, data)
        one_line(caught.value)
    np.savez(tmp_path / "breastmnist.npz", test_labels=labels_of(subset("breastmnist")))
    np.savez(tmp_path / "breastmnist_64.npz", test_labels=labels_of(subset("breastmnist"))[::-1])
    with pytest.raises(ScoreError, match="differ between sizes 28 and 64"):
        compare_files(first, result(tmp_path, "breastmnist", 64), tmp_path)
    with pytest.raises(ScoreError, match="unknown measure 'kappa'"):
        compare_files(first, first, data, ["kappa"])
    logits = result(tmp_path, "breastmnist", split="train")
    logits.write_text(logits.read_text().replace("0,0.", "0,-5.", 1))
    with pytest.raises(ScoreError, match=r"^second predictions: scores run from -5"):
        compare_files(result(tmp_path / "other", "breastmnist", split="train"), logits, data)
    with pytest.raises(SourceError, match="no such file"):
        compare_files(first, tmp_path / "breastmnist_test@none.csv", data)


def test_files_that_do_not_match_the_labels(data: Path, tmp_path: Path) -> None:
    def refused(name: str, text: str, kind: type[MedMNISTError], message: str, **options: bool) -> None:
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(kind) as caught:
            evaluate_file(path, data, **options)  # type: ignore[arg-type]  # only flags are passed
        assert message in one_line(caught.value) and name in one_line(caught.value)

    rows = len(labels_of(subset("breastmnist")))
    full = "".join(f"{row},0.5\n" for row in range(rows))
    refused("breastmnist_test@a.csv", "0,0.5\n", ScoreError, f"1 row, but the test split of breastmnist in {data}")
    refused(
        "breastmnist_test@b.csv", full + f"{rows},0.5\n", ScoreError, f"has {rows}; are both from the same release"
    )
    refused("breastmnist_test@c.csv", full.replace("0,0.5", "0,-3", 1), ScoreError, "outside 0..1")
    refused("pathmnist_test@d.csv", full, ScoreError, "1 scores but pathmnist needs 9")
    refused("breastmnist_test@e.csv", "", ScoreError, "contains no scores")
    refused("brestmnist_test@f.csv", full, CatalogError, "did you mean 'breastmnist'?")
    assert evaluate_file(tmp_path / "breastmnist_test@c.csv", data, from_logits=False).score.rows == rows
    with pytest.raises(ScoreError, match="unknown measure 'nothing'"):
        evaluate_file(result(tmp_path, "breastmnist"), data, ["nothing"])
    with pytest.raises(SourceError, match="no build of breastmnist at size 28"):
        evaluate_file(result(tmp_path, "breastmnist"), tmp_path)
