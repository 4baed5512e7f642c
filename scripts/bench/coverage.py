"""Measure how often 95 % intervals cover the truth, over test sets from a distribution with known AUC and ACC.

Every row has a class, drawn with the shares of the distribution, and one score column per class: normal with variance
1, and with a higher mean, by ``d``, in rows of that class. The true AUC is then ``Phi(d / sqrt(2))``, and the true ACC
is ``Phi(d / 2)`` or, for several classes, an integral over the normal density. A second set of scores adds noise to
the first.

``--others`` adds two intervals that the project does not use: the normal one, 1.96 standard errors to either side, and
the percentile bootstrap.

Example:
    python scripts/bench/coverage.py
    python scripts/bench/coverage.py --auc 0.85 --rows 100 --draws 500 --differences --others
"""

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, Final

import numpy as np
import typer

from medmnist_hf import console
from medmnist_hf.array_types import FloatArray, IntArray
from medmnist_hf.catalog import Task
from medmnist_hf.console.program import Program
from medmnist_hf.scoring.bootstrap import bootstrap, bootstrap_compare
from medmnist_hf.scoring.confidence import Interval, normal_quantile
from medmnist_hf.scoring.intervals import compare, intervals
from medmnist_hf.scoring.official import ScoreWarning
from medmnist_hf.scoring.predictions import check

EXAMPLE: Final = "python scripts/bench/coverage.py --auc 0.85 --rows 100 --draws 500 --differences --others"

app = Program(add_completion=False)

NAMES: Final = ("auc", "acc")
NOISE: Final = 0.75
"""Standard deviation of the noise of the second set of scores."""

_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Law:
    """A distribution of test sets.

    Attributes:
        name: Name in the table.
        task: The task.
        shares: Probability of each class, with a sum of 1; in the multi-label task, of each finding.
    """

    name: str
    task: Task
    shares: tuple[float, ...]


LAWS: Final = (
    Law("binary, balanced", Task.BINARY, (0.5, 0.5)),
    Law("binary, 9:1", Task.BINARY, (0.9, 0.1)),
    Law("4 classes, balanced", Task.MULTI_CLASS, (0.25, 0.25, 0.25, 0.25)),
    Law("4 classes, 7:1:1:1", Task.MULTI_CLASS, (0.7, 0.1, 0.1, 0.1)),
    Law("3 findings in 10, 20 and 40 %", Task.MULTI_LABEL, (0.1, 0.2, 0.4)),
)


@dataclass(frozen=True, slots=True)
class Coverage:
    """One line of the table.

    Attributes:
        law: Name of the distribution.
        rows: Rows of each test set.
        measure: ``auc`` or ``acc``, or ``auc difference`` or ``acc difference`` between two sets of scores.
        method: Method of the intervals.
        truth: The true value.
        covered: Share of intervals that contain it.
        above: Share of intervals above it.
        below: Share of intervals below it.
        width: Mean width of the intervals.
    """

    law: str
    rows: int
    measure: str
    method: str
    truth: float
    covered: float
    above: float
    below: float
    width: float


def gap(auc: float) -> float:
    """Difference of the means for which a column has this AUC."""
    return _NORMAL.inv_cdf(auc) * math.sqrt(2)


def truths(law: Law, distance: float, noise: float = 0.0) -> dict[str, float]:
    """True AUC and ACC of scores after adding noise with this standard deviation."""
    deviation = math.sqrt(1 + noise**2)
    auc = _NORMAL.cdf(distance / deviation / math.sqrt(2))
    if law.task is not Task.MULTI_CLASS:
        return {"auc": auc, "acc": _NORMAL.cdf(distance / deviation / 2)}
    # The correct column is the largest: density of its score, times the probability that all others are lower.
    scores = np.linspace(-10, 10 + distance, 20_001)
    lower = np.array([_NORMAL.cdf(score) for score in scores]) ** (len(law.shares) - 1)
    density = np.exp(-((scores - distance / deviation) ** 2) / 2) / math.sqrt(2 * math.pi)
    return {"auc": auc, "acc": float(np.sum(density * lower) * (scores[1] - scores[0]))}


def draw(law: Law, rows: int, distance: float, rng: np.random.Generator) -> tuple[IntArray, FloatArray, FloatArray]:
    """Draw a test set: references and two sets of scores, whose decision threshold is midway between both means."""
    if law.task is Task.MULTI_LABEL:
        references = (rng.random((rows, len(law.shares))) < law.shares).astype(np.intp)
        # Errors within one row are correlated, like those of one image.
        noise = (rng.normal(size=(rows, 1)) + rng.normal(size=references.shape)) / math.sqrt(2)
        scores = references * distance + noise
    else:
        references = rng.choice(len(law.shares), rows, p=law.shares)
        hot = references[:, None] == np.arange(len(law.shares))
        hot = hot[:, 1:] if law.task is Task.BINARY else hot
        scores = hot * distance + rng.normal(size=hot.shape)
    scores = scores + 0.5 - distance / 2
    return references, scores, scores + NOISE * rng.normal(size=scores.shape)


def measure(
    law: Law,
    rows: int,
    auc: float,
    *,
    draws: int,
    seed: int = 0,
    differences: bool = False,
    others: bool = False,
    resamples: int = 500,
) -> list[Coverage]:
    """Measure the coverage of the intervals of AUC and ACC under a distribution.

    Args:
        law: Distribution of test sets.
        rows: Rows of each test set.
        auc: True AUC of the first set of scores.
        draws: Number of test sets.
        seed: Seed of the draws.
        differences: Add the differences between the two sets of scores.
        others: Add the normal interval and the percentile bootstrap.
        resamples: Resamples of a bootstrap.
    """
    rng, distance = np.random.default_rng(seed), gap(auc)
    first, second = truths(law, distance), truths(law, distance, NOISE)
    by_method: dict[tuple[str, str], list[Interval]] = {}
    for number in range(draws):
        references, scores, noisy = draw(law, rows, distance, rng)
        predictions = check(references, scores, law.task, from_logits=False)
        for name, interval in intervals(predictions, NAMES).items():
            by_method.setdefault((name, interval.method), []).append(interval)
            if others:
                by_method.setdefault((name, "normal"), []).append(_normal(interval))
        if others:
            for name, interval in bootstrap(predictions, NAMES, resamples=resamples, seed=number).items():
                by_method.setdefault((name, interval.method), []).append(interval)
        if differences:
            other = check(references, noisy, law.task, from_logits=False)
            for name, each in compare(predictions, other, NAMES, resamples=resamples, seed=number).items():
                by_method.setdefault((f"{name} difference", each.difference.method), []).append(each.difference)
            if others:
                bootstrapped = bootstrap_compare(predictions, other, NAMES, resamples=resamples, seed=number)
                for name, each in bootstrapped.items():
                    by_method.setdefault((f"{name} difference", each.difference.method), []).append(each.difference)
    truth = first | {f"{name} difference": first[name] - second[name] for name in NAMES}
    return [_coverage(law, rows, name, how, truth[name], drawn) for (name, how), drawn in by_method.items()]


def _normal(interval: Interval) -> Interval:
    half = normal_quantile(interval.level) * interval.standard_error
    low, high = interval.estimate - half, interval.estimate + half
    return Interval(interval.estimate, low, high, interval.level, interval.standard_error, interval.method)


def _coverage(law: Law, rows: int, name: str, how: str, truth: float, drawn: Sequence[Interval]) -> Coverage:
    ends = np.array([(interval.low, interval.high) for interval in drawn])
    # A nan interval does not cover the truth.
    covered = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    above, below = np.mean(ends[:, 0] > truth), np.mean(ends[:, 1] < truth)
    width = float(np.nanmean(ends[:, 1] - ends[:, 0]))
    return Coverage(law.name, rows, name, how, truth, float(covered.mean()), float(above), float(below), width)


@app.command(epilog=f"Example: {EXAMPLE}")
def main(
    rows: Annotated[list[int] | None, typer.Option(help="Rows per test set; repeatable. [default: 100, 1000]")] = None,
    auc: Annotated[list[float] | None, typer.Option(help="True AUCs, 0.5 to 1; repeatable. [default: 0.85]")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Test sets per case.")] = 2000,
    differences: Annotated[bool, typer.Option("--differences", help="Add paired differences of two scores.")] = False,
    others: Annotated[
        bool, typer.Option("--others", help="Add the normal interval and the percentile bootstrap.")
    ] = False,
    resamples: Annotated[int, typer.Option(min=2, help="Resamples of a bootstrap.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of the table.")] = False,
) -> None:
    """Measure how often 95 % intervals cover the truth, over test sets from distributions with known AUC and ACC."""
    # A small test set occasionally has a single positive row: its interval is nan, which counts as not covering.
    warnings.simplefilter("ignore", ScoreWarning)
    coverages = []
    if not as_json:
        print("| test sets | rows | measure | method | truth | covered | above | below | width |")
        print("| --- | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for true in auc or [0.85]:
        for law, count in itertools.product(LAWS, rows or [100, 1000]):
            options = {"draws": draws, "seed": seed, "resamples": resamples}
            lines = measure(law, count, true, differences=differences, others=others, **options)
            coverages += lines
            for line in () if as_json else lines:
                shares = " | ".join(f"{100 * share:.1f} %" for share in (line.covered, line.above, line.below))
                case = f"{line.law} | {line.rows:,} | {line.measure} | {line.method} | {line.truth:.3f}"
                print(f"| {case} | {shares} | {line.width:.3f} |", flush=True)
    if as_json:
        console.print_json(coverages)


if __name__ == "__main__":
    console.run(app)
