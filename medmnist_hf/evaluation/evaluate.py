"""Score prediction files against the labels of their split, and compare two of them.

Example:
    >>> from medmnist_hf.evaluation.evaluate import evaluate_file
    >>> evaluate_file("breastmnist_test_[AUC]0.913_[ACC]0.846@1.csv", root="dist").score.auc  # doctest: +SKIP
    0.9129072681704261
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medmnist_hf.catalog import Subset, subset
from medmnist_hf.errors import ScoreError, counted
from medmnist_hf.evaluation.labels import Labels, read_labels
from medmnist_hf.evaluation.prediction_files import ROUNDING, PredictionFile, PredictionName, read_predictions
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.confidence import Comparison, Interval
from medmnist_hf.scoring.intervals import compare, intervals
from medmnist_hf.scoring.metrics import CLASSWISE, Weighted, evaluate, expand
from medmnist_hf.scoring.official import Score, ScoreWarning, score
from medmnist_hf.scoring.predictions import Predictions, check


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A prediction file scored against the labels.

    Attributes:
        path: The file.
        result: Its content.
        predictions: Its scores and the labels, checked.
        score: The official AUC and ACC, computed from the scores.
        metrics: Further requested metrics by name; ``f1:3`` is the F1 of class 3.
        intervals: Confidence intervals by name of metric; empty unless requested.
        provenance: Provenance of the labels. A prediction file does not record which images were scored; they are
            assumed to be the images of these labels.
        warnings: Warnings for the user, one line each.
    """

    path: Path
    result: PredictionFile
    predictions: Predictions
    score: Score
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    provenance: Provenance
    warnings: tuple[str, ...]

    @property
    def entry(self) -> Subset:
        """Subset of the file."""
        return subset(self.result.flag)

    def positives(self, label: int) -> int:
        """Number of rows whose true labels include a class or finding, given by its id."""
        truth = self.predictions.truth
        return int(np.count_nonzero(truth[label] if truth.ndim == 2 else truth == label))


@dataclass(frozen=True, slots=True, eq=False)
class FileComparison:
    """Paired comparison of two prediction files of the same split: the first minus the second.

    Attributes:
        flag: Flag of the subset.
        split: The split.
        rows: Number of rows of the split.
        metrics: Name of a metric -> its paired comparison.
        provenance: Provenance of the labels: verified if the labels of both files' sizes are.
        warnings: Warnings for the user, one line each.
    """

    flag: str
    split: str
    rows: int
    metrics: dict[str, Comparison]
    provenance: Provenance
    warnings: tuple[str, ...]


def evaluate_file(
    path: str | Path,
    data: str | Path | None = None,
    names: Iterable[str] = (),
    *,
    root: str | Path | None = None,
    unnamed: PredictionName | None = None,
    per_class: bool = False,
    ci: bool = False,
    resamples: int = 1000,
    seed: int = 0,
    from_logits: bool | None = None,
) -> Evaluation:
    """Score a prediction file with the official AUC and ACC; scores in the file name are checked, never trusted.

    Args:
        path: The file, with an official or any other name.
        data: Name of the data set with the labels; by default the subset in the file's name, see
            `medmnist_hf.evaluation.labels.read_labels`.
        root: Folder of builds or of NPZ files in which the data set is looked up.
        unnamed: Subset, size and split of the file if its name does not give them; see
            `medmnist_hf.evaluation.prediction_files.predictions_of`.
        names: Metrics in addition to AUC and ACC, as for `medmnist_hf.scoring.metrics.metrics`.
        per_class: Add the metrics of `medmnist_hf.scoring.metrics.CLASSWISE` for each class.
        ci: Add 95 % intervals of AUC, ACC and `names`, and of the AUC of each class if `per_class`.
        resamples: Number of resamples of bootstrap intervals.
        seed: Random seed of the resamples.
        from_logits: How to treat scores outside 0..1; see `medmnist_hf.scoring.predictions.check`.

    Raises:
        MedMNISTError: The file or the labels cannot be read, or do not match; see
            `medmnist_hf.evaluation.prediction_files.read_predictions` and `medmnist_hf.evaluation.labels.read_labels`.
        ScoreError: The scores cannot be scored, or a metric is unknown or does not suit them.
    """
    path = Path(path)
    result = read_predictions(path, unnamed)
    labels = read_labels(result.flag, result.size, result.split, data, root=root)
    _same_length(path, result, labels)
    with _named(str(path)), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ScoreWarning)
        predictions = _check(labels, result, from_logits)
        official = score(predictions)
        extra = expand(predictions, names) if (names := list(names)) else []
        classes = expand(predictions, [f"{name}:*" for name in CLASSWISE]) if per_class else []
        metric_names = list(dict.fromkeys([*extra, *classes]))
        values = evaluate(Weighted(predictions), metric_names)[0] if metric_names else []
        interval_names = ["auc", "acc", *extra, *(name for name in classes if name.startswith("auc:"))]
        by_name = intervals(predictions, interval_names, resamples=resamples, seed=seed) if ci else {}
    messages = [f"{path.name}: {warning.message}" for warning in caught if warning.category is ScoreWarning]
    notes = (*_doubts(path, result, official), *dict.fromkeys(messages))
    metrics = {name: float(value) for name, value in zip(metric_names, values, strict=True)}
    return Evaluation(path, result, predictions, official, metrics, by_name, labels.provenance, notes)


def compare_files(
    first: str | Path,
    second: str | Path,
    data: str | Path | None = None,
    names: Iterable[str] = ("auc", "acc"),
    *,
    root: str | Path | None = None,
    unnamed: PredictionName | None = None,
    resamples: int = 1000,
    seed: int = 0,
    from_logits: bool | None = None,
) -> FileComparison:
    """Compare two prediction files of the same subset and split, row by row; their image sizes may differ.

    Args:
        first: The first file.
        second: The second file, whose values are subtracted.
        data: Name of the data set with the labels of both sizes; by default the subset in the files' names, see
            `medmnist_hf.evaluation.labels.read_labels`.
        root: Folder of builds or of NPZ files in which the data set is looked up.
        unnamed: As for `evaluate_file`, for each of the two files.
        names: Names of metrics, as for `medmnist_hf.scoring.metrics.metrics`.
        resamples: Number of bootstrap resamples.
        seed: Random seed of the resamples.
        from_logits: How to treat scores outside 0..1 in both files; see `medmnist_hf.scoring.predictions.check`.

    Raises:
        MedMNISTError: As for `evaluate_file`.
        ScoreError: The files differ in subset or split, or the labels of their sizes differ.
    """
    paths = Path(first), Path(second)
    one, two = (read_predictions(path, unnamed) for path in paths)
    if (one.flag, one.split) != (two.flag, two.split):
        raise ScoreError(
            f"{paths[1]}: is a file of {two.flag} {two.split}, but {paths[0].name} of {one.flag} {one.split}; "
            "compare files of one subset and split"
        )
    sizes = {size: read_labels(one.flag, size, one.split, data, root=root) for size in sorted({one.size, two.size})}
    labels = sizes[one.size]
    if not np.array_equal(labels.values, sizes[two.size].values):
        raise ScoreError(
            f"{paths[1]}: the labels of {one.flag} {one.split} differ between sizes {one.size} and {two.size}; "
            "compare files of one size"
        )
    for path, result in zip(paths, (one, two), strict=True):
        _same_length(path, result, labels)
    with _named("first predictions"):
        first_checked = _check(labels, one, from_logits)
    with _named("second predictions"):
        second_checked = _check(labels, two, from_logits)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ScoreWarning)
        metrics = compare(first_checked, second_checked, list(names), resamples=resamples, seed=seed)
    notes = [str(warning.message) for warning in caught if warning.category is ScoreWarning]
    kinds = [each.provenance for each in sizes.values()]
    provenance = next((kind for kind in kinds if not kind.comparable), Provenance.VERIFIED)
    return FileComparison(one.flag, one.split, len(labels.values), metrics, provenance, tuple(notes))


def _check(labels: Labels, result: PredictionFile, from_logits: bool | None) -> Predictions:
    entry = subset(result.flag)
    return check(labels.values, result.scores, entry.task, from_logits=from_logits, num_classes=len(entry.labels))


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Prefix errors with the name of the file or predictions they are about."""
    try:
        yield
    except ScoreError as error:
        raise ScoreError(f"{what}: {error}") from None


def _same_length(path: Path, result: PredictionFile, labels: Labels) -> None:
    if len(result.scores) != len(labels.values):
        raise ScoreError(
            f"{path}: {counted(len(result.scores), 'row')}, but the {result.split} split of {result.flag} in "
            f"{labels.origin} has {len(labels.values)}; are both from the same release of the data?"
        )


def _doubts(path: Path, result: PredictionFile, score: Score) -> list[str]:
    doubts = []
    for name, claimed, value in (("AUC", result.auc, score.auc), ("ACC", result.acc, score.acc)):
        if claimed is not None and not abs(claimed - value) <= ROUNDING and claimed == claimed:  # noqa: PLR0124
            doubts.append(f"{path.name}: the name says {name} {claimed:.3f}, but its scores give {value:.3f}")
    if score.absent:
        listed = ", ".join(map(str, score.absent))
        doubts.append(
            f"{path.name}: no AUC for class {listed} (no positive or no negative rows): left out of the mean"
        )
    return doubts
