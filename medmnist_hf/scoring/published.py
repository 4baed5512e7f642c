"""Published MedMNIST results, and the rank of a user's own result among them.

The rows of ``published_results.csv`` are those of the MedMNIST v2 paper (Yang et al., Scientific Data 10:41, 2023) as
printed on the project page; ``published_results.toml`` holds notes on them.

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
    """Published test AUC and ACC of one method on one subset.

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
class PublishedComparison:
    """A user's result compared with one published row.

    Attributes:
        published: The published row.
        auc_difference: The user's AUC, rounded to three decimals, minus the published AUC.
        acc_difference: The same for ACC.
        auc_covered: Whether the user's AUC interval contains a number that rounds to the published AUC; None without
            an interval.
        acc_covered: The same for ACC.
    """

    published: PublishedResult
    auc_difference: float
    acc_difference: float
    auc_covered: bool | None
    acc_covered: bool | None


@dataclass(frozen=True, slots=True)
class Standing:
    """A user's result ranked among the published rows of its subset.

    Attributes:
        auc_rank: Rank by AUC, see `rank`; None if the AUC is undefined.
        acc_rank: Rank by ACC, likewise.
        places: Number of ranks: the number of published rows plus one.
        comparisons: The result compared with each published row, in the order of the published table.
    """

    auc_rank: int | None
    acc_rank: int | None
    places: int
    comparisons: tuple[PublishedComparison, ...]


@dataclass(frozen=True, slots=True)
class LeaderboardRow:
    """One row of a leaderboard.

    Attributes:
        name: The method as published, or the name of a user's own result.
        auc: AUC, 0 to 1.
        acc: ACC, 0 to 1.
        own: Whether this is a user's own result, not a published row.
        auc_rank: Rank by AUC among the published rows and this one, see `rank`.
        acc_rank: Rank by ACC, likewise.
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
    """Notes to read before comparing with the published results of a subset; may be empty.

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
    """Image size of the files from which all published results were computed: edge length in pixels or voxels."""
    return int(_facts()["rows"]["size"])


def published_split() -> str:
    """The split on which all published results were computed."""
    return str(_facts()["rows"]["split"])


def rank(value: float, published: Sequence[float]) -> int | None:
    """Rank of a score among published scores, 1 for the best; scores equal to three decimals share a rank.

    All ranks that the project shows are computed here. A rank depends on the published scores only, never on a user's
    other results.

    Args:
        value: A score, 0 to 1 or nan.
        published: The published scores; whether they include ``value`` itself makes no difference.

    Returns:
        The rank; None if the score is nan or there are no published scores.
    """
    own = _rounded(value)
    return None if math.isnan(own) or not published else 1 + sum(_rounded(other) > own for other in published)


def stand(flag: str, auc: float | Interval, acc: float | Interval, *, provenance: Provenance) -> Standing | None:
    """Rank a result among the published results of its subset and compare it with each of them.

    Published scores have three decimals, so a result is rounded before it is ranked and subtracted, and its interval
    covers a published score if it contains any number that rounds to it. The interval accounts for the choice of test
    rows only, not for the variation between trainings.

    Args:
        flag: Flag of the subset, in any letter case.
        auc: AUC of the result, alone or with its interval (`medmnist_hf.scoring.intervals.intervals`).
        acc: ACC of the result, likewise.
        provenance: Provenance of the data on which the result was computed.

    Returns:
        The standing; None if the data is not verified or the subset has no published results.

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
        comparisons=tuple(
            PublishedComparison(
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
    flag: str, own: Iterable[tuple[str, float, float]] = (), *, provenance: Provenance, all_labels: bool = True
) -> tuple[LeaderboardRow, ...]:
    """Published and own results of a subset, sorted by AUC to three decimals, then by ACC.

    Args:
        flag: Flag of the subset, in any letter case.
        own: Name, AUC and ACC of each own result, on the test split.
        provenance: Provenance of the data of the own results. Published rows and ranks are included only if it is
            verified.
        all_labels: Whether the own results are of models trained on all labels, as the published ones are. Otherwise
            published rows and ranks are left out.

    Raises:
        CatalogError: The flag is unknown.
    """
    published = published_results(flag) if provenance.comparable and all_labels else ()
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
    """Sort key of a score: rounded as displayed, best first, undefined last."""
    return math.inf if math.isnan(value) else -_rounded(value)


def _rounded(value: float) -> float:
    # Rounded by formatting, as the published scores and the names of prediction files were.
    return float(f"{value:.{DIGITS}f}") + 0.0


def _estimate(value: float | Interval) -> float:
    return value.estimate if isinstance(value, Interval) else value


def _covers(value: float | Interval, published: float) -> bool | None:
    if not isinstance(value, Interval) or math.isnan(value.low):
        return None
    return value.low - _HALF_DIGIT <= published <= value.high + _HALF_DIGIT
