"""Results that others published on MedMNIST, read from ``published_results.csv`` and ``published_results.toml``.

The rows are those of the MedMNIST v2 paper (Yang et al., Scientific Data 10:41, 2023) as the project page prints them.

Example:
    >>> from medmnist_hf.results import published_results
    >>> published_results("breastmnist")[0]
    PublishedResult(method='ResNet-18 (28)', subset='breastmnist', auc=0.901, acc=0.863)
"""

import csv
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from medmnist_hf.catalog import subset


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


def _read(name: str) -> str:
    return resources.files("medmnist_hf").joinpath(name).read_text(encoding="utf-8")


@cache
def _rows() -> tuple[PublishedResult, ...]:
    table = csv.DictReader(_read("published_results.csv").splitlines())
    return tuple(
        PublishedResult(method=row["method"], subset=row["subset"], auc=float(row["auc"]), acc=float(row["acc"]))
        for row in table
    )


@cache
def _notes() -> tuple[dict[str, Any], ...]:
    return tuple(tomllib.loads(_read("published_results.toml"))["notes"])


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
        for note in _notes()
        if name in note.get("subsets", ()) or not methods.isdisjoint(note.get("methods", ()))
    )
