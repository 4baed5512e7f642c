"""Results of the MedMNIST v2 benchmark, and a user's own result compared with each of them.

The rows of ``published_results.csv`` are those of the MedMNIST v2 paper (Yang et al., Scientific Data 10:41, 2023) as
printed on the project page; ``published_results.toml`` holds notes on them. `medmnist_hf.leaderboard` ranks them among
those of other sources.

Example:
    >>> from medmnist_hf.scoring.published import compare_with_published, published_results
    >>> published_results("breastmnist")[0]
    PublishedResult(method='ResNet-18 (28)', subset='breastmnist', auc=0.901, acc=0.863)
    >>> compare_with_published("breastmnist", auc=0.913, acc=0.846)[0].auc_difference
    0.012
"""

import csv
import math
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from medmnist_hf.catalog import subset
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


def published_split() -> str:
    """The split on which all published results were computed."""
    return str(_facts()["rows"]["split"])


def compare_with_published(flag: str, auc: float | Interval, acc: float | Interval) -> tuple[PublishedComparison, ...]:
    """Compare a result with each published result of its subset.

    Published scores have three decimals, so a result is rounded before it is subtracted, and its interval covers a
    published score if it contains any number that rounds to it. The interval accounts for the choice of test rows
    only, not for the variation between trainings.

    Args:
        flag: Flag of the subset, in any letter case.
        auc: AUC of the result on verified data, alone or with its interval, see
            `medmnist_hf.scoring.intervals.intervals`.
        acc: ACC of the result, likewise.

    Returns:
        A comparison per published result, in the order of the published table.

    Raises:
        CatalogError: The flag is unknown.
    """
    own_auc, own_acc = _estimate(auc), _estimate(acc)
    return tuple(
        PublishedComparison(
            published=row,
            auc_difference=_rounded(_rounded(own_auc) - row.auc),
            acc_difference=_rounded(_rounded(own_acc) - row.acc),
            auc_covered=_covers(auc, row.auc),
            acc_covered=_covers(acc, row.acc),
        )
        for row in published_results(flag)
    )


def _rounded(value: float) -> float:
    # Rounded by formatting, as the published scores and the names of prediction files were.
    return float(f"{value:.{DIGITS}f}") + 0.0


def _estimate(value: float | Interval) -> float:
    return value.estimate if isinstance(value, Interval) else value


def _covers(value: float | Interval, published: float) -> bool | None:
    if not isinstance(value, Interval) or math.isnan(value.low):
        return None
    return value.low - _HALF_DIGIT <= published <= value.high + _HALF_DIGIT
