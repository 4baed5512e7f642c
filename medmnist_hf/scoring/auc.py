"""AUC and average precision of one score column, exact under ties, for one or many sets of row weights."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medmnist_hf.array_types import Array, BoolArray, FloatArray, IntArray


def auc(column: Array, positive: BoolArray) -> float:
    """Area under the ROC curve of one column, as the Mann-Whitney statistic.

    The share of positive-negative row pairs in which the positive row scores higher; ties count one half (Hanley and
    McNeil, Radiology 143:29, 1982). Pairs are counted in whole numbers and divided once.

    Args:
        column: Scores, shape ``(N,)``, finite.
        positive: Which rows are positive, shape ``(N,)``.

    Returns:
        AUC, 0 to 1; nan if the rows are all positive or all negative.
    """
    hits = np.sort(np.compress(positive, column))
    if hits.size in (0, column.size):
        return float("nan")
    ranked = np.sort(column)
    below = np.searchsorted(ranked, hits, side="left")
    twice = 2 * int(below.sum()) + hits.size
    # A unique score is followed by a different value, so only tied scores need a second search.
    following = np.minimum(below + 1, column.size - 1)
    tied = ranked[following] == hits
    if tied.any():
        through = np.searchsorted(ranked, hits[tied], side="right")
        twice += int((through - below[tied] - 1).sum())
    # Pairs of positive rows, each row paired with itself included, add exactly hits.size**2 to this count.
    return (twice - hits.size**2) / (2 * hits.size * (column.size - hits.size))


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """One column, sorted once and scored under any number of row weights.

    Attributes:
        order: Row indices by ascending score, shape ``(N,)``.
        places: Positions of the P positive rows in `order`, shape ``(P,)``.
        first: Position at which each positive row's group of equal scores begins, shape ``(P,)``.
        last: Position at which the next group begins, shape ``(P,)``.
        before: Number of positive rows before the group, shape ``(P,)``.
    """

    order: IntArray
    places: IntArray
    first: IntArray
    last: IntArray
    before: IntArray

    @classmethod
    def of(cls, column: Array, positive: BoolArray) -> "Ranking":
        """Sort a column of scores, shape ``(N,)``; ``positive`` marks its positive rows, shape ``(N,)``."""
        order = np.argsort(column)
        ranked = column[order]
        places = np.flatnonzero(positive[order])
        first = np.searchsorted(ranked, ranked[places], side="left")
        last = np.searchsorted(ranked, ranked[places], side="right")
        return cls(order, places, first, last, np.searchsorted(places, first, side="left"))

    def auc(self, weights: Array) -> FloatArray:
        """AUC under whole-number row weights, ``(B, N)`` -> ``(B,)``; nan if either side has a total weight of 0."""
        ranked, cumulative = self._cumulative(weights)
        hits = np.take(ranked, self.places, axis=1).astype(np.float64)
        pairs = np.take(cumulative, self.first, axis=1) + np.take(cumulative, self.last, axis=1)
        positive = hits.sum(axis=1)
        sides = 2.0 * positive * (cumulative[:, -1] - positive)
        twice = np.einsum("bp,bp->b", hits, pairs) - positive**2
        return ratio(twice, sides)

    def average_precision(self, weights: Array) -> FloatArray:
        """Average precision under row weights, ``(B, N)`` -> ``(B,)``; nan if the positive rows have no weight.

        The sum over thresholds of the gain in recall times the precision, without interpolation (Manning, Raghavan
        and Schuetze, Introduction to Information Retrieval, 2008, section 8.4).
        """
        ranked, cumulative = self._cumulative(weights)
        hits = np.take(ranked, self.places, axis=1).astype(np.float64)
        cumulative_hits = np.zeros((len(weights), self.places.size + 1))
        np.cumsum(hits, axis=1, out=cumulative_hits[:, 1:])
        positive = cumulative_hits[:, -1]
        true_positives = positive[:, None] - np.take(cumulative_hits, self.before, axis=1)
        flagged = cumulative[:, -1:] - np.take(cumulative, self.first, axis=1)
        total = np.einsum("bp,bp->b", hits, true_positives / np.maximum(flagged, 1))
        return ratio(total, positive)

    def _cumulative(self, weights: Array) -> tuple[Array, npt.NDArray[np.int32]]:
        """Weights by ascending score, shape ``(B, N)``, and their cumulative sum from 0, shape ``(B, N + 1)``."""
        ranked = np.take(weights, self.order, axis=1)
        cumulative = np.zeros((len(weights), self.order.size + 1), np.int32)
        np.cumsum(ranked, axis=1, dtype=np.int32, out=cumulative[:, 1:])
        return ranked, cumulative


def ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """``part / whole``; nan where ``whole`` is 0."""
    quotient = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=quotient, where=whole > 0)
    return quotient


def mean_defined(values: FloatArray) -> FloatArray:
    """Mean over the second axis, ignoring nan, ``(B, L)`` -> ``(B,)``; nan for rows of nothing but nan.

    Columns are added one after another, as the official evaluator does, because the last digit of a floating-point
    sum depends on its order.
    """
    total, count = np.zeros(len(values)), np.zeros(len(values))
    for column in values.T:
        defined = ~np.isnan(column)
        total += np.where(defined, column, 0)
        count += defined
    return ratio(total, count)
