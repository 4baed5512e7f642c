"""Results that others published on MedMNIST, and where a result of one's own stands among them.

The rows of ``published_results.csv`` are those of the MedMNIST v2 paper (Yang et al., Scientific Data 10:41, 2023) as
the project page prints them; ``published_results.toml`` says what must be known of them.

Example:
    >>> from medmnist_hf.scoring.published import published_results, stand
    >>> published_results("breastmnist")[0]
    PublishedResult(method='ResNet-18 (28)', subset='breastmnist', auc=0.901, acc=0.863)
    >>> stand("breastmnist", auc=0.913, acc=0.846).auc_rank
    2
"""

import csv
import math
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from medmnist_hf.catalog import subset
from medmnist_hf.scoring.bootstrap import Interval

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
        auc_rank: Place by AUC among the published rows and the result itself, 1 for the best; equals share a place.
        acc_rank: Place by ACC.
        places: Number of places: the published rows and one.
        beside: The result beside each published row, in the order of the published table.
    """

    auc_rank: int
    acc_rank: int
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
        auc_rank: Place by AUC among all lines, 1 for the best; equals to three decimals share a place.
        acc_rank: Place by ACC.
    """

    name: str
    auc: float
    acc: float
    own: bool
    auc_rank: int
    acc_rank: int


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


def rank(value: float, others: list[float]) -> int:
    """Place of a score among others, 1 for the best: equals to three decimals share a place, nan is the last.

    Args:
        value: A score, 0 to 1 or nan.
        others: The scores it is ranked with, itself left out.
    """
    own, rest = _rounded(value), [_rounded(other) for other in others]
    if math.isnan(own):
        return 1 + sum(not math.isnan(other) for other in rest)
    return 1 + sum(other > own for other in rest)


def stand(flag: str, auc: float | Interval, acc: float | Interval) -> Standing:
    """Put a result beside the published ones of its subset.

    Published scores have three decimals. A result is rounded as they are before it is ranked and subtracted, and its
    interval covers a published score if it holds any number that rounds to it. The interval tells of the chance of
    the test rows alone, not of that of training again.

    Args:
        flag: Flag of the subset, in any letter case.
        auc: AUC of the result, alone or with its interval (`medmnist_hf.scoring.bootstrap.bootstrap`).
        acc: ACC of the result, likewise.

    Raises:
        CatalogError: The flag is unknown.
    """
    rows = published_results(flag)
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


def leaderboard(flag: str, own: Iterable[tuple[str, float, float]] = ()) -> tuple[LeaderboardRow, ...]:
    """Published rows and results of one's own, ranked by AUC, then by ACC.

    Args:
        flag: Flag of the subset, in any letter case.
        own: Name, AUC and ACC of each result of one's own, on the test split.

    Raises:
        CatalogError: The flag is unknown.
    """
    lines = [(row.method, row.auc, row.acc, False) for row in published_results(flag)]
    lines += [(name, auc, acc, True) for name, auc, acc in own]
    places = []
    for at, (name, auc, acc, ours) in enumerate(lines):
        others = lines[:at] + lines[at + 1 :]
        auc_rank = rank(auc, [other[1] for other in others])
        places.append(LeaderboardRow(name, auc, acc, ours, auc_rank, rank(acc, [other[2] for other in others])))
    return tuple(sorted(places, key=lambda place: (place.auc_rank, place.acc_rank)))


def _rounded(value: float) -> float:
    # The text, because it is how the published scores and the names of result files were rounded.
    return float(f"{value:.{DIGITS}f}") + 0.0


def _estimate(value: float | Interval) -> float:
    return value.estimate if isinstance(value, Interval) else value


def _covers(value: float | Interval, published: float) -> bool | None:
    if not isinstance(value, Interval) or math.isnan(value.low):
        return None
    return value.low - _HALF_DIGIT <= published <= value.high + _HALF_DIGIT
