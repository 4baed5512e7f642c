"""What a benchmark wants beside AUC and ACC, each measure defined once for whole-number row weights.

With all weights at one a measure is its plain self; with the counts of a resample it is its bootstrap replicate
(`medmnist_hf.scoring.bootstrap`). Measures that have a value for each class are named bare for the mean over classes
and with an id for one of them: ``"f1"``, ``"f1:3"``; ``"f1:*"`` asks for all.

Example:
    >>> from medmnist_hf.scoring.metrics import measures
    >>> measures([0, 1, 1, 0], [0.2, 0.9, 0.4, 0.3], "binary-class", ["sensitivity", "brier"])
    {'sensitivity': 0.5, 'brier': 0.125}
"""

import warnings
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from medmnist_hf.array_types import FloatArray, IntArray
from medmnist_hf.catalog import Task
from medmnist_hf.errors import ScoreError
from medmnist_hf.scoring.auc import Ranking, ratio
from medmnist_hf.scoring.official import ScoreWarning
from medmnist_hf.scoring.predictions import ROUNDING, Predictions, check

ECE_BINS: Final = 15
"""Equal-width bins of the expected calibration error over 0..1, each closed on the right, the first on both sides."""

Weights = npt.NDArray[np.uint8]


class Prepared:
    """What the measures of one set of predictions share whatever the weights: rankings, decisions, calibration."""

    def __init__(self, predictions: Predictions) -> None:
        self.predictions = predictions

    @cached_property
    def rankings(self) -> list[Ranking]:
        """The L columns, each sorted once."""
        given = self.predictions
        return [Ranking.of(column, given.positive(label)) for label, column in enumerate(given.columns)]

    @cached_property
    def cells(self) -> IntArray:
        """The cell of the flattened K x K confusion matrix that each row falls in, shape ``(N,)``."""
        given = self.predictions
        cells: IntArray = np.asarray(given.ids) * class_count(given) + given.chosen()
        return cells

    @cached_property
    def outcomes(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Multi-label task: right findings, findings and findings decided on as 0 or 1, each ``(N, L)``."""
        true, flagged = np.asarray(self.predictions.hot).T, self.predictions.flagged().T
        return (true & flagged).astype(float), true.astype(float), flagged.astype(float)

    @cached_property
    def agreed(self) -> FloatArray:
        """Multi-label task: number of labels rightly decided on in each row, shape ``(N,)``."""
        return np.asarray((self.predictions.flagged() == self.predictions.hot).sum(axis=0), np.float64)

    @cached_property
    def squared(self) -> FloatArray:
        """Squared distance of the probabilities of each row from the truth, shape ``(N,)``."""
        given = self._probable("brier")
        truth = np.stack([given.positive(label) for label in range(given.labels)])
        distance = np.square(given.columns.astype(np.float64) - truth).sum(axis=0)
        return np.asarray(distance / (given.labels if given.task is Task.MULTI_LABEL else 1), np.float64)

    @cached_property
    def calibration(self) -> tuple[IntArray, FloatArray]:
        """The bin of each confidence and its hit (0 or 1) minus it, both ``(R, N)``: a row for each label or one."""
        given = self._probable("ece")
        if given.ids is not None and given.task is not Task.BINARY:
            confidence = given.columns.max(axis=0, keepdims=True).astype(np.float64)
            hit = (given.chosen() == given.ids)[None, :]
        else:
            confidence = given.columns.astype(np.float64)
            hit = np.stack([given.positive(label) for label in range(given.labels)])
        edges = np.linspace(0, 1, ECE_BINS + 1)[1:-1]
        return np.searchsorted(edges, confidence, side="left"), np.asarray(hit - confidence)

    def _probable(self, name: str) -> Predictions:
        given = self.predictions
        low, high = float(given.columns.min()), float(given.columns.max())
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise ScoreError(f"{name} needs probabilities but scores run from {low:.4g} to {high:.4g}: leave it out")
        if given.task in (Task.MULTI_CLASS, Task.ORDINAL):
            sums = given.columns.sum(axis=0, dtype=np.float64)
            row = int(np.argmax(np.abs(sums - 1)))
            # Prediction files round their scores, so the sum of a row is only nearly one.
            if abs(sums[row] - 1) > 1e-2:
                raise ScoreError(
                    f"{name} needs rows that sum to 1 but row {row} sums to {sums[row]:.4g}: leave it out"
                )
        return given


class Weighted:
    """Predictions under B sets of row weights, shape ``(B, N)``, and the counts that several measures need."""

    def __init__(self, prepared: Prepared, weights: Weights) -> None:
        self.prepared = prepared
        self.weights = weights
        self.task = prepared.predictions.task

    @cached_property
    def total(self) -> FloatArray:
        """Sum of the weights, shape ``(B,)``."""
        return np.asarray(self.weights.sum(axis=1), np.float64)

    @cached_property
    def confusion(self) -> FloatArray:
        """Single-label tasks: weight by true class and class decided on, shape ``(B, K, K)``."""
        classes = class_count(self.prepared.predictions)
        flat = np.stack([np.bincount(self.prepared.cells, row, classes**2) for row in self.weights])
        return np.asarray(flat.reshape(-1, classes, classes), np.float64)

    @cached_property
    def counts(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Weight of right findings, of findings and of findings decided on, each ``(B, L)``; of class 1 if binary."""
        if self.task is Task.MULTI_LABEL:
            weights = self.weights.astype(np.float64)
            right, true, flagged = self.prepared.outcomes
            return weights @ right, weights @ true, weights @ flagged
        right, true = np.diagonal(self.confusion, axis1=1, axis2=2), self.confusion.sum(axis=2)
        kept = slice(1, None) if self.task is Task.BINARY else slice(None)
        return right[:, kept], true[:, kept], self.confusion.sum(axis=1)[:, kept]


def auc(given: Weighted) -> FloatArray:
    """One-vs-rest AUC by class, ``(B, L)``: the Mann-Whitney statistic (Hanley and McNeil 1982)."""
    return np.stack([ranking.auc(given.weights) for ranking in given.prepared.rankings], axis=1)


def average_precision(given: Weighted) -> FloatArray:
    """Average precision by class against the rest, ``(B, L)``; formula in `medmnist_hf.scoring.auc`."""
    return np.stack([ranking.average_precision(given.weights) for ranking in given.prepared.rankings], axis=1)


def sensitivity(given: Weighted) -> FloatArray:
    """TP / (TP + FN), the recall, by class, ``(B, L)`` (Yerushalmy, Public Health Reports 62:1432, 1947)."""
    right, true, _ = given.counts
    return ratio(right, true)


def specificity(given: Weighted) -> FloatArray:
    """TN / (TN + FP) by class, ``(B, L)`` (Yerushalmy 1947)."""
    right, true, flagged = given.counts
    total = given.total[:, None]
    return ratio(total - true - flagged + right, total - true)


def f1(given: Weighted) -> FloatArray:
    """2 TP / (2 TP + FP + FN) by class, ``(B, L)`` (van Rijsbergen, Information Retrieval, 1979, chapter 7)."""
    right, true, flagged = given.counts
    return ratio(2 * right, true + flagged)


def accuracy(given: Weighted) -> FloatArray:
    """The official ACC, ``(B,)``; see `medmnist_hf.scoring.official.score`."""
    if given.task is Task.MULTI_LABEL:
        agreed = given.weights.astype(np.float64) @ given.prepared.agreed
        return np.asarray(agreed / (given.total * given.prepared.predictions.labels))
    return np.asarray(np.trace(given.confusion, axis1=1, axis2=2) / given.total)


def balanced_accuracy(given: Weighted) -> FloatArray:
    """Mean of the recalls of the classes, of both if binary, ``(B,)`` (Brodersen et al., ICPR 2010).

    Multi-label: the mean over labels of (sensitivity + specificity) / 2.
    """
    if given.task is Task.MULTI_LABEL:
        return mean_defined((sensitivity(given) + specificity(given)) / 2)
    return mean_defined(ratio(np.diagonal(given.confusion, axis1=1, axis2=2), given.confusion.sum(axis=2)))


def macro_f1(given: Weighted) -> FloatArray:
    """Unweighted mean of the F1 of the classes, of both if binary, ``(B,)`` (Opitz and Burst, arXiv 1911.03347)."""
    if given.task is not Task.BINARY:
        return mean_defined(f1(given))
    right = np.diagonal(given.confusion, axis1=1, axis2=2)
    return mean_defined(ratio(2 * right, given.confusion.sum(axis=1) + given.confusion.sum(axis=2)))


def quadratic_kappa(given: Weighted) -> FloatArray:
    """Agreement beyond chance, disagreement weighted by squared distance, ``(B,)`` (Cohen, Psych. Bull. 70:213, 1968).

    ``1 - sum(d * observed) / sum(d * expected)``, d the squared difference of class ids, expected the product of
    the margins divided by N.
    """
    squares = _distances(given) ** 2
    expected = np.einsum("bi,bj->bij", given.confusion.sum(axis=2), given.confusion.sum(axis=1))
    chance = np.einsum("bij,ij->b", expected, squares) / given.total
    return 1 - ratio(np.einsum("bij,ij->b", given.confusion, squares), chance)


def mean_absolute_error(given: Weighted) -> FloatArray:
    """Mean distance between the id of the true class and of the one decided on, ``(B,)``.

    In steps of the scale, 0 to K - 1 (Baccianella, Esuli and Sebastiani, ISDA 2009).
    """
    return np.asarray(np.einsum("bij,ij->b", given.confusion, _distances(given)) / given.total)


def brier(given: Weighted) -> FloatArray:
    """Mean squared distance of the probabilities from the truth, ``(B,)`` (Brier, Mon. Weather Rev. 78:1, 1950).

    Summed over the classes for multi-class and ordinal tasks (0 to 2), of the positive class alone for the binary
    task and averaged over labels for the multi-label task (0 to 1).
    """
    return np.asarray(given.weights.astype(np.float64) @ given.prepared.squared / given.total)


def ece(given: Weighted) -> FloatArray:
    """Expected calibration error over `ECE_BINS` bins, ``(B,)`` (Naeini et al., AAAI 2015; Guo et al., ICML 2017).

    The mean over rows of the distance, bin by bin, between mean confidence and share of hits. Multi-class and
    ordinal: of the class decided on. Binary: of the positive class. Multi-label: of each label, then their mean.
    """
    bins, gaps = given.prepared.calibration
    error = np.zeros(len(given.weights))
    for places, gap in zip(bins, gaps, strict=True):
        for row, weights in enumerate(given.weights):
            error[row] += np.abs(np.bincount(places, weights * gap, ECE_BINS)).sum()
    return np.asarray(error / (given.total * len(bins)))


_CLASSWISE: Final[dict[str, Callable[[Weighted], FloatArray]]] = {
    "auc": auc,
    "average_precision": average_precision,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "f1": f1,
}
_WHOLE: Final[dict[str, Callable[[Weighted], FloatArray]]] = {
    "acc": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "brier": brier,
    "ece": ece,
}
_ORDINAL: Final[dict[str, Callable[[Weighted], FloatArray]]] = {
    "quadratic_kappa": quadratic_kappa,
    "mae": mean_absolute_error,
}


def available(task: Task) -> tuple[str, ...]:
    """Names of the measures of a task, those with a value for each class first."""
    return (*_CLASSWISE, *_WHOLE, *(_ORDINAL if task is Task.ORDINAL else ()))


def measures(
    references: object,
    scores: object,
    task: Task | str,
    names: Iterable[str],
    *,
    from_logits: bool | None = None,
    num_classes: int | None = None,
) -> dict[str, float]:
    """Measures by name, in the order asked for.

    A mean over classes leaves out those for which the measure is undefined: AUC without positive or negative rows,
    sensitivity and average precision without positive rows, specificity without negative ones, F1 of a class neither
    true nor decided on.

    Args:
        references: What is true; for the shapes see `medmnist_hf.scoring.predictions.check`.
        scores: Scores of the same rows; shapes as there.
        task: A `Task`, its value or its official name.
        names: From `available`: ``"f1"`` for the mean over classes (the positive class if binary), ``"f1:3"`` for a
            class, ``"f1:*"`` for each class in turn.
        from_logits: What to make of scores outside 0..1; see `medmnist_hf.scoring.predictions.check`.
        num_classes: Number of classes that the scores must have columns for, if known.

    Returns:
        Name -> value; ``"f1:*"`` becomes ``"f1:0"``, ``"f1:1"`` and so on. An undefined value is nan.

    Raises:
        ScoreError: The input cannot be scored, or a measure is unknown or does not suit the task or the scores.

    Warns:
        ScoreWarning: A value is nan.
    """
    given = check(references, scores, task, from_logits=from_logits, num_classes=num_classes)
    names = expand(given, names)
    table = evaluate(Weighted(Prepared(given), np.ones((1, given.rows), np.uint8)), names)
    found = dict(zip(names, table[0].tolist(), strict=True))
    undefined = [name for name, value in found.items() if value != value]  # noqa: PLR0124
    if undefined:
        warnings.warn(f"undefined on these {given.rows} rows: {', '.join(undefined)}", ScoreWarning, stacklevel=2)
    return found


def evaluate(given: Weighted, names: list[str]) -> FloatArray:
    """Values of measures named by `expand`, shape ``(B, len(names))``."""
    done: dict[str, FloatArray] = {}
    values = []
    for name in names:
        base, _, label = name.partition(":")
        if base not in done:
            done[base] = (_CLASSWISE | _WHOLE | _ORDINAL)[base](given)
        value = done[base]
        if label:
            value = value[:, given.prepared.predictions.classes.index(int(label))]
        values.append(mean_defined(value) if value.ndim == 2 else value)
    return np.stack(values, axis=1)


def expand(given: Predictions, names: Iterable[str]) -> list[str]:
    """Names asked for -> names with values, ``"f1:*"`` spelt out, each once.

    Raises:
        ScoreError: No names, or one that is unknown or does not suit the task.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ScoreError(f"no measures named: choose from {', '.join(available(given.task))}")
    known = {name: [name] for name in available(given.task)}
    for base in _CLASSWISE:
        known |= {f"{base}:{label}": [f"{base}:{label}"] for label in given.classes}
        known[f"{base}:*"] = [f"{base}:{label}" for label in given.classes]
    for name in names:
        if name not in known:
            choice = ", ".join(known_name for known_name in available(given.task))
            raise ScoreError(f"no measure {name!r} for the {given.task.value} task: choose from {choice}")
    return list(dict.fromkeys(found for name in names for found in known[name]))


def confusion_matrix(
    references: object,
    scores: object,
    task: Task | str,
    *,
    from_logits: bool | None = None,
    num_classes: int | None = None,
) -> IntArray:
    """Rows counted by true class (first axis) and class decided on (second), shape ``(K, K)``.

    Multi-label: a 2 x 2 table for each label, absent before present, shape ``(L, 2, 2)``. Arguments and errors as
    for `measures`.
    """
    given = check(references, scores, task, from_logits=from_logits, num_classes=num_classes)
    weighted = Weighted(Prepared(given), np.ones((1, given.rows), np.uint8))
    if given.task is not Task.MULTI_LABEL:
        return np.asarray(weighted.confusion[0], np.intp)
    right, true, flagged = (count[0].astype(np.intp) for count in weighted.counts)
    table = [[given.rows - true - flagged + right, flagged - right], [true - right, right]]
    return np.moveaxis(np.array(table), -1, 0)


def class_count(given: Predictions) -> int:
    """Number of classes K of a single-label task: two if binary, else the score columns."""
    return 2 if given.task is Task.BINARY else given.labels


def mean_defined(values: FloatArray) -> FloatArray:
    """Mean over the second axis of what is not nan, ``(B, L)`` -> ``(B,)``; nan where all of it is."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=1), defined.sum(axis=1).astype(np.float64))


def _distances(given: Weighted) -> IntArray:
    ids = np.arange(class_count(given.prepared.predictions))
    return np.asarray(np.abs(ids[:, None] - ids))
