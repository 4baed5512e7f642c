"""DeLong's variance of the AUC, of one class or of their mean: intervals and the paired test, without resampling.

E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics 44:837, 1988. The components are found by sorting, in
``N log N``, as X. Sun and W. Xu do it (IEEE Signal Processing Letters 21:1389, 2014).

A row has an effect on each AUC: how far its component is from the AUC, as a share of the rows on its side. The sum of
their squares is DeLong's variance; the effects of a row on several AUCs add up to the one on their mean, so that the
classes, which are ranked on the same rows, need no covariance to be formed. The sum is known from few rows if
few of them have most of the effect: hence Student's distribution, whose degrees of freedom come from the effects.

Example:
    >>> from medmnist_hf.scoring.delong import delong
    >>> from medmnist_hf.scoring.predictions import check
    >>> round(delong(check([0, 1, 1, 0], [0.2, 0.9, 0.4, 0.5], "binary-class"))["auc"].standard_error, 3)
    0.354
"""

import math
from collections.abc import Iterable
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


def delong(predictions: Predictions, names: Iterable[str] = ("auc",), *, level: float = 0.95) -> dict[str, Interval]:
    """AUC with an interval by DeLong's variance, on the scale of its logit and by Student's distribution.

    The logit, because the AUC is bounded and its distribution skewed (G. Qin and L. Hotilovac, Stat. Methods Med. Res.
    17:207, 2008); Student's distribution as M. Pauly, T. Asendorf and F. Konietschke have it (Biometrical Journal
    58:1319, 2016). Where no row has an effect, as under a ranking without an error, the variance is 0 and tells
    nothing: there the interval is the mean of R. G. Newcombe's method 5 over the classes (Stat. Med. 25:559, 2006).

    Args:
        predictions: Scores and references from `medmnist_hf.scoring.predictions.check`.
        names: ``"auc"`` for the mean over classes, ``"auc:3"`` for class 3 against the rest.
        level: Confidence level between 0 and 1.

    Returns:
        Name -> interval. It is nan where a class has an AUC, but fewer than two positive or two negative rows.

    Raises:
        ScoreError: The level is out of range.
    """
    check_level(level)
    ranked = _Ranked(predictions)
    return {name: _interval(ranked, name, level) for name in names}


def delong_compare(
    first: Predictions, second: Predictions, names: Iterable[str] = ("auc",), *, level: float = 0.95
) -> dict[str, Comparison]:
    """DeLong's paired test of ``AUC(first) - AUC(second)`` on the same rows, by Student's distribution.

    Args:
        first: One set of predictions.
        second: The other, of the same rows.
        names: As for `delong`.
        level: Confidence level between 0 and 1.

    Returns:
        Name -> comparison; nan where `delong` is. If the difference does not vary at all, its interval has width 0,
        and p is 1 when it is 0 and else 0.

    Raises:
        ScoreError: The level is out of range, or the two sets are not of the same task and rows.
    """
    check_paired(first, second)
    check_level(level)
    ranked = _Ranked(first), _Ranked(second)
    return {name: _comparison(*ranked, name, level) for name in names}


class _Ranked:
    """AUCs of some predictions, and the effects of the rows on them, each computed once."""

    def __init__(self, predictions: Predictions) -> None:
        self.predictions = predictions
        self.values = np.array(class_aucs(predictions))
        self.effects_on = cache(self._effects_on)

    def labels(self, name: str) -> list[int]:
        """The columns that a name is a mean of: those that have an AUC. Both classes of the binary task have one."""
        _, _, label = name.partition(":")
        labels = [int(label)] if label and self.predictions.labels > 1 else range(self.predictions.labels)
        return [at for at in labels if not math.isnan(self.values[at])]

    def value(self, name: str) -> float:
        """The AUC, or the mean of them in the order of the official evaluator; nan if there is none."""
        return float(mean_defined(self.values[None, self.labels(name)])[0])

    def effects(self, name: str) -> FloatArray:
        """Effects of the rows on the AUC of a name, shape ``(N,)``: their squares sum to its variance."""
        labels = self.labels(name)
        total = np.zeros(self.predictions.rows)
        for at in labels:
            total += self.effects_on(at)
        return total / max(1, len(labels))

    def widening(self, name: str) -> float:
        """What standard errors are multiplied by, ``sqrt(1 + 1 / M)``, M the rows of the rarer side of a class.

        By simulation (``scripts/bench/coverage.py``): with ten positive rows intervals cover one percent too seldom
        without it, and from a hundred on it changes nothing. Of a mean over classes, ``1 / M`` is their mean.
        """
        rows, labels = self.predictions.rows, self.labels(name)
        positive = np.array([np.count_nonzero(self.predictions.positive(at)) for at in labels])
        return math.sqrt(1 + float(np.mean(1 / np.minimum(positive, rows - positive))))

    def _effects_on(self, label: int) -> FloatArray:
        positive = self.predictions.positive(label)
        effects = np.empty(self.predictions.rows)
        sides = components(self.predictions.columns[label], positive)
        for side, values in zip((positive, ~positive), sides, strict=True):
            # Of one row there is no variance, and nan says so.
            scale = math.sqrt(values.size * (values.size - 1)) or math.nan
            effects[side] = (values - values.mean()) / scale
        return effects


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
    # The logistic function as a tangent, which no logit overflows.
    low, high = ((1 + math.tanh((odds + side) / 2)) / 2 for side in (-half, half))
    return Interval(value, low, high, level, error, "DeLong")


def _comparison(first: _Ranked, second: _Ranked, name: str, level: float) -> Comparison:
    value, other = first.value(name), second.value(name)
    # The variance of a difference of paired components is that of the difference itself: no covariance to form.
    effects = first.effects(name) - second.effects(name)
    difference, error = value - other, math.sqrt(float(np.square(effects).sum()))
    if math.isnan(difference + error):
        unknown = Interval(difference, math.nan, math.nan, level, math.nan, "DeLong")
        return Comparison(value, other, unknown, math.nan)
    half, p = 0.0, float(difference == 0)
    if error > 0:
        freedom, error_of_few = _freedom(effects), error * first.widening(name)
        half, p = student_quantile(level, freedom) * error_of_few, student_p(difference / error_of_few, freedom)
    low, high = max(-1.0, difference - half), min(1.0, difference + half)
    return Comparison(value, other, Interval(difference, low, high, level, error, "DeLong"), p)


def _freedom(effects: FloatArray) -> float:
    """Degrees of freedom of a sum of squares of effects, 3 to 3 N.

    ``3 * sum(e^2)^2 / sum(e^4)``: for normal effects on two sides, those of F. E. Satterthwaite (Biometrics Bulletin
    2:110, 1946) and of E. Brunner and U. Munzel (Biometrical Journal 42:17, 2000).
    """
    shares = np.square(effects) / np.square(effects).sum()
    return float(3 / np.square(shares).sum())


def _newcombe(ranked: _Ranked, label: int, level: float) -> tuple[float, float]:
    """Newcombe's method 5: AUCs from which the one found is just not too far, by the variance that they would have.

    The variance is that of Hanley and McNeil (Radiology 143:29, 1982) with both sides of the same size, the mean of
    the two: ``A (1 - A) (1 + (M - 1) ((1 - A) / (2 - A) + A / (1 + A))) / (P (N - P))``, M the half of N.
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
    """Twice the number of values below each of the others, one for each equal, shape of ``at``."""
    ranked = np.sort(values)
    order = np.argsort(at)
    counts = np.empty(at.size)
    # Sorted needles find their places several times faster.
    needles = at[order]
    counts[order] = np.searchsorted(ranked, needles, side="left") + np.searchsorted(ranked, needles, side="right")
    return counts
