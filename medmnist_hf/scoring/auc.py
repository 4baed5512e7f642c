"""AUC and average precision of one score column, exact under ties: once, or under many sets of row weights."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medmnist_hf.array_types import Array, BoolArray, FloatArray, IntArray


def auc(column: Array, positive: BoolArray) -> float:
    """Area under the ROC curve of one column, as the Mann-Whitney statistic.

    The share of pairs of a positive and a negative row in which the positive one scores higher; ties count one half
    (Hanley and McNeil, Radiology 143:29, 1982). Pairs are counted in whole numbers and divided once.

    Args:
        column: Scores, shape ``(N,)``, finite.
        positive: Which rows are positive, shape ``(N,)``.

    Returns:
        A number from 0 to 1; nan if the rows are all positive or all negative.
    """
    hits = np.sort(np.compress(positive, column))
    if hits.size in (0, column.size):
        return float("nan")
    ranked = np.sort(column)
    below = np.searchsorted(ranked, hits, side="left")
    twice = 2 * int(below.sum()) + hits.size
    # A score that no other row has is followed by another value: only the others need a second search.
    following = np.minimum(below + 1, column.size - 1)
    tied = ranked[following] == hits
    if tied.any():
        through = np.searchsorted(ranked, hits[tied], side="right")
        twice += int((through - below[tied] - 1).sum())
    # Pairs of two positives, each with itself included, are in that count half and half.
    return (twice - hits.size**2) / (2 * hits.size * (column.size - hits.size))


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """One column sorted once, to be scored under any number of row weights.

    Attributes:
        order: Rows by ascending score, shape ``(N,)``.
        places: Where the P positive rows stand in that order, shape ``(P,)``.
        first: For each of them, where its group of equal scores begins, shape ``(P,)``.
        last: And where the next group begins, shape ``(P,)``.
        before: How many of the P stand before its group, shape ``(P,)``.
    """

    order: IntArray
    places: IntArray
    first: IntArray
    last: IntArray
    before: IntArray

    @classmethod
    def of(cls, column: Array, positive: BoolArray) -> "Ranking":
        """Sorts a column, shape ``(N,)``, whose positive rows are marked, shape ``(N,)``."""
        order = np.argsort(column)
        ranked = column[order]
        places = np.flatnonzero(positive[order])
        first = np.searchsorted(ranked, ranked[places], side="left")
        last = np.searchsorted(ranked, ranked[places], side="right")
        return cls(order, places, first, last, np.searchsorted(places, first, side="left"))

    def auc(self, weights: Array) -> FloatArray:
        """`auc` under whole-number row weights, shape ``(B, N)`` -> ``(B,)``; nan where a side weighs nothing."""
        ranked, passed = self._passed(weights)
        hits = np.take(ranked, self.places, axis=1).astype(np.float64)
        pairs = np.take(passed, self.first, axis=1) + np.take(passed, self.last, axis=1)
        positive = hits.sum(axis=1)
        sides = 2.0 * positive * (passed[:, -1] - positive)
        twice = np.einsum("bp,bp->b", hits, pairs) - positive**2
        return ratio(twice, sides)

    def average_precision(self, weights: Array) -> FloatArray:
        """Average precision under row weights, shape ``(B, N)`` -> ``(B,)``; nan where no positive row weighs.

        The sum over thresholds of the gain in recall times the precision reached, without interpolation (Manning,
        Raghavan and Schuetze, Introduction to Information Retrieval, 2008, section 8.4).
        """
        ranked, passed = self._passed(weights)
        hits = np.take(ranked, self.places, axis=1).astype(np.float64)
        found = np.zeros((len(weights), self.places.size + 1))
        np.cumsum(hits, axis=1, out=found[:, 1:])
        positive = found[:, -1]
        reached = positive[:, None] - np.take(found, self.before, axis=1)
        flagged = passed[:, -1:] - np.take(passed, self.first, axis=1)
        total = np.einsum("bp,bp->b", hits, reached / np.maximum(flagged, 1))
        return ratio(total, positive)

    def _passed(self, weights: Array) -> tuple[Array, npt.NDArray[np.int32]]:
        """Weights by ascending score, shape ``(B, N)``, and their running sum from 0, shape ``(B, N + 1)``."""
        ranked = np.take(weights, self.order, axis=1)
        passed = np.zeros((len(weights), self.order.size + 1), np.int32)
        np.cumsum(ranked, axis=1, dtype=np.int32, out=passed[:, 1:])
        return ranked, passed


def ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """``part / whole``, nan where there is no whole."""
    quotient = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=quotient, where=whole > 0)
    return quotient


def mean_defined(values: FloatArray) -> FloatArray:
    """Mean over the second axis of what is not nan, ``(B, L)`` -> ``(B,)``; nan where all of it is.

    Added up one column after another, as the official evaluator does: the last digit of a sum depends on its order,
    and one number must not have two values.
    """
    total, count = np.zeros(len(values)), np.zeros(len(values))
    for column in values.T:
        defined = ~np.isnan(column)
        total += np.where(defined, column, 0)
        count += defined
    return ratio(total, count)
