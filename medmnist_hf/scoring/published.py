"""Results that others published on MedMNIST, and where a result of one's own stands among them.

The rows of ``published_results.csv`` are those of the MedMNIST v2 paper (Yang et al., Scientific Data 10:41, 2023) as
the project page prints them; ``published_results.toml`` says what must be known of them.

Example:
    >>> from medmnist_hf.manifest import Provenance
    >>> from medmnist_hf.scoring.published import published_results, stand
    >>> published_results("breastmnist")[0]
    PublishedResult(method='ResNet-18 (28)', subset='breastmnist', auc=0.901, acc=0.863)
    >>> stand("breastmnist", auc=0.913, acc=0.846, provenance=Provenance.VERIFIED).auc_rank
    2
"""

import csv
import math
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from medmnist_hf.catalog import subset
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.confidence import Interval

DIGITS: Final = 3
"""Decimals of the published scores."""

_HALF_DIGIT: Final = 0.5 * 10**-DIGITS * (1 + 1e-9)


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """One method's test score on one subset.

    Attributes:
        method: The method as published, e.g. ``ResNet-18 (28)``.
        subset: Flag of the subset.
        auc: Area under the ROC curve by the official definition, 0 to 1, three decimals.
        acc: Accuracy by the official definition, 0 to 1, three decimals.
    """

    method: str
    subset: str
    auc: float
    acc: float


@dataclass(frozen=True, slots=True)
class Beside:
    """A result beside one published row.

    Attributes:
        published: The row.
        auc_difference: The result's AUC, to three decimals as the row has them, minus the row's.
        acc_difference: The same of ACC.
        auc_covered: Whether the interval of the AUC holds a number that rounds to the row's; None without an interval.
        acc_covered: The same of ACC.
    """

    published: PublishedResult
    auc_difference: float
    acc_difference: float
    auc_covered: bool | None
    acc_covered: bool | None


@dataclass(frozen=True, slots=True)
class Standing:
    """A result among the published rows of its subset.

    Attributes:
        auc_rank: Place by AUC, see `rank`; None where it is undefined.
        acc_rank: Place by ACC, likewise.
        places: Number of places: the published rows and one.
        beside: The result beside each published row, in the order of the published table.
    """

    auc_rank: int | None
    acc_rank: int | None
    places: int
    beside: tuple[Beside, ...]


@dataclass(frozen=True, slots=True)
class LeaderboardRow:
    """One line of a leaderboard.

    Attributes:
        name: The method as published, or the name of a result of one's own.
        auc: AUC, 0 to 1.
        acc: ACC, 0 to 1.
        own: It is not a published row.
        auc_rank: Place by AUC among the published rows and itself, see `rank`.
        acc_rank: Place by ACC, likewise.
    """

    name: str
    auc: float
    acc: float
    own: bool
    auc_rank: int | None
    acc_rank: int | None


def _read(name: str) -> str:
    return resources.files("medmnist_hf.scoring").joinpath(name).read_text(encoding="utf-8")


@cache
def _rows() -> tuple[PublishedResult, ...]:
    table = csv.DictReader(_read("published_results.csv").splitlines())
    return tuple(
        PublishedResult(method=row["method"], subset=row["subset"], auc=float(row["auc"]), acc=float(row["acc"]))
        for row in table
    )


@cache
def _facts() -> dict[str, Any]:
    return tomllib.loads(_read("published_results.toml"))


def published_results(flag: str) -> tuple[PublishedResult, ...]:
    """The published results of one subset, in the order of the published table.

    Args:
        flag: Flag of the subset, in any letter case.

    Raises:
        CatalogError: The flag is unknown.
    """
    name = subset(flag).flag
    return tuple(row for row in _rows() if row.subset == name)


def published_notes(flag: str) -> tuple[str, ...]:
    """What must be known before comparing with the published results of a subset; may be empty.

    Args:
        flag: Flag of the subset, in any letter case.

    Raises:
        CatalogError: The flag is unknown.
    """
    rows = published_results(flag)
    name, methods = subset(flag).flag, {row.method for row in rows}
    return tuple(
        note["text"]
        for note in _facts()["notes"]
        if name in note.get("subsets", ()) or not methods.isdisjoint(note.get("methods", ()))
    )


def published_size() -> int:
    """Edge length of the files from which all published results were computed, in pixels or voxels."""
    return int(_facts()["rows"]["size"])


def published_split() -> str:
    """The split that all published results are of."""
    return str(_facts()["rows"]["split"])


def rank(value: float, published: Sequence[float]) -> int | None:
    """Place of a score among published ones and itself, 1 for the best: equals to three decimals share a place.

    This is the one meaning of a place wherever one is shown. It depends on the published scores alone: what else was
    tried, and how often, moves nobody.

    Args:
        value: A score, 0 to 1 or nan.
        published: The published scores; its own among them makes no difference.

    Returns:
        The place; None where the score is undefined or nothing is published.
    """
    own = _rounded(value)
    return None if math.isnan(own) or not published else 1 + sum(_rounded(other) > own for other in published)


def stand(flag: str, auc: float | Interval, acc: float | Interval, *, provenance: Provenance) -> Standing | None:
    """Put a result beside the published ones of its subset.

    Published scores have three decimals. A result is rounded as they are before it is ranked and subtracted, and its
    interval covers a published score if it holds any number that rounds to it. The interval tells of the chance of
    the test rows alone, not of that of training again.

    Args:
        flag: Flag of the subset, in any letter case.
        auc: AUC of the result, alone or with its interval (`medmnist_hf.scoring.intervals.intervals`).
        acc: ACC of the result, likewise.
        provenance: What the data is that the result was reached on.

    Returns:
        The standing; None on data that is not verified, which nothing published is of, and where nothing is published.

    Raises:
        CatalogError: The flag is unknown.
    """
    rows = published_results(flag)
    if not (rows and provenance.comparable):
        return None
    own_auc, own_acc = _estimate(auc), _estimate(acc)
    return Standing(
        auc_rank=rank(own_auc, [row.auc for row in rows]),
        acc_rank=rank(own_acc, [row.acc for row in rows]),
        places=len(rows) + 1,
        beside=tuple(
            Beside(
                published=row,
                auc_difference=_rounded(_rounded(own_auc) - row.auc),
                acc_difference=_rounded(_rounded(own_acc) - row.acc),
                auc_covered=_covers(auc, row.auc),
                acc_covered=_covers(acc, row.acc),
            )
            for row in rows
        ),
    )


def leaderboard(
    flag: str, own: Iterable[tuple[str, float, float]] = (), *, provenance: Provenance
) -> tuple[LeaderboardRow, ...]:
    """Results of one's own, on verified data among the published rows, by AUC to three decimals, then by ACC.

    Args:
        flag: Flag of the subset, in any letter case.
        own: Name, AUC and ACC of each result of one's own, on the test split.
        provenance: What the data is that they were reached on. Published rows and places are for verified data alone.

    Raises:
        CatalogError: The flag is unknown.
    """
    published = published_results(flag) if provenance.comparable else ()
    aucs, accs = [row.auc for row in published], [row.acc for row in published]
    rows = [
        LeaderboardRow(
            row.method,
            row.auc,
            row.acc,
            own=False,
            auc_rank=rank(row.auc, aucs),
            acc_rank=rank(row.acc, accs),
        )
        for row in published
    ]
    rows += [LeaderboardRow(name, auc, acc, True, rank(auc, aucs), rank(acc, accs)) for name, auc, acc in own]
    return tuple(sorted(rows, key=lambda row: (_falling(row.auc), _falling(row.acc))))


def _falling(value: float) -> float:
    """A key to sort scores by: rounded as they are shown, the best first, undefined ones last."""
    return math.inf if math.isnan(value) else -_rounded(value)


def _rounded(value: float) -> float:
    # The text, because it is how the published scores and the names of prediction files were rounded.
    return float(f"{value:.{DIGITS}f}") + 0.0


def _estimate(value: float | Interval) -> float:
    return value.estimate if isinstance(value, Interval) else value


def _covers(value: float | Interval, published: float) -> bool | None:
    if not isinstance(value, Interval) or math.isnan(value.low):
        return None
    return value.low - _HALF_DIGIT <= published <= value.high + _HALF_DIGIT
