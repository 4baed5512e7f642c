"""Find groups of rows with equal digests: within a split, across splits, and with different labels."""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
import numpy.typing as npt

from medmnist_hf.array_types import UInt8Array


@dataclass(frozen=True, slots=True)
class SplitRows:
    """Digests and labels of the rows of one split.

    Attributes:
        digests: Both halves of the digest of each row's pixels, uint64 of shape ``(N, 2)``.
        blank: Whether all pixels of a row are equal, bool of shape ``(N,)``.
        labels: Which labels a row has, bool of shape ``(N, L)``.
        copies: Small gray copies of the images, to find near duplicates, see `medmnist_hf.conversion.near`; or None.
    """

    digests: npt.NDArray[np.uint64]
    blank: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.bool_]
    copies: UInt8Array | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One row with a repeated picture, that is an image or volume.

    Attributes:
        split: Name of the split.
        row: Row within the split, from 0.
        labels: Its class id, or the ids of the findings present; empty if there are none.
    """

    split: str
    row: int
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """All rows with the same repeated picture.

    Attributes:
        rows: Number of rows.
        blank: Whether all pixels of the picture are equal.
        conflicting: Whether the rows have different labels.
        members: The rows, by split and row; a shortened list prefers the first row of each split and label set.
    """

    rows: int
    blank: bool
    conflicting: bool
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Pictures that two splits share, or that one split contains more than once.

    Attributes:
        pictures: Number of distinct pictures.
        rows: Split -> number of rows with one of these pictures; a single entry for repetition within a split.
        conflicting: Number of these pictures whose rows in these splits have different labels.
        example: Two rows with the same picture, one from each split, and with different labels if possible.
    """

    pictures: int
    rows: dict[str, int]
    conflicting: int
    example: tuple[Member, Member]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """All repeated pictures of a config.

    Attributes:
        pictures: Number of distinct pictures that occur more than once in the config.
        rows: Number of rows with one of these pictures.
        conflicting: Number of these pictures whose rows have different labels.
        overlaps: Overlaps of each pair of splits, then within each split; empty ones are left out.
        listed: The most important groups: across splits before within a split, and different labels before equal ones.
    """

    pictures: int
    rows: int
    conflicting: int
    overlaps: tuple[Overlap, ...]
    listed: tuple[DuplicateGroup, ...]

    def shared(self, split: str, other: str) -> int:
        """Number of rows of a split that are identical to a row of `other`, or to another row of the same split."""
        return sum(overlap.rows[split] for overlap in self.overlaps if overlap.rows.keys() == {split, other})


def find_duplicates(splits: Mapping[str, SplitRows], limit: int) -> Duplicates:
    """Find all rows, in all splits, whose digests are equal.

    Args:
        splits: Split name -> its rows, all with the same number of labels.
        limit: Largest number of groups to list, and of members per group.

    Returns:
        Complete counts, and the most important groups.
    """
    names = tuple(splits)
    tallies = [_Tally(chosen) for chosen in (*combinations(names, 2), *((name,) for name in names))]
    everything = _Tally(())
    most = heapq.nsmallest(limit, _counted(splits, [everything, *tallies]), key=_rank)
    return Duplicates(
        pictures=everything.pictures,
        rows=sum(everything.rows.values()),
        conflicting=everything.conflicting,
        overlaps=tuple(overlap for tally in tallies if (overlap := tally.overlap()) is not None),
        listed=tuple(
            DuplicateGroup(len(members), blank, _conflicting(members), _shortened(members, limit))
            for members, blank in most
        ),
    )


_Group = tuple[list[Member], bool]


def _groups(splits: Mapping[str, SplitRows]) -> Iterator[_Group]:
    """Yield the rows of each repeated picture in order, and whether it is blank; pictures by their first row."""
    names, tables = list(splits), list(splits.values())
    offsets = np.cumsum([0, *(len(table.digests) for table in tables)])
    digests = np.concatenate([table.digests for table in tables])
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable, so the rows of one picture stay in order
    ordered = digests[order]
    edges = np.flatnonzero((ordered[1:] != ordered[:-1]).any(axis=1)) + 1
    starts = np.concatenate(([0], edges, [len(order)]))
    repeated = np.flatnonzero(np.diff(starts) > 1)
    for group in repeated[np.argsort(order[starts[repeated]])]:
        places = order[starts[group] : starts[group + 1]]
        homes = np.searchsorted(offsets, places, side="right") - 1
        rows = places - offsets[homes]
        members = [
            Member(names[home], row, tuple(np.flatnonzero(tables[home].labels[row]).tolist()))
            for home, row in zip(homes.tolist(), rows.tolist(), strict=True)
        ]
        yield members, bool(tables[homes[0]].blank[rows[0]])


def _counted(splits: Mapping[str, SplitRows], tallies: Iterable["_Tally"]) -> Iterator[_Group]:
    for members, blank in _groups(splits):
        for tally in tallies:
            tally.add(members)
        yield members, blank


def _rank(group: _Group) -> tuple[bool, bool]:
    """Sort key: leaks between splits come first, and conflicting labels before equal ones."""
    members, _ = group
    return members[0].split == members[-1].split, not _conflicting(members)


def _shortened(members: list[Member], limit: int) -> tuple[Member, ...]:
    """Keep at most `limit` members, preferring the first one of each split and label set."""
    if len(members) <= limit:
        return tuple(members)
    kinds: dict[tuple[str, tuple[int, ...]], int] = {}
    for index, member in enumerate(members):
        kinds.setdefault((member.split, member.labels), index)
    chosen = dict.fromkeys(chain(kinds.values(), range(len(members))))
    return tuple(members[index] for index in sorted(list(chosen)[:limit]))


class _Tally:
    """Counts the repeated pictures of one pair of splits, of one split, or, if `splits` is empty, of all splits."""

    def __init__(self, splits: tuple[str, ...]) -> None:
        self._splits = splits
        self.rows = dict.fromkeys(splits, 0)
        self.pictures = self.conflicting = 0
        self._example: tuple[Member, Member] | None = None

    def add(self, group: list[Member]) -> None:
        members = [member for member in group if not self._splits or member.split in self._splits]
        if len(members) < 2 or len({member.split for member in members}) < len(self._splits):
            return
        conflicting = _conflicting(members)
        if self._example is None or (conflicting and not self.conflicting):
            self._example = _pair(members)
        self.pictures += 1
        self.conflicting += conflicting
        for member in members:
            self.rows[member.split] = self.rows.get(member.split, 0) + 1

    def overlap(self) -> Overlap | None:
        if self._example is None:
            return None
        return Overlap(self.pictures, self.rows, self.conflicting, self._example)


def _conflicting(members: list[Member]) -> bool:
    return any(member.labels != members[0].labels for member in members)


def _pair(members: list[Member]) -> tuple[Member, Member]:
    """Choose two rows: from different splits, and with different labels, if possible."""
    right = [member for member in members if member.split != members[0].split] or members[1:]
    left = [member for member in members if member.split == members[0].split]
    # If left[0] agrees with every row on the right, any row on the left that differs also differs from right[0].
    pairs = chain(((left[0], other) for other in right), ((other, right[0]) for other in left))
    return next(((a, b) for a, b in pairs if a.labels != b.labels), (left[0], right[0]))
