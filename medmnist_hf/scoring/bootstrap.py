"""How sure a number is: bootstrap intervals of any metric, and paired comparison of two sets of predictions.

Example:
    >>> from medmnist_hf.scoring.bootstrap import bootstrap
    >>> from medmnist_hf.scoring.predictions import check
    >>> intervals = bootstrap(check([0, 1, 1, 0], [0.2, 0.9, 0.4, 0.3], "binary-class"), ["auc"])
    >>> intervals["auc"].low, intervals["auc"].high
    (1.0, 1.0)
"""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from medmnist_hf.array_types import FloatArray, IntArray, Weights
from medmnist_hf.errors import ScoreError
from medmnist_hf.scoring.metrics import Weighted, evaluate, expand
from medmnist_hf.scoring.official import ScoreWarning
from medmnist_hf.scoring.predictions import Predictions, check_paired

BLOCK: Final = 1 << 17
"""Row weights held at a time; with what is made of them some 30 bytes each, and little enough for the cache."""

REDRAWS: Final = 100
"""Draws given up for each resample wanted before the rarest class is said to be too rare."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and the range it may be in.

    Attributes:
        estimate: The value on the rows as they are.
        low: Lower end.
        high: Upper end.
        level: Confidence level, e.g. 0.95.
        standard_error: Standard deviation of the replicates, or the square root of the DeLong variance.
        resamples: Replicates that had a value; 0 if the interval is not a bootstrap.
        redrawn: Draws given up because a class had lost all its positive or all its negative rows.
    """

    estimate: float
    low: float
    high: float
    level: float
    standard_error: float
    resamples: int = 0
    redrawn: int = 0


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


def bootstrap(
    predictions: Predictions,
    names: Iterable[str] = ("auc", "acc"),
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    stratified: bool = True,
) -> dict[str, Interval]:
    """Percentile bootstrap intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

    Percentiles, because they stay within the range of a metric and suit one that is bounded and skewed, as an AUC
    near 1 is; the corrected variants need a replicate for each row left out, 47,280 for TissueMNIST.

    Rows of the single-label tasks are drawn within each class: the class counts are facts of a split, and no class
    can vanish. An interval then speaks of other rows with the same class counts; of accuracy it is a little
    narrower than that of plain draws, which ``stratified=False`` gives. Rows of the multi-label task are always
    drawn from all: the combinations of findings are too many, and most too rare, to be strata that could vary.
    Where rows are drawn from all, a draw in which a class lost its last positive or negative row is drawn again,
    and counted. Classes that the references lack stay left out of means.

    Args:
        predictions: Scores and references from `medmnist_hf.scoring.predictions.check`.
        names: Metrics as for `medmnist_hf.scoring.metrics.metrics`.
        resamples: Number of resamples; 1,000 fix the ends of a 95 % interval to a few percent of its width.
        level: Confidence level between 0 and 1.
        seed: The same seed draws the same resamples, whatever the metrics and the machine.
        stratified: Draw within each class (single-label tasks).

    Returns:
        Name -> interval, in the order asked for.

    Raises:
        ScoreError: An option is out of range, a metric is unknown, or the rows are too few to be resampled.

    Warns:
        ScoreWarning: A metric is undefined on these rows; its interval is nan.
    """
    names = expand(predictions, names)
    _options(resamples, level, seed)
    draws = _Draws(predictions, resamples, seed, stratified)
    estimates = evaluate(Weighted(predictions), names)[0]
    _warn_undefined(names, estimates)
    replicates = np.concatenate([evaluate(Weighted(predictions, block), names) for block in draws])
    return {
        name: _interval(float(estimates[at]), replicates[:, at], level, draws.redrawn) for at, name in enumerate(names)
    }


def compare(
    first: Predictions,
    second: Predictions,
    names: Iterable[str] = ("auc", "acc"),
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    stratified: bool = True,
) -> dict[str, Comparison]:
    """Paired bootstrap of ``first - second``: both sets of scores are resampled by the same draws.

    The p value is the one whose interval just touches 0: twice the smaller share of replicates on either side of 0,
    with one added to each count (Efron and Tibshirani 1993, section 15.4; Davison and Hinkley, Bootstrap Methods and
    their Application, 1997, section 4.2). It cannot be smaller than ``2 / (resamples + 1)``.

    Args:
        first: One set of predictions.
        second: The other, of the same rows.
        names: Metrics as for `bootstrap`, like all that follow.
        resamples: Number of resamples.
        level: Confidence level between 0 and 1.
        seed: Seed of the draws.
        stratified: Draw within each class (single-label tasks).

    Returns:
        Name -> comparison, in the order asked for.

    Raises:
        ScoreError: As for `bootstrap`, or the two sets are not of the same task and rows.

    Warns:
        ScoreWarning: A metric is undefined on these rows; its comparison is nan.
    """
    check_paired(first, second)
    names = expand(first, names)
    _options(resamples, level, seed)
    draws = _Draws(first, resamples, seed, stratified)
    values, others = (evaluate(Weighted(predictions), names)[0] for predictions in (first, second))
    _warn_undefined(names, values - others)
    differences = np.concatenate(
        [evaluate(Weighted(first, block), names) - evaluate(Weighted(second, block), names) for block in draws]
    )
    comparisons = {}
    for at, name in enumerate(names):
        value, other = float(values[at]), float(others[at])
        difference = _interval(value - other, differences[:, at], level, draws.redrawn)
        comparisons[name] = Comparison(value, other, difference, _p_value(differences[:, at]))
    return comparisons


class _Draws:
    """Resamples as row weights in blocks of shape ``(B, N)``, B as `BLOCK` allows; the draws ignore the blocks."""

    def __init__(self, predictions: Predictions, resamples: int, seed: int, stratified: bool) -> None:
        self.rows = predictions.rows
        self.resamples = resamples
        self.rng = np.random.default_rng(seed)
        self.redrawn = 0
        self.predictions = predictions
        self.strata = [np.arange(predictions.rows)]
        self.guarded: list[IntArray] = []
        if stratified and predictions.ids is not None:
            order = np.argsort(predictions.ids, kind="stable")
            self.strata = np.split(order, np.flatnonzero(np.diff(predictions.ids[order])) + 1)
        else:
            sides = [predictions.positive(label) for label in range(predictions.labels)]
            # Guarding the rarer side suffices: a class is lost when that side's weight is 0 or N.
            fewer = [
                np.flatnonzero(side if 2 * np.count_nonzero(side) <= predictions.rows else ~side) for side in sides
            ]
            self.guarded = [rows for rows in fewer if rows.size]
        if max(map(len, self.strata)) < 2:
            raise ScoreError(
                f"{predictions.rows} row(s) of as many classes: resampling needs a class with two rows or more"
            )

    def __iter__(self) -> Iterator[Weights]:
        size = max(1, BLOCK // self.rows)
        for start in range(0, self.resamples, size):
            yield np.stack([self._draw() for _ in range(min(size, self.resamples - start))])

    def _draw(self) -> Weights:
        while True:
            weights = np.empty(self.rows, np.uint8)
            for rows in self.strata:
                drawn = self.rng.integers(0, len(rows), len(rows), dtype=np.int64)
                # Counts are near Poisson of mean 1: 256 of one row has a chance of less than 1 in 10^500.
                weights[rows] = np.bincount(drawn, minlength=len(rows))
            if all(0 < weights[rows].sum() < self.rows for rows in self.guarded):
                return weights
            self.redrawn += 1
            if self.redrawn > REDRAWS * self.resamples:
                raise ScoreError(
                    f"{self.predictions.rows} rows have a class too rare to stay in a resample: give more rows"
                    + (" or pass stratified=True" if self.predictions.ids is not None else "")
                )


def _options(resamples: int, level: float, seed: int) -> None:
    if resamples < 2:
        raise ScoreError(f"resamples={resamples}: pass 2 or more; 1000 is usual")
    if not 0 < level < 1:
        raise ScoreError(f"level={level}: pass a confidence level between 0 and 1, such as 0.95")
    if seed < 0:
        raise ScoreError(f"seed={seed}: pass 0 or a positive whole number")


def _warn_undefined(names: list[str], values: FloatArray) -> None:
    undefined = [name for name, value in zip(names, values, strict=True) if np.isnan(value)]
    if undefined:
        warnings.warn(f"undefined on these rows, interval nan: {', '.join(undefined)}", ScoreWarning, stacklevel=3)


def _interval(estimate: float, replicates: FloatArray, level: float, redrawn: int) -> Interval:
    defined = replicates[~np.isnan(replicates)]
    if np.isnan(estimate) or defined.size < 2:
        return Interval(estimate, np.nan, np.nan, level, np.nan, int(defined.size), redrawn)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    error = float(np.std(defined, ddof=1))
    return Interval(estimate, float(low), float(high), level, error, int(defined.size), redrawn)


def _p_value(differences: FloatArray) -> float:
    defined = differences[~np.isnan(differences)]
    if not defined.size:
        return float("nan")
    smaller = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return min(1.0, 2 * (int(smaller) + 1) / (defined.size + 1))
