"""DeLong's variance, interval and paired test of the AUC: exact in what it estimates, without resampling.

E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics 44:837, 1988. The components are found by sorting, in
``N log N``, as X. Sun and W. Xu do it (IEEE Signal Processing Letters 21:1389, 2014).

Example:
    >>> from medmnist_hf.scoring.delong import delong
    >>> from medmnist_hf.scoring.predictions import check
    >>> round(delong(check([0, 1, 1, 0], [0.2, 0.9, 0.4, 0.5], "binary-class"))[1].standard_error, 3)
    0.354
"""

import math
from statistics import NormalDist

import numpy as np

from medmnist_hf.array_types import Array, BoolArray, FloatArray
from medmnist_hf.errors import ScoreError
from medmnist_hf.scoring.auc import auc
from medmnist_hf.scoring.bootstrap import Comparison, Interval
from medmnist_hf.scoring.predictions import Predictions, check_paired


def components(column: Array, positive: BoolArray) -> tuple[FloatArray, FloatArray]:
    """The structural components of an AUC, whose two means both equal it.

    Args:
        column: Scores, shape ``(N,)``.
        positive: Which P of the rows are positive, shape ``(N,)``.

    Returns:
        For each positive row the share of negative rows below it, shape ``(P,)``, and for each negative row the
        share of positive rows above it, shape ``(N - P,)``; ties count one half.
    """
    hits, rest = column[positive], column[~positive]
    above = _twice_below(rest, hits) / (2 * rest.size)
    return above, 1 - _twice_below(hits, rest) / (2 * hits.size)


def delong(predictions: Predictions, *, level: float = 0.95) -> dict[int, Interval]:
    """AUC of each class against the rest with DeLong's normal interval, cut off at 0 and 1.

    The variance of a class that is ranked without an error is 0, and so is the width: read it as unknown.

    Args:
        predictions: Scores and references from `medmnist_hf.scoring.predictions.check`.
        level: Confidence level between 0 and 1.

    Returns:
        Class id (1 for the binary task) -> interval. A class with fewer than two positive or two negative rows has
        no variance and is left out.

    Raises:
        ScoreError: The level is out of range, or no class has a variance.
    """
    deviate = _deviate(level)
    intervals = {}
    for label in _testable(predictions):
        column, positive = predictions.columns[label], predictions.positive(label)
        above, below = components(column, positive)
        value = auc(column, positive)
        error = math.sqrt(float(np.var(above, ddof=1)) / above.size + float(np.var(below, ddof=1)) / below.size)
        low, high = max(0.0, value - deviate * error), min(1.0, value + deviate * error)
        intervals[predictions.classes[label]] = Interval(value, low, high, level, error)
    return intervals


def delong_compare(first: Predictions, second: Predictions, *, level: float = 0.95) -> dict[int, Comparison]:
    """DeLong's paired test of ``AUC(first) - AUC(second)`` on the same rows, for each class against the rest.

    Args:
        first: One set of predictions.
        second: The other, of the same rows.
        level: Confidence level between 0 and 1.

    Returns:
        Class id (1 for the binary task) -> comparison; classes without a variance are left out. If the difference
        does not vary at all, p is 1 when it is 0 and else 0.

    Raises:
        ScoreError: As for `delong`, or the two sets are not of the same task and rows.
    """
    check_paired(first, second)
    deviate = _deviate(level)
    comparisons = {}
    for label in _testable(first):
        positive = first.positive(label)
        above, below = components(first.columns[label], positive)
        other_above, other_below = components(second.columns[label], positive)
        value, other = auc(first.columns[label], positive), auc(second.columns[label], positive)
        # The variance of a difference of paired components is that of the difference itself: no covariance to form.
        variance = float(np.var(above - other_above, ddof=1)) / above.size
        variance += float(np.var(below - other_below, ddof=1)) / below.size
        difference, error = value - other, math.sqrt(variance)
        p = math.erfc(abs(difference) / error / math.sqrt(2)) if error > 0 else float(difference == 0)
        low, high = max(-1.0, difference - deviate * error), min(1.0, difference + deviate * error)
        comparisons[first.classes[label]] = Comparison(value, other, Interval(difference, low, high, level, error), p)
    return comparisons


def _twice_below(values: Array, at: Array) -> FloatArray:
    """Twice the number of values below each of the others, one for each equal, shape of ``at``."""
    ranked = np.sort(values)
    order = np.argsort(at)
    counts = np.empty(at.size)
    # Sorted needles find their places several times faster.
    needles = at[order]
    counts[order] = np.searchsorted(ranked, needles, side="left") + np.searchsorted(ranked, needles, side="right")
    return counts


def _testable(predictions: Predictions) -> list[int]:
    """Columns with two positive and two negative rows or more."""
    rows, labels = predictions.rows, range(predictions.labels)
    testable = [label for label in labels if 2 <= np.count_nonzero(predictions.positive(label)) <= rows - 2]
    if not testable:
        raise ScoreError(f"{rows} rows: DeLong's variance needs two positive and two negative rows of a class")
    return testable


def _deviate(level: float) -> float:
    if not 0 < level < 1:
        raise ScoreError(f"level={level}: pass a confidence level between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf((1 + level) / 2)
