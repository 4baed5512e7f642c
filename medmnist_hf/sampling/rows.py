"""Choose rows by their labels: a fraction of them, or a number of each class."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from medmnist_hf.array_types import IntArray
from medmnist_hf.errors import SourceError, counted
from medmnist_hf.sampling.groups import labels_of_groups
from medmnist_hf.sampling.stratify import check_labels, first_rows, one_hot, priorities, stratified_order
from medmnist_hf.typed_json import Count, Sha256

_log = logging.getLogger(__name__)

NO_FINDING: Final = "no finding"
"""Name of the rows without a finding, which count as a class when a number of rows of each class is chosen."""


@dataclass(frozen=True, slots=True)
class ChosenRows:
    """A record of rows that were chosen.

    Attributes:
        count: Their number.
        sha256: Their digest, see `rows_sha256`.
    """

    count: Count
    sha256: Sha256

    @classmethod
    def of(cls, rows: IntArray) -> "ChosenRows":
        """The record of rows."""
        return cls(len(rows), rows_sha256(rows))


def choose_rows(
    labels: NDArray[Any], *, fraction: float | None = None, shots: int | None = None, seed: int = 0
) -> IntArray:
    """Choose a fraction of rows with the class frequencies of all, or a number of rows of each class.

    With the same seed, a smaller choice is part of a larger one. The choice depends on the labels and the seed alone.

    Args:
        labels: Class ids, shape (N,), or zeros and ones, shape (N, L).
        fraction: Fraction of the rows, above 0 and up to 1, rounded to whole rows. Every class or finding that occurs
            is chosen at least once.
        shots: Number of rows of each class; of each finding and of rows without one, for the multi-label task, where a
            row counts for each of its findings. A class with fewer rows is chosen completely.
        seed: Seed of the choice.

    Returns:
        Row numbers in ascending order, intp.

    Raises:
        SourceError: Not exactly one of `fraction` and `shots` is given, a value is out of range, or the labels have
            another shape.
    """
    check_labels(labels)
    if (fraction is None) == (shots is None):
        raise SourceError("give either fraction, of the rows, or shots, the number of rows of each class")
    if not 0 <= seed < 1 << 63:
        raise SourceError(f"seed is {seed}: must be 0 or more, and less than 2^63")
    keys = priorities(len(labels), seed)
    if fraction is not None:
        if not 0 < fraction <= 1:
            raise SourceError(f"fraction is {fraction:g}: must be more than 0 and at most 1, e.g. 0.01 for 1 %")
        count = max(int(fraction * len(labels) + 0.5), len(first_rows(labels, keys)))
        return np.sort(stratified_order(labels, seed)[:count])
    assert shots is not None
    if shots < 1:
        raise SourceError(f"shots is {shots}: must be 1 or more")
    return _shots(_groups(labels), keys, shots)


def _groups(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """A mask of the rows of each class, shape (N, K); in the multi-label task, the last one is `NO_FINDING`."""
    hot = one_hot(labels)
    return hot if labels.ndim == 1 else np.concatenate([hot, ~hot.any(1, keepdims=True)], axis=1)


def _shots(hot: NDArray[np.bool_], keys: NDArray[np.uint64], shots: int) -> IntArray:
    """Choose in rounds, each of which adds a row to every class that lacks one, so that choices are nested."""
    order = np.argsort(hot.sum(0), kind="stable").tolist()
    members = {label: np.flatnonzero(hot[:, label]) for label in order}
    waiting = {label: iter(rows[np.argsort(keys[rows], kind="stable")].tolist()) for label, rows in members.items()}
    chosen: set[int] = set()
    counts = np.zeros(hot.shape[1], np.intp)
    for target in range(1, min(shots, max(map(len, members.values()))) + 1):
        for label in order:
            if counts[label] < target:
                row = next((row for row in waiting[label] if row not in chosen), None)
                if row is not None:
                    chosen.add(row)
                    counts += hot[row]
    return np.array(sorted(chosen), np.intp)


def warn_if_scarce(
    labels: NDArray[Any], shots: int, names: Sequence[str], split: str, group: IntArray | None = None
) -> None:
    """Warn of each class that has fewer rows, or groups of rows, than shots, even none.

    Args:
        labels: Class ids, shape (N,), or zeros and ones, shape (N, L).
        shots: Number of rows, or of groups, of each class.
        names: Names of the classes or findings.
        split: Name of the split in the warning.
        group: Number of the group of each row, shape (N,), if groups are counted.
    """
    if labels.ndim == 1:
        unit = np.arange(len(labels)) if group is None else group
        counts = {name: len(np.unique(unit[labels == at])) for at, name in enumerate(names)}
    else:
        findings = labels if group is None else labels_of_groups(labels, group)
        counts = dict(zip([*names, NO_FINDING], _groups(findings).sum(0).tolist(), strict=True))
    for name, count in counts.items():
        if count < shots:
            have = counted(count, "row" if group is None else "group")
            _log.warning("%s has %s of %s, fewer than %d shots: all of them are used", split, have, name, shots)


def rows_sha256(rows: IntArray) -> str:
    """SHA-256 of row numbers, as little-endian int64, by which two choices can be compared."""
    return hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
