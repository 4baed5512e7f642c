"""Prediction files against the labels of their split: what they are worth, and which of two is better.

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
from medmnist_hf.errors import ScoreError
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
    """A prediction file and its scores against the labels.

    Attributes:
        path: The file.
        result: What it holds.
        predictions: Its scores and the labels, checked.
        score: The official AUC and ACC, computed from the scores.
        metrics: Further metrics by name, as asked for; ``f1:3`` is that of class 3.
        intervals: Intervals by name of metric; empty unless asked for.
        provenance: What the labels are. What the scores were made from no file says: they are taken as those of the
            images that the labels belong to.
        warnings: What a person should know, a line each.
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
        """The subset the file is of."""
        return subset(self.result.flag)

    def positives(self, label: int) -> int:
        """Number of rows that are truly of a class, or have a finding, by its id."""
        truth = self.predictions.truth
        return int(np.count_nonzero(truth[label] if truth.ndim == 2 else truth == label))


@dataclass(frozen=True, slots=True, eq=False)
class FileComparison:
    """The first of two prediction files minus the second, row by row of the same split.

    Attributes:
        flag: Flag of the subset of both.
        split: The split of both.
        rows: Rows of the split.
        metrics: Name of a metric -> the paired comparison, by the method that its difference names.
        provenance: What the labels are: verified if those of both files' sizes are.
        warnings: What a person should know, a line each.
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
    """Score a prediction file; what its name says of the scores is compared and never trusted.

    Args:
        path: The file, named in the official form, or of any other name.
        data: The data set whose labels count; by default that of the file's name, see
            `medmnist_hf.evaluation.labels.read_labels`.
        root: Folder of builds or of NPZ files, where it is looked up.
        unnamed: What the file is of if its name does not say it; see
            `medmnist_hf.evaluation.prediction_files.predictions_of`.
        names: Metrics in addition to AUC and ACC, as for `medmnist_hf.scoring.metrics.metrics`.
        per_class: Add the metrics of `medmnist_hf.scoring.metrics.CLASSWISE` for each class.
        ci: Add 95 % intervals of AUC, ACC and `names`, and of the AUC of each class if `per_class`.
        resamples: Number of resamples of those intervals that are a bootstrap.
        seed: Seed of the draws.
        from_logits: What to make of scores outside 0..1; see `medmnist_hf.scoring.predictions.check`.

    Raises:
        MedMNISTError: The file or the labels cannot be read, or do not fit each other; see
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
        wanted = list(dict.fromkeys([*extra, *classes]))
        values = evaluate(Weighted(predictions), wanted)[0] if wanted else []
        ranged = ["auc", "acc", *extra, *(name for name in classes if name.startswith("auc:"))]
        spans = intervals(predictions, ranged, resamples=resamples, seed=seed) if ci else {}
    said = [f"{path.name}: {warning.message}" for warning in caught if warning.category is ScoreWarning]
    notes = (*_doubts(path, result, labels, official), *dict.fromkeys(said))
    metrics = {name: float(value) for name, value in zip(wanted, values, strict=True)}
    return Evaluation(path, result, predictions, official, metrics, spans, labels.provenance, notes)


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
    """Paired comparison of two prediction files of the same split; they may be of different sizes of the same subset.

    Args:
        first: The first file.
        second: The second file, whose values are subtracted.
        data: The data set whose labels count, those of both sizes if they differ; by default that of the files'
            names, see `medmnist_hf.evaluation.labels.read_labels`.
        root: Folder of builds or of NPZ files, where it is looked up.
        unnamed: As for `evaluate_file`, of each.
        names: Metrics, as for `medmnist_hf.scoring.metrics.metrics`.
        resamples: Number of resamples.
        seed: Seed of the draws.
        from_logits: What to make of scores outside 0..1 in both; see `medmnist_hf.scoring.predictions.check`.

    Raises:
        MedMNISTError: As for `evaluate_file`.
        ScoreError: The files are not of one subset and split, or the labels of their sizes differ.
    """
    paths = Path(first), Path(second)
    one, two = (read_predictions(path, unnamed) for path in paths)
    if (one.flag, one.split) != (two.flag, two.split):
        raise ScoreError(
            f"{paths[1]}: of {two.flag} {two.split}, but {paths[0].name} is of {one.flag} {one.split}; "
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
    """Say of which file or predictions an error speaks."""
    try:
        yield
    except ScoreError as error:
        raise ScoreError(f"{what}: {error}") from None


def _same_length(path: Path, result: PredictionFile, labels: Labels) -> None:
    if len(result.scores) != len(labels.values):
        raise ScoreError(
            f"{path}: {len(result.scores)} rows, but the {result.split} split of {result.flag} in {labels.origin} has "
            f"{len(labels.values)}; is it the same release of the data?"
        )


def _doubts(path: Path, result: PredictionFile, labels: Labels, score: Score) -> list[str]:
    found = []
    for name, claimed, value in (("AUC", result.auc, score.auc), ("ACC", result.acc, score.acc)):
        if claimed is not None and not abs(claimed - value) <= ROUNDING and claimed == claimed:  # noqa: PLR0124
            found.append(f"{path.name}: the name says {name} {claimed:.3f}, but its scores give {value:.3f}")
    if score.absent:
        listed = ", ".join(map(str, score.absent))
        found.append(f"{path.name}: no AUC of class {listed} (no positive or no negative row): left out of the mean")
    return found
