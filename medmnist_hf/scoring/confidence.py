"""How sure a number is: an interval and how it was made, the comparison of two numbers, and quantiles they need.

Example:
    >>> from medmnist_hf.scoring.confidence import wilson
    >>> interval = wilson(181 / 400, 400)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.404, 0.501)
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

import numpy as np

from medmnist_hf.array_types import FloatArray
from medmnist_hf.errors import ScoreError

Method = Literal["DeLong", "Wilson", "Student", "bootstrap"]
"""How an interval is made: see `medmnist_hf.scoring.intervals`, which settles which measure has which."""

_STEPS: Final = 1 << 13
"""Steps of the integral of Student's density: quantiles of 1 degree of freedom or more are right to six digits."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and the range it may be in: how much another test set of the same size may change it.

    Attributes:
        estimate: The value on the rows as they are.
        low: Lower end; nan where the rows do not tell.
        high: Upper end, likewise.
        level: Confidence level, e.g. 0.95.
        standard_error: Standard deviation of the value over test sets of this size, as estimated by the method.
        method: How it was made.
        resamples: Resamples of a bootstrap in which the measure had a value; 0 for other methods.
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
    """Two sets of predictions of the same rows: ``first - second``.

    Attributes:
        first: The value of the first set.
        second: The value of the second set.
        difference: Their difference and its interval.
        p: Two-sided p value of the difference being 0.
    """

    first: float
    second: float
    difference: Interval
    p: float


def wilson(mean: float, rows: float, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share (E. B. Wilson, J. Am. Stat. Assoc. 22:209, 1927).

    It has a width also where all rows or none are right, and stays within 0..1.

    Args:
        mean: The share, 0 to 1.
        rows: Number of rows. For the mean of values within 0..1 that are not all 0 or 1, the number of rows of 0 or 1
            that would have its variance, ``mean * (1 - mean) / variance of the mean``.
        level: Confidence level between 0 and 1.

    Raises:
        ScoreError: The level is out of range.
    """
    square = normal_quantile(level) ** 2
    center = (mean + square / (2 * rows)) / (1 + square / rows)
    half = math.sqrt(square * (mean * (1 - mean) / rows + square / (4 * rows**2))) / (1 + square / rows)
    low, high = max(0.0, center - half), min(1.0, center + half)
    return Interval(mean, low, high, level, math.sqrt(mean * (1 - mean) / rows), "Wilson")


def check_level(level: float) -> None:
    """Raise a `ScoreError` unless a confidence level is between 0 and 1."""
    if not 0 < level < 1:
        raise ScoreError(f"level={level}: pass a confidence level between 0 and 1, such as 0.95")


def normal_quantile(level: float) -> float:
    """How many standard errors to either side hold a share of the normal distribution; 1.96 for 0.95."""
    check_level(level)
    return NormalDist().inv_cdf((1 + level) / 2)


def student_quantile(level: float, freedom: float) -> float:
    """The same of Student's distribution, e.g. 2.262 for 0.95 and 9 degrees of freedom."""
    check_level(level)
    angles, shares, _ = _student(freedom)
    return math.sqrt(freedom) * math.tan(float(np.interp(level, shares, angles)))


def student_p(deviate: float, freedom: float) -> float:
    """Two-sided p value of so many standard errors under Student's distribution; 0 for less than 1e-32."""
    angles, _, shares = _student(freedom)
    return float(np.interp(math.atan(abs(deviate) / math.sqrt(freedom)), angles, shares))


def _student(freedom: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Angles, and the shares of the distribution of t within and beyond +-t, where ``t = sqrt(freedom) * tan(angle)``.

    The density over angles is in proportion to ``cos(angle) ** (freedom - 1)``, without tails to cut off.
    """
    end = min(math.pi / 2, 12 / math.sqrt(freedom))  # beyond it nothing is left of a narrow density
    angles = np.linspace(0, end, _STEPS + 1)
    density = np.cos(angles) ** (freedom - 1)
    strips = (density[1:] + density[:-1]) / 2
    within, beyond = np.append(0.0, np.cumsum(strips)), np.append(np.cumsum(strips[::-1])[::-1], 0.0)
    return angles, within / within[-1], beyond / beyond[0]
