"""DeLong's variance, interval and paired test of the AUC: exact in what it estimates, without resampling.

E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics 44:837, 1988. The components are found by sorting, in
``N log N``, as X. Sun and W. Xu do it (IEEE Signal Processing Letters 21:1389, 2014).

Example:
    >>> from medmnist_hf.scoring.delong import delong
    >>> round(delong([0, 1, 1, 0], [0.2, 0.9, 0.4, 0.5], "binary-class")[1].standard_error, 3)
    0.354
"""

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from medmnist_hf.array_types import BoolArray, FloatArray
from medmnist_hf.catalog import Task
from medmnist_hf.errors import ScoreError
from medmnist_hf.scoring.bootstrap import Comparison, Interval, check_pair
from medmnist_hf.scoring.predictions import Predictions, check


def components(column: npt.NDArray[Any], positive: BoolArray) -> tuple[FloatArray, FloatArray]:
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


def delong(
    references: object,
    scores: object,
    task: Task | str,
    *,
    level: float = 0.95,
    from_logits: bool | None = None,
    num_classes: int | None = None,
) -> dict[int, Interval]:
    """AUC of each class against the rest with DeLong's normal interval, cut off at 0 and 1.

    Of a class that is told apart without an error the variance is 0 and so the width: read it as unknown.

    Args:
        references: What is true; for the shapes see `medmnist_hf.scoring.predictions.check`.
        scores: Scores of the same rows; shapes as there.
        task: A `Task`, its value or its official name.
        level: Confidence level between 0 and 1.
        from_logits: What to make of scores outside 0..1; see `medmnist_hf.scoring.predictions.check`.
        num_classes: Number of classes that the scores must have columns for, if known.

    Returns:
        Class id (1 for the binary task) -> interval. A class with fewer than two positive or two negative rows has
        no variance and is left out.

    Raises:
        ScoreError: The input cannot be scored, the level is out of range, or no class has a variance.
    """
    given = check(references, scores, task, from_logits=from_logits, num_classes=num_classes)
    deviate = _deviate(level)
    found = {}
    for label in _testable(given):
        above, below = components(given.columns[label], given.positive(label))
        value = float(above.mean())
        error = math.sqrt(float(np.var(above, ddof=1)) / above.size + float(np.var(below, ddof=1)) / below.size)
        low, high = max(0.0, value - deviate * error), min(1.0, value + deviate * error)
        found[given.classes[label]] = Interval(value, low, high, level, error)
    return found


def delong_compare(
    references: object,
    first: object,
    second: object,
    task: Task | str,
    *,
    level: float = 0.95,
    from_logits: bool | None = None,
    num_classes: int | None = None,
) -> dict[int, Comparison]:
    """DeLong's paired test of ``AUC(first) - AUC(second)`` on the same rows, for each class against the rest.

    Args:
        references: What is true; for the shapes see `medmnist_hf.scoring.predictions.check`.
        first: Scores of one set of predictions.
        second: Scores of the other, of the same rows.
        task: A `Task`, its value or its official name.
        level: Confidence level between 0 and 1.
        from_logits: What to make of scores outside 0..1, in both sets.
        num_classes: Number of classes that the scores must have columns for, if known.

    Returns:
        Class id (1 for the binary task) -> comparison; classes without a variance are left out. If the difference
        does not vary at all, p is 1 when it is 0 and else 0.

    Raises:
        ScoreError: As for `delong`, or the two sets differ in their number of columns.
    """
    one, two = check_pair(references, first, second, task, from_logits=from_logits, num_classes=num_classes)
    deviate = _deviate(level)
    found = {}
    for label in _testable(one):
        above, below = components(one.columns[label], one.positive(label))
        other_above, other_below = components(two.columns[label], two.positive(label))
        value, other = float(above.mean()), float(other_above.mean())
        # The variance of a difference of paired components is that of the difference itself: no covariance to form.
        variance = float(np.var(above - other_above, ddof=1)) / above.size
        variance += float(np.var(below - other_below, ddof=1)) / below.size
        difference, error = value - other, math.sqrt(variance)
        p = math.erfc(abs(difference) / error / math.sqrt(2)) if error > 0 else float(difference == 0)
        low, high = max(-1.0, difference - deviate * error), min(1.0, difference + deviate * error)
        found[one.classes[label]] = Comparison(value, other, Interval(difference, low, high, level, error), p)
    return found


def _twice_below(values: npt.NDArray[Any], at: npt.NDArray[Any]) -> FloatArray:
    """Twice the number of values below each of the others, one for each equal, shape of ``at``."""
    ranked = np.sort(values)
    order = np.argsort(at)
    counts = np.empty(at.size)
    # Sorted needles find their places several times faster.
    needles = at[order]
    counts[order] = np.searchsorted(ranked, needles, side="left") + np.searchsorted(ranked, needles, side="right")
    return counts


def _testable(given: Predictions) -> list[int]:
    """Columns with two positive and two negative rows or more."""
    sizes = [int(np.count_nonzero(given.positive(label))) for label in range(given.labels)]
    found = [label for label, size in enumerate(sizes) if 2 <= size <= given.rows - 2]
    if not found:
        raise ScoreError(f"{given.rows} rows: DeLong's variance needs two positive and two negative rows of a class")
    return found


def _deviate(level: float) -> float:
    if not 0 < level < 1:
        raise ScoreError(f"level={level}: pass a confidence level between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf((1 + level) / 2)
