"""Standard errors of scores: of published ones, which rarely have intervals, and of own ones from their intervals."""

import math
from statistics import NormalDist
from typing import Final

_QUANTILE: Final = NormalDist().inv_cdf(0.975)


def auc_standard_error(auc: float, test_rows: int, classes: int) -> float:
    """Approximate standard error of an AUC over test sets of a size.

    The variance is that of Hanley and McNeil (Radiology 143:29, 1982) for one class against the others, with the rows
    divided equally among the classes, as published tables do not give their numbers. For a mean over classes it is an
    upper estimate, as if the errors of all classes agreed.

    Args:
        auc: AUC, 0 to 1; nan gives nan.
        test_rows: Number of rows.
        classes: Number of classes, or of findings.
    """
    positive = test_rows / classes
    negative = test_rows - positive
    above, below = auc / (2 - auc) - auc**2, 2 * auc**2 / (1 + auc) - auc**2
    variance = (auc * (1 - auc) + (positive - 1) * above + (negative - 1) * below) / (positive * negative)
    return math.sqrt(variance)


def acc_standard_error(acc: float, test_rows: int) -> float:
    """Standard error of a share of rows over test sets of a size: ``sqrt(p (1 - p) / N)``; nan for nan."""
    return math.sqrt(acc * (1 - acc) / test_rows)


def with_seeds(sampling: float, std: float, seeds: int) -> float:
    """Standard error of a mean over seeds on one test set: that of the rows, and that of the trainings if known."""
    return sampling if math.isnan(std) or seeds < 2 else math.hypot(sampling, std / math.sqrt(seeds))


def interval_standard_error(low: float, high: float) -> float:
    """Standard error for which a normal interval of 95 % would be as wide as this one; nan without an interval."""
    return (high - low) / (2 * _QUANTILE)
