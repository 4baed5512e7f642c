"""The metrics of a benchmark, each defined once for whole-number row weights.

Weights of one give the metric itself; the row counts of a resample give its bootstrap replicate
(`medmnist_hf.scoring.bootstrap`). For metrics with a value per class, ``"f1"`` is the mean over classes, ``"f1:3"``
the value of class 3 and ``"f1:*"`` the values of all classes. In the binary task ``"f1"`` is the value of class 1, as
in the official evaluator, and ``"f1:0"`` that of class 0.

Example:
    >>> from medmnist_hf.scoring.metrics import metrics
    >>> from medmnist_hf.scoring.predictions import check
    >>> metrics(check([0, 1, 1, 0], [0.2, 0.9, 0.4, 0.3], "binary-class"), ["sensitivity", "brier"])
    {'sensitivity': 0.5, 'brier': 0.125}
"""

import math
import warnings
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Final

import numpy as np

from medmnist_hf.array_types import FloatArray, IntArray, Weights
from medmnist_hf.catalog import Task
from medmnist_hf.errors import ScoreError, shorten
from medmnist_hf.scoring.auc import mean_defined, ratio
from medmnist_hf.scoring.official import ScoreWarning
from medmnist_hf.scoring.predictions import ECE_BINS, Predictions


class Weighted:
    """Predictions under B sets of row weights, shape ``(B, N)``, and the counts that several metrics need.

    Without weights every row counts once, and B is 1.
    """

    def __init__(self, predictions: Predictions, weights: Weights | None = None) -> None:
        self.predictions = predictions
        self.weights = np.ones((1, predictions.rows), np.uint8) if weights is None else weights
        self.task = predictions.task

    @cached_property
    def total(self) -> FloatArray:
        """Sum of the weights, shape ``(B,)``."""
        return np.asarray(self.weights.sum(axis=1), np.float64)

    @cached_property
    def confusion(self) -> FloatArray:
        """Single-label tasks: total weight by true and predicted class, shape ``(B, K, K)``."""
        classes = self.predictions.class_count
        flat = np.stack([np.bincount(self.predictions.cells, row, classes**2) for row in self.weights])
        return np.asarray(flat.reshape(-1, classes, classes), np.float64)

    @cached_property
    def counts(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Weight of true positives, of positives and of predicted positives by class or finding, each ``(B, C)``.

        C is the number of `Predictions.class_ids`.
        """
        if self.task is Task.MULTI_LABEL:
            weights = self.weights.astype(np.float64)
            right, true, flagged = self.predictions.outcomes
            return weights @ right, weights @ true, weights @ flagged
        right = np.diagonal(self.confusion, axis1=1, axis2=2)
        return right, self.confusion.sum(axis=2), self.confusion.sum(axis=1)


def auc(weighted: Weighted) -> FloatArray:
    """One-vs-rest AUC by class, ``(B, C)``: the Mann-Whitney statistic (Hanley and McNeil 1982)."""
    values = np.stack([ranking.auc(weighted.weights) for ranking in weighted.predictions.rankings], axis=1)
    # Both classes of the binary task have the same AUC.
    return values.repeat(2, axis=1) if weighted.task is Task.BINARY else values


def average_precision(weighted: Weighted) -> FloatArray:
    """Average precision by class against the rest, ``(B, C)``; formula in `medmnist_hf.scoring.auc`."""
    rankings = weighted.predictions.class_rankings
    return np.stack([ranking.average_precision(weighted.weights) for ranking in rankings], axis=1)


def sensitivity(weighted: Weighted) -> FloatArray:
    """TP / (TP + FN), the recall, by class, ``(B, C)`` (Yerushalmy, Public Health Reports 62:1432, 1947)."""
    right, true, _ = weighted.counts
    return ratio(right, true)


def specificity(weighted: Weighted) -> FloatArray:
    """TN / (TN + FP) by class, ``(B, C)`` (Yerushalmy 1947)."""
    right, true, flagged = weighted.counts
    total = weighted.total[:, None]
    return ratio(total - true - flagged + right, total - true)


def f1(weighted: Weighted) -> FloatArray:
    """2 TP / (2 TP + FP + FN) by class, ``(B, C)`` (van Rijsbergen, Information Retrieval, 1979, chapter 7)."""
    right, true, flagged = weighted.counts
    return ratio(2 * right, true + flagged)


def accuracy(weighted: Weighted) -> FloatArray:
    """The official ACC, ``(B,)``; see `medmnist_hf.scoring.official.score`."""
    if weighted.task is Task.MULTI_LABEL:
        agreed = weighted.weights.astype(np.float64) @ weighted.predictions.agreed
        return np.asarray(agreed / (weighted.total * weighted.predictions.labels))
    return np.asarray(np.trace(weighted.confusion, axis1=1, axis2=2) / weighted.total)


def balanced_accuracy(weighted: Weighted) -> FloatArray:
    """Mean recall over the classes, both of them if binary, ``(B,)`` (Brodersen et al., ICPR 2010).

    Multi-label: the mean over labels of (sensitivity + specificity) / 2.
    """
    if weighted.task is Task.MULTI_LABEL:
        return mean_defined((sensitivity(weighted) + specificity(weighted)) / 2)
    return mean_defined(sensitivity(weighted))


def macro_f1(weighted: Weighted) -> FloatArray:
    """Unweighted mean F1 over the classes, both of them if binary, ``(B,)`` (Opitz and Burst, arXiv 1911.03347)."""
    return mean_defined(f1(weighted))


def quadratic_kappa(weighted: Weighted) -> FloatArray:
    """Agreement beyond chance, disagreement weighted by squared distance, ``(B,)`` (Cohen, Psych. Bull. 70:213, 1968).

    ``1 - sum(d * observed) / sum(d * expected)``, d the squared difference of class ids, expected the product of
    the margins divided by N.
    """
    squares = _distances(weighted) ** 2
    expected = np.einsum("bi,bj->bij", weighted.confusion.sum(axis=2), weighted.confusion.sum(axis=1))
    chance = np.einsum("bij,ij->b", expected, squares) / weighted.total
    return 1 - ratio(np.einsum("bij,ij->b", weighted.confusion, squares), chance)


def mean_absolute_error(weighted: Weighted) -> FloatArray:
    """Mean absolute difference of true and predicted class id, 0 to K - 1, ``(B,)``.

    Baccianella, Esuli and Sebastiani, ISDA 2009.
    """
    return np.asarray(np.einsum("bij,ij->b", weighted.confusion, _distances(weighted)) / weighted.total)


def brier(weighted: Weighted) -> FloatArray:
    """Mean squared distance of the probabilities from the truth, ``(B,)`` (Brier, Mon. Weather Rev. 78:1, 1950).

    Summed over the classes for multi-class and ordinal tasks (0 to 2), of the positive class alone for the binary
    task and averaged over labels for the multi-label task (0 to 1).
    """
    return np.asarray(weighted.weights.astype(np.float64) @ weighted.predictions.squared / weighted.total)


def ece(weighted: Weighted) -> FloatArray:
    """Expected calibration error over `ECE_BINS` bins, ``(B,)`` (Naeini et al., AAAI 2015; Guo et al., ICML 2017).

    The distance between mean confidence and share of hits in each bin, averaged over rows. Multi-class and ordinal:
    of the predicted class. Binary: of the positive class. Multi-label: of each label, then averaged over labels.
    """
    bins, gaps = weighted.predictions.calibration
    error = np.zeros(len(weighted.weights))
    for places, gap in zip(bins, gaps, strict=True):
        for row, weights in enumerate(weighted.weights):
            error[row] += np.abs(np.bincount(places, weights * gap, ECE_BINS)).sum()
    return np.asarray(error / (weighted.total * len(bins)))


CLASSWISE: Final[dict[str, Callable[[Weighted], FloatArray]]] = {
    "auc": auc,
    "average_precision": average_precision,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "f1": f1,
}
"""Metrics with a value per class, by name."""

WHOLE: Final[dict[str, Callable[[Weighted], FloatArray]]] = {
    "acc": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "brier": brier,
    "ece": ece,
}
"""Metrics with a single value for all classes together, by name."""

ORDINAL: Final[dict[str, Callable[[Weighted], FloatArray]]] = {
    "quadratic_kappa": quadratic_kappa,
    "mae": mean_absolute_error,
}
"""Metrics of the ordinal task only, by name; they need ordered classes."""


ROW_MEANS: Final = ("acc", "mae", "brier", "ece")
"""Means over rows (ECE: over binned rows), which are defined even where a class has no rows."""


LOWER_IS_BETTER: Final = ("mae", "brier", "ece")
"""Names of the metrics that measure an error, of which lower values are better."""


def available(task: Task) -> tuple[str, ...]:
    """Names of the metrics of a task, those with a value per class first."""
    return (*CLASSWISE, *WHOLE, *(ORDINAL if task is Task.ORDINAL else ()))


def metrics(predictions: Predictions, names: Iterable[str]) -> dict[str, float]:
    """Compute metrics by name.

    A mean over classes leaves out classes for which the metric is undefined: AUC without positive or negative rows,
    sensitivity and average precision without positive rows, specificity without negative rows, F1 of a class that is
    neither true nor predicted in any row.

    Args:
        predictions: Scores and references from `medmnist_hf.scoring.predictions.check`.
        names: Names from `available`: ``"f1"`` for the mean over classes (the positive class if binary), ``"f1:3"``
            for one class, ``"f1:*"`` for every class.

    Returns:
        Name -> value, in the order of ``names``; ``"f1:*"`` becomes ``"f1:0"``, ``"f1:1"`` and so on. Undefined values
        are nan.

    Raises:
        ScoreError: A metric is unknown or does not suit the task or the scores.

    Warns:
        ScoreWarning: A value is nan.
    """
    names = expand(predictions, names)
    values = dict(zip(names, evaluate(Weighted(predictions), names)[0].tolist(), strict=True))
    undefined = [name for name, value in values.items() if math.isnan(value)]
    if undefined:
        warnings.warn(
            f"undefined on these {predictions.rows} rows: {', '.join(undefined)}", ScoreWarning, stacklevel=2
        )
    return values


def evaluate(weighted: Weighted, names: list[str]) -> FloatArray:
    """Values of metrics whose names come from `expand`, shape ``(B, len(names))``."""
    computed: dict[str, FloatArray] = {}
    values = []
    for name in names:
        base, _, label = name.partition(":")
        if base not in computed:
            computed[base] = (CLASSWISE | WHOLE | ORDINAL)[base](weighted)
        value = computed[base]
        if label:
            value = value[:, weighted.predictions.class_ids.index(int(label))]
        elif base in CLASSWISE:
            value = value[:, 1] if weighted.task is Task.BINARY else mean_defined(value)
        values.append(value)
    return np.stack(values, axis=1)


def expand(predictions: Predictions, names: Iterable[str]) -> list[str]:
    """Check names of metrics and expand ``"f1:*"`` to a name per class; duplicates are dropped.

    Raises:
        ScoreError: There are no names, or one is unknown or does not suit the task.
    """
    names = [names] if isinstance(names, str) else list(names)
    choice = ", ".join(available(predictions.task))
    if not names:
        raise ScoreError(f"no measures given: choose from {choice}")
    expanded = {name: [name] for name in available(predictions.task)}
    for base in CLASSWISE:
        classes = [f"{base}:{label}" for label in predictions.class_ids]
        expanded |= {name: [name] for name in classes} | {f"{base}:*": classes}
    for name in names:
        if name not in expanded:
            task = predictions.task.value
            raise ScoreError(f"unknown measure {shorten(name)} for the {task} task: choose from {choice}")
    return list(dict.fromkeys(each for name in names for each in expanded[name]))


def confusion_matrix(predictions: Predictions) -> IntArray:
    """Number of rows by true class (first axis) and predicted class (second axis), shape ``(K, K)``.

    Multi-label: a 2 x 2 table per label, absent before present, shape ``(L, 2, 2)``.
    """
    weighted = Weighted(predictions)
    if predictions.task is not Task.MULTI_LABEL:
        return np.asarray(weighted.confusion[0], np.intp)
    right, true, flagged = (count[0].astype(np.intp) for count in weighted.counts)
    table = [[predictions.rows - true - flagged + right, flagged - right], [true - right, right]]
    return np.moveaxis(np.array(table), -1, 0)


def _distances(weighted: Weighted) -> IntArray:
    ids = np.arange(weighted.predictions.class_count)
    return np.asarray(np.abs(ids[:, None] - ids))
