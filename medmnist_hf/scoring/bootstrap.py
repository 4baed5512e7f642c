"""Percentile bootstrap intervals of any metric, also of its mean over subsets, and the paired bootstrap.

`medmnist_hf.scoring.intervals` uses them for metrics without a closed-form interval.

Example:
    >>> from medmnist_hf.scoring.bootstrap import bootstrap
    >>> from medmnist_hf.scoring.predictions import check
    >>> predictions = check([0, 1, 1, 0, 1], [0.2, 0.9, 0.4, 0.6, 0.7], "binary-class")
    >>> interval = bootstrap(predictions, ["macro_f1"])["macro_f1"]
    >>> interval.low < interval.estimate < interval.high
    True
"""

import hashlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from medmnist_hf.array_types import BoolArray, FloatArray, Weights
from medmnist_hf.errors import ScoreError
from medmnist_hf.scoring.confidence import Comparison, Interval, check_level
from medmnist_hf.scoring.metrics import ROW_MEANS, Weighted, evaluate, expand
from medmnist_hf.scoring.official import ScoreWarning
from medmnist_hf.scoring.predictions import Predictions, check_paired

BLOCK: Final = 1 << 17
"""Row weights per block: at some 30 bytes each, intermediates included, a block fits into the CPU cache."""

ROUNDING: Final = 1e-9
"""Widths of an interval below this are 0 but for rounding."""

FEWEST: Final = 0.5
"""Smallest share of resamples in which a metric must be defined for its interval to be computed."""

Subsets = Mapping[str, Sequence[Predictions]]
"""Name of a subset -> one or more predictions of its rows, e.g. of several seeds, whose metrics are averaged."""


def bootstrap(
    predictions: Predictions,
    names: Iterable[str],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile bootstrap intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

    Percentiles stay within the range of a metric and suit bounded, skewed ones. The corrected variants need one
    replicate per left-out row, 47,280 for TissueMNIST.

    Rows are drawn from all rows, not within each class, because another test set has other class counts too. A
    resample in which a class lost its last positive or negative row is used for means over rows only: a mean over the
    remaining classes would be a different metric. Classes absent from the references stay excluded from means.

    The interval is nan, not of width 0, where resampling cannot measure the uncertainty: no resample changes the
    value, as for the balanced accuracy of a constant prediction, or the metric is undefined in most resamples.

    Args:
        predictions: Scores and references from `medmnist_hf.scoring.predictions.check`.
        names: Names of metrics, as for `medmnist_hf.scoring.metrics.metrics`.
        resamples: Number of resamples; 1,000 fix the ends of a 95 % interval to a few percent of its width.
        level: Confidence level between 0 and 1.
        seed: Random seed; the resamples it gives depend on neither the metrics nor the machine.

    Returns:
        Name -> interval, in the order of ``names``.

    Raises:
        ScoreError: An option is out of range, or a metric is unknown.

    Warns:
        ScoreWarning: A metric is undefined, or a class is too rare to be resampled; its interval is nan.
    """
    names = expand(predictions, names)
    check_options(resamples, level, seed)
    estimates = evaluate(Weighted(predictions), names)[0]
    replicates = _replicates(predictions, names, resamples, seed)
    intervals = {}
    for at, name in enumerate(names):
        interval = _interval(float(estimates[at]), replicates[:, at], level)
        # A value that no resample changes may still vary between test sets.
        intervals[name] = _unknown(interval) if interval.high - interval.low < ROUNDING else interval
    warn_unknown(intervals)
    return intervals


def bootstrap_compare(
    first: Predictions,
    second: Predictions,
    names: Iterable[str],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Paired bootstrap of ``first - second``: both sets of scores are resampled with the same draws.

    The p value is 1 minus the level whose interval just touches 0: twice the smaller share of replicates on either
    side of 0, with one added to each count (Efron and Tibshirani 1993, section 15.4; Davison and Hinkley, Bootstrap
    Methods and their Application, 1997, section 4.2). It cannot be smaller than ``2 / (resamples + 1)``.

    Args:
        first: One set of predictions.
        second: Predictions of the same rows.
        names: Names of metrics, as for `bootstrap`.
        resamples: Number of resamples.
        level: Confidence level between 0 and 1.
        seed: Random seed of the resamples.

    Returns:
        Name -> comparison, in the order of ``names``. A difference that no resample changes has an interval of
        width 0.

    Raises:
        ScoreError: As for `bootstrap`, or the two sets differ in task or rows.

    Warns:
        ScoreWarning: As for `bootstrap`; the comparison is nan.
    """
    check_paired(first, second)
    names = expand(first, names)
    check_options(resamples, level, seed)
    values, others = (evaluate(Weighted(predictions), names)[0] for predictions in (first, second))
    draws = _Draws(first, names, resamples, seed)
    differences = np.concatenate(
        [
            draws.keep(evaluate(Weighted(first, block), names) - evaluate(Weighted(second, block), names), block)
            for block in draws
        ]
    )
    comparisons = {}
    for at, name in enumerate(names):
        value, other = float(values[at]), float(others[at])
        difference = _interval(value - other, differences[:, at], level)
        p = float("nan") if np.isnan(difference.low) else _p_value(differences[:, at])
        comparisons[name] = Comparison(value, other, difference, p)
    warn_unknown({name: each.difference for name, each in comparisons.items()})
    return comparisons


def bootstrap_mean(
    subsets: Subsets, names: Iterable[str] = ("auc", "acc"), *, resamples: int = 1000, level: float = 0.95
) -> dict[str, Interval]:
    """Percentile bootstrap intervals of the unweighted mean of a metric over subsets.

    Rows are drawn within each subset, independently of other subsets; the subsets are fixed. So the interval says how
    much other test sets of these subsets may change the mean, not what another choice of subsets would give. Several
    predictions of a subset are averaged within each resample; their number and variation do not enter.

    Args:
        subsets: The predictions of each subset.
        names: Names of metrics that every subset has, without classes.
        resamples: Number of resamples.
        level: Confidence level between 0 and 1.

    Returns:
        Name -> interval, in the order of ``names``; nan where a metric is undefined in a subset, or in most resamples.

    Raises:
        ScoreError: There is no subset, an option is out of range, or a metric is unknown.
    """
    names = list(names)
    check_options(resamples, level, 0)
    estimates, replicates = _mean_replicates(subsets, names, resamples)
    return {name: _interval(float(estimates[at]), replicates[:, at], level) for at, name in enumerate(names)}


def bootstrap_mean_compare(
    first: Subsets,
    second: Subsets,
    names: Iterable[str] = ("auc", "acc"),
    *,
    resamples: int = 1000,
    level: float = 0.95,
) -> dict[str, Comparison]:
    """Paired bootstrap of the difference ``first - second`` of means over subsets: both get the same draws.

    Args:
        first: The predictions of each subset.
        second: Other predictions of the same rows.
        names: As for `bootstrap_mean`.
        resamples: Number of resamples; the p value cannot be smaller than ``2 / (resamples + 1)``.
        level: Confidence level between 0 and 1.

    Returns:
        Name -> comparison, in the order of ``names``.

    Raises:
        ScoreError: As for `bootstrap_mean`, or the two differ in subsets, tasks or rows.
    """
    names = list(names)
    check_options(resamples, level, 0)
    if list(first) != list(second):
        raise ScoreError(f"the subsets differ: {', '.join(first)} and {', '.join(second)}; compare the same ones")
    for subset, own in first.items():
        for each in (*own[1:], *second[subset]):
            check_paired(own[0], each)
    (values, mine), (others, theirs) = (_mean_replicates(subsets, names, resamples) for subsets in (first, second))
    comparisons = {}
    for at, name in enumerate(names):
        value, other, differences = float(values[at]), float(others[at]), mine[:, at] - theirs[:, at]
        difference = _interval(value - other, differences, level)
        p = math.nan if math.isnan(difference.low) else _p_value(differences)
        comparisons[name] = Comparison(value, other, difference, p)
    return comparisons


def _mean_replicates(subsets: Subsets, names: list[str], resamples: int) -> tuple[FloatArray, FloatArray]:
    """Means over subsets of the metrics, shape ``(names,)``, and of their replicates, ``(resamples, names)``."""
    if not subsets or not all(subsets.values()):
        raise ScoreError("no predictions to average: pass at least one for each subset")
    estimates, replicates = [], []
    for subset, predictions in subsets.items():
        seed = int.from_bytes(hashlib.sha256(subset.encode()).digest()[:6])
        estimates.append(np.mean([evaluate(Weighted(each), names)[0] for each in predictions], axis=0))
        replicates.append(np.mean([_replicates(each, names, resamples, seed) for each in predictions], axis=0))
    return np.asarray(np.mean(estimates, axis=0)), np.asarray(np.mean(replicates, axis=0))


def _replicates(predictions: Predictions, names: list[str], resamples: int, seed: int) -> FloatArray:
    """Metrics in each resample, shape ``(resamples, names)``; other predictions of the rows get the same resamples."""
    draws = _Draws(predictions, names, resamples, seed)
    return np.concatenate([draws.keep(evaluate(Weighted(predictions, block), names), block) for block in draws])


class _Draws:
    """Resamples as row weights, in blocks of shape ``(B, N)`` of about `BLOCK` values; block size changes no draw."""

    def __init__(self, predictions: Predictions, names: list[str], resamples: int, seed: int) -> None:
        self.rows = predictions.rows
        self.resamples = resamples
        self.rng = np.random.default_rng(seed)
        self.classwise = np.array([name not in ROW_MEANS for name in names])
        sides = [predictions.positive(label) for label in range(predictions.labels)]
        # Guarding the rarer side suffices: a class is lost when that side's weight is 0 or N.
        fewer = [np.flatnonzero(side if 2 * np.count_nonzero(side) <= predictions.rows else ~side) for side in sides]
        self.guarded = [rows for rows in fewer if rows.size]

    def __iter__(self) -> Iterator[Weights]:
        size = max(1, BLOCK // self.rows)
        for start in range(0, self.resamples, size):
            yield np.stack([self._draw() for _ in range(min(size, self.resamples - start))])

    def _draw(self) -> Weights:
        drawn = self.rng.integers(0, self.rows, self.rows, dtype=np.int64)
        # Counts are close to Poisson with mean 1: a count of 256 has a probability below 10^-500, so uint8 suffices.
        return np.bincount(drawn, minlength=self.rows).astype(np.uint8)

    def keep(self, values: FloatArray, weights: Weights) -> FloatArray:
        """Values of a block, shape ``(B, names)``, with nan where a missing class would change the metric."""
        lost = ~self.whole(weights)
        return np.where(lost[:, None] & self.classwise, np.nan, values)

    def whole(self, weights: Weights) -> BoolArray:
        """Mask of the resamples with a positive and a negative row of every class, shape ``(B,)``."""
        kept = np.ones(len(weights), np.bool_)
        for rows in self.guarded:
            weight = weights[:, rows].sum(axis=1)
            kept &= (weight > 0) & (weight < self.rows)
        return kept


def check_options(resamples: int, level: float, seed: int) -> None:
    """Raise a `ScoreError` for an option that is out of range."""
    if resamples < 2:
        raise ScoreError(f"resamples={resamples}: pass 2 or more; 1000 is usual")
    check_level(level)
    if seed < 0:
        raise ScoreError(f"seed={seed}: pass 0 or a positive whole number")


def warn_unknown(intervals: Mapping[str, Interval]) -> None:
    """Warn about intervals that are nan."""
    unknown = [name for name, interval in intervals.items() if math.isnan(interval.low)]
    if unknown:
        text = f"no interval, because the metric is undefined or the rows are too few: {', '.join(unknown)}"
        warnings.warn(text, ScoreWarning, stacklevel=3)


def _interval(estimate: float, replicates: FloatArray, level: float) -> Interval:
    defined = replicates[~np.isnan(replicates)]
    if np.isnan(estimate) or defined.size < max(2, FEWEST * replicates.size):
        return Interval(estimate, np.nan, np.nan, level, np.nan, "bootstrap", int(defined.size))
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    error = float(np.std(defined, ddof=1))
    return Interval(estimate, float(low), float(high), level, error, "bootstrap", int(defined.size))


def _unknown(interval: Interval) -> Interval:
    return replace(interval, low=math.nan, high=math.nan)


def _p_value(differences: FloatArray) -> float:
    defined = differences[~np.isnan(differences)]
    smaller = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return min(1.0, 2 * (int(smaller) + 1) / (defined.size + 1))
