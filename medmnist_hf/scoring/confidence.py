"""Confidence intervals and paired comparisons, Wilson's interval, and the quantiles they need.

Example:
    >>> from medmnist_hf.scoring.confidence import wilson
    >>> interval = wilson(181 / 400, 400)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.404, 0.501)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

import numpy as np

from medmnist_hf.array_types import FloatArray
from medmnist_hf.errors import ScoreError

Method = Literal["DeLong", "Wilson", "Student", "bootstrap"]
"""Method of an interval; `medmnist_hf.scoring.intervals` chooses one for each metric."""

_STEPS: Final = 1 << 13
"""Integration steps of Student's density, enough for six correct digits from 1 degree of freedom on."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its confidence interval: how much another test set of the same size may change the value.

    Attributes:
        estimate: The value on the given rows.
        low: Lower end; nan if it cannot be estimated from the rows.
        high: Upper end, likewise.
        level: Confidence level, e.g. 0.95.
        standard_error: Standard deviation of the value over test sets of this size, as estimated by the method.
        method: Method by which the interval was computed.
        resamples: Bootstrap resamples in which the metric was defined; 0 for other methods.
    """

    estimate: float
    low: float
    high: float
    level: float
    standard_error: float
    method: Method
    resamples: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric of two sets of predictions of the same rows, and their difference ``first - second``.

    Attributes:
        first: Value for the first set.
        second: Value for the second set.
        difference: The difference and its interval.
        p: Two-sided p value of the hypothesis that the difference is 0.
    """

    first: float
    second: float
    difference: Interval
    p: float


def wilson(mean: float, rows: float, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (E. B. Wilson, J. Am. Stat. Assoc. 22:209, 1927).

    It stays within 0..1 and has a width above 0 even if all rows are right or all are wrong.

    Args:
        mean: The proportion, 0 to 1.
        rows: Number of rows. For a mean of values within 0..1, the number of binary rows with the same variance:
            ``mean * (1 - mean) / variance of the mean``.
        level: Confidence level between 0 and 1.

    Raises:
        ScoreError: The level is out of range.
    """
    square = normal_quantile(level) ** 2
    center = (mean + square / (2 * rows)) / (1 + square / rows)
    half = math.sqrt(square * (mean * (1 - mean) / rows + square / (4 * rows**2))) / (1 + square / rows)
    low, high = max(0.0, center - half), min(1.0, center + half)
    return Interval(mean, low, high, level, math.sqrt(mean * (1 - mean) / rows), "Wilson")


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for their number, keeping the familywise error (S. Holm, Scand. J. Stat. 6:65, 1979).

    Args:
        p_values: p values of a family of tests; nan stays nan and does not count.

    Returns:
        The adjusted p values, in the same order.
    """
    order = sorted((at for at, p in enumerate(p_values) if not math.isnan(p)), key=lambda at: p_values[at])
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted


def check_level(level: float) -> None:
    """Raise a `ScoreError` unless a confidence level is between 0 and 1."""
    if not 0 < level < 1:
        raise ScoreError(f"level={level}: pass a confidence level between 0 and 1, such as 0.95")


def normal_quantile(level: float) -> float:
    """Two-sided quantile of the normal distribution, in standard errors; 1.96 for a level of 0.95."""
    check_level(level)
    return NormalDist().inv_cdf((1 + level) / 2)


def student_quantile(level: float, freedom: float) -> float:
    """Two-sided quantile of Student's distribution; 2.262 for a level of 0.95 and 9 degrees of freedom."""
    check_level(level)
    angles, shares, _ = _student(freedom)
    return math.sqrt(freedom) * math.tan(float(np.interp(level, shares, angles)))


def student_p(deviate: float, freedom: float) -> float:
    """Two-sided p value of a deviate, in standard errors, under Student's distribution; 0 below 1e-32."""
    angles, _, shares = _student(freedom)
    return float(np.interp(math.atan(abs(deviate) / math.sqrt(freedom)), angles, shares))


def _student(freedom: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Angles, and the probability within and beyond ±t at each, where ``t = sqrt(freedom) * tan(angle)``.

    The density over angles is proportional to ``cos(angle) ** (freedom - 1)``, so no tail has to be cut off.
    """
    end = min(math.pi / 2, 12 / math.sqrt(freedom))  # a narrow density is negligible beyond this angle
    angles = np.linspace(0, end, _STEPS + 1)
    density = np.cos(angles) ** (freedom - 1)
    strips = (density[1:] + density[:-1]) / 2
    within, beyond = np.append(0.0, np.cumsum(strips)), np.append(np.cumsum(strips[::-1])[::-1], 0.0)
    return angles, within / within[-1], beyond / beyond[0]
