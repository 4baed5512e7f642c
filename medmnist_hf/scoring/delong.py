"""DeLong's variance of the AUC of one class or of the mean over classes: intervals and a paired test.

E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics 44:837, 1988. The components are computed by sorting,
in ``N log N``, as by X. Sun and W. Xu (IEEE Signal Processing Letters 21:1389, 2014).

The effect of a row on an AUC is the distance of its component from the AUC, divided by the number of rows on its side
(positive or negative). DeLong's variance is the sum of the squared effects. Effects of a row on the AUCs of several
classes average to its effect on their mean, so no covariance between classes has to be formed. If few rows carry most
of the effect, the variance is estimated from few rows; hence Student's distribution, with degrees of freedom computed
from the effects.

Example:
    >>> from medmnist_hf.scoring.delong import delong
    >>> from medmnist_hf.scoring.predictions import check
    >>> round(delong(check([0, 1, 1, 0], [0.2, 0.9, 0.4, 0.5], "binary-class"))["auc"].standard_error, 3)
    0.354
"""

import math
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

from medmnist_hf.array_types import Array, BoolArray, FloatArray
from medmnist_hf.scoring.auc import mean_defined
from medmnist_hf.scoring.confidence import (
    Comparison,
    Interval,
    check_level,
    normal_quantile,
    student_p,
    student_quantile,
)
from medmnist_hf.scoring.official import class_aucs
from medmnist_hf.scoring.predictions import Predictions, check_paired


def components(column: Array, positive: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Structural components of an AUC; the mean of either array is the AUC.

    Args:
        column: Scores, shape ``(N,)``.
        positive: Mask of the P positive rows, shape ``(N,)``.

    Returns:
        For each positive row the share of negative rows that score lower, shape ``(P,)``, and for each negative row
        the share of positive rows that score higher, shape ``(N - P,)``; ties count one half.
    """
    hits, rest = column[positive], column[~positive]
    above = _twice_below(rest, hits) / (2 * rest.size)
    return above, 1 - _twice_below(hits, rest) / (2 * hits.size)


def delong(predictions: Predictions, names: Iterable[str] = ("auc",), *, level: float = 0.95) -> dict[str, Interval]:
    """AUC with an interval from DeLong's variance, on the logit scale and with Student's distribution.

    The logit suits a bounded, skewed value (G. Qin and L. Hotilovac, Stat. Methods Med. Res. 17:207, 2008); Student's
    distribution follows M. Pauly, T. Asendorf and F. Konietschke (Biometrical Journal 58:1319, 2016). The variance of
    a perfect ranking is 0, although another test set may contain errors; its interval is R. G. Newcombe's method 5
    (Stat. Med. 25:559, 2006), averaged over the classes.

    Args:
        predictions: Scores and references from `medmnist_hf.scoring.predictions.check`.
        names: ``"auc"`` for the mean over classes, ``"auc:3"`` for class 3 against the rest.
        level: Confidence level between 0 and 1.

    Returns:
        Name -> interval; nan if a class with an AUC has fewer than two positive or two negative rows.

    Raises:
        ScoreError: The level is out of range.
    """
    check_level(level)
    ranked = _Ranked(predictions)
    return {name: _interval(ranked, name, level) for name in names}


def delong_compare(
    first: Predictions, second: Predictions, names: Iterable[str] = ("auc",), *, level: float = 0.95
) -> dict[str, Comparison]:
    """DeLong's paired test of ``AUC(first) - AUC(second)`` on the same rows, with Student's distribution.

    Args:
        first: One set of predictions.
        second: Predictions of the same rows.
        names: As for `delong`.
        level: Confidence level between 0 and 1.

    Returns:
        Name -> comparison; nan where the interval of `delong` is nan. If the difference has no variance, its interval
        has width 0, and p is 1 for a difference of 0 and 0 otherwise.

    Raises:
        ScoreError: The level is out of range, or the two sets differ in task or rows.
    """
    return delong_compare_means([first], [second], names, level=level)


def delong_compare_means(
    first: Sequence[Predictions],
    second: Sequence[Predictions],
    names: Iterable[str] = ("auc",),
    *,
    level: float = 0.95,
) -> dict[str, Comparison]:
    """DeLong's paired test of the difference of two mean AUCs, each over several predictions of the same rows.

    Effects of a row on the AUCs of several predictions average to its effect on their mean. Predictions of several
    seeds are compared like this; the test takes the seeds as given, so it does not say how much others would differ.

    Args:
        first: One or more predictions.
        second: One or more predictions of the same rows.
        names: As for `delong`.
        level: Confidence level between 0 and 1.

    Returns:
        As for `delong_compare`.

    Raises:
        ScoreError: The level is out of range, or the predictions differ in task or rows.
    """
    for other in (*first[1:], *second):
        check_paired(first[0], other)
    check_level(level)
    own, others = (_Mean([_Ranked(each) for each in predictions]) for predictions in (first, second))
    return {name: _comparison(own, others, name, level) for name in names}


class _Ranked:
    """AUCs of a set of predictions and the effects of the rows on them, each computed once."""

    def __init__(self, predictions: Predictions) -> None:
        self.predictions = predictions
        self.values = np.array(class_aucs(predictions))
        self.effects_on = cache(self._effects_on)

    def labels(self, name: str) -> list[int]:
        """The columns with a defined AUC that a name averages. Both classes of the binary task share one column."""
        _, _, label = name.partition(":")
        labels = [int(label)] if label and self.predictions.labels > 1 else range(self.predictions.labels)
        return [at for at in labels if not math.isnan(self.values[at])]

    def value(self, name: str) -> float:
        """The AUC, or the mean over classes summed in the official evaluator's order; nan if no AUC is defined."""
        return float(mean_defined(self.values[None, self.labels(name)])[0])

    def effects(self, name: str) -> FloatArray:
        """Effects of the rows on the AUC of a name, shape ``(N,)``; their squares sum to its variance."""
        labels = self.labels(name)
        total = np.zeros(self.predictions.rows)
        for at in labels:
            total += self.effects_on(at)
        return total / max(1, len(labels))

    def widening(self, name: str) -> float:
        """Small-sample factor of standard errors, ``sqrt(1 + 1 / M)``, for M rows on the rarer side of a class.

        For a mean over classes, ``1 / M`` is averaged over the classes. Without the factor, simulated intervals
        (``scripts/bench/coverage.py``) cover one percentage point too little with ten positive rows; from a hundred
        on, it makes no difference.
        """
        rows, labels = self.predictions.rows, self.labels(name)
        positive = np.array([np.count_nonzero(self.predictions.positive(at)) for at in labels])
        return math.sqrt(1 + float(np.mean(1 / np.minimum(positive, rows - positive))))

    def _effects_on(self, label: int) -> FloatArray:
        positive = self.predictions.positive(label)
        effects = np.empty(self.predictions.rows)
        sides = components(self.predictions.columns[label], positive)
        for side, values in zip((positive, ~positive), sides, strict=True):
            # The variance of a single row is undefined: nan.
            scale = math.sqrt(values.size * (values.size - 1)) or math.nan
            effects[side] = (values - values.mean()) / scale
        return effects


class _Mean:
    """Means of the AUCs of several predictions of the same rows, and the effects of the rows on them."""

    def __init__(self, parts: Sequence[_Ranked]) -> None:
        self.parts = parts

    def value(self, name: str) -> float:
        return float(np.mean([part.value(name) for part in self.parts]))

    def effects(self, name: str) -> FloatArray:
        return np.asarray(np.mean([part.effects(name) for part in self.parts], axis=0))

    def widening(self, name: str) -> float:
        return self.parts[0].widening(name)


def _interval(ranked: _Ranked, name: str, level: float) -> Interval:
    value, effects = ranked.value(name), ranked.effects(name)
    variance = float(np.square(effects).sum())
    if math.isnan(value + variance):
        return Interval(value, math.nan, math.nan, level, math.nan, "DeLong")
    if variance == 0:
        ends = [_newcombe(ranked, label, level) for label in ranked.labels(name)]
        low, high = np.mean(ends, axis=0).tolist()
        return Interval(value, low, high, level, 0.0, "DeLong")
    error, odds = math.sqrt(variance), math.log(value / (1 - value))
    half = student_quantile(level, _freedom(effects)) * error * ranked.widening(name) / (value * (1 - value))
    # The logistic function written as tanh, which cannot overflow.
    low, high = ((1 + math.tanh((odds + side) / 2)) / 2 for side in (-half, half))
    return Interval(value, low, high, level, error, "DeLong")


def _comparison(first: _Mean, second: _Mean, name: str, level: float) -> Comparison:
    value, other = first.value(name), second.value(name)
    # The variance of the differences of paired components already includes their covariance.
    effects = first.effects(name) - second.effects(name)
    difference, error = value - other, math.sqrt(float(np.square(effects).sum()))
    if math.isnan(difference + error):
        unknown = Interval(difference, math.nan, math.nan, level, math.nan, "DeLong")
        return Comparison(value, other, unknown, math.nan)
    half, p = 0.0, float(difference == 0)
    if error > 0:
        freedom, widened = _freedom(effects), error * first.widening(name)
        half, p = student_quantile(level, freedom) * widened, student_p(difference / widened, freedom)
    low, high = max(-1.0, difference - half), min(1.0, difference + half)
    return Comparison(value, other, Interval(difference, low, high, level, error, "DeLong"), p)


def _freedom(effects: FloatArray) -> float:
    """Degrees of freedom of a sum of squared effects, 3 to 3 N.

    ``3 * sum(e^2)^2 / sum(e^4)``. For normal effects on both sides these are the degrees of freedom of F. E.
    Satterthwaite (Biometrics Bulletin 2:110, 1946) and of E. Brunner and U. Munzel (Biometrical Journal 42:17, 2000).
    """
    shares = np.square(effects) / np.square(effects).sum()
    return float(3 / np.square(shares).sum())


def _newcombe(ranked: _Ranked, label: int, level: float) -> tuple[float, float]:
    """Newcombe's method 5: the AUCs that a test with their own variance just does not reject given the observed one.

    The variance is that of Hanley and McNeil (Radiology 143:29, 1982), with both group sizes in its numerator replaced
    by their mean ``M = N / 2``: ``A (1 - A) (1 + (M - 1) ((1 - A) / (2 - A) + A / (1 + A))) / (P (N - P))``.
    """
    value, rows = float(ranked.values[label]), ranked.predictions.rows
    positive = int(np.count_nonzero(ranked.predictions.positive(label)))
    deviate = normal_quantile(level)

    def too_far(auc: float) -> bool:
        shape = (1 - auc) / (2 - auc) + auc / (1 + auc)
        variance = auc * (1 - auc) * (1 + (rows / 2 - 1) * shape) / (positive * (rows - positive))
        return abs(value - auc) > deviate * math.sqrt(variance)

    ends = []
    for end in (0.0, 1.0):
        outer, inner = end, value
        for _ in range(50):
            middle = (outer + inner) / 2
            outer, inner = (middle, inner) if too_far(middle) else (outer, middle)
        ends.append(inner)
    return ends[0], ends[1]


def _twice_below(values: Array, at: Array) -> FloatArray:
    """For each number in ``at``, twice the count of smaller values plus the count of equal ones; shape of ``at``."""
    ranked = np.sort(values)
    order = np.argsort(at)
    counts = np.empty(at.size)
    # searchsorted is several times faster on sorted needles.
    needles = at[order]
    counts[order] = np.searchsorted(ranked, needles, side="left") + np.searchsorted(ranked, needles, side="right")
    return counts
