"""Groups of rows with equal digests: within a split, across splits, and under different labels."""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class SplitRows:
    """What is known of the rows of one split.

    Attributes:
        digests: Two halves of a digest of the pixels of each row, uint64 of shape ``(N, 2)``.
        blank: Whether all pixels of a row are equal, bool of shape ``(N,)``.
        labels: Which labels a row carries, bool of shape ``(N, L)``.
    """

    digests: npt.NDArray[np.uint64]
    blank: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Member:
    """One row that shows a repeated picture.

    Attributes:
        split: Name of the split.
        row: Row of the split, from 0.
        labels: Its class id, or the ids of the findings present; empty for none.
    """

    split: str
    row: int
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """All rows that show one repeated picture.

    Attributes:
        rows: Number of rows.
        blank: All its pixels are equal.
        conflicting: Not all rows carry the same labels.
        members: Rows by split and row, those of every split and labels before others where not all are listed.
    """

    rows: int
    blank: bool
    conflicting: bool
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Overlap:
    """The pictures that two splits share, or that one split holds more than once.

    Attributes:
        pictures: Number of different pictures.
        rows: Split -> rows that show one of them; one entry where it is about repetition within a split.
        conflicting: Those of the pictures whose rows here do not all carry the same labels.
        example: Two rows that show one of them, one of each split; with different labels if there are such.
    """

    pictures: int
    rows: dict[str, int]
    conflicting: int
    example: tuple[Member, Member]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """All repeated pictures of a config.

    Attributes:
        pictures: Number of different pictures that occur more than once in the config.
        rows: Rows that show one of them.
        conflicting: Those of the pictures whose rows do not all carry the same labels.
        overlaps: For each pair of splits, then for each split, where there are any.
        listed: Groups in full, those across splits and under different labels before others.
    """

    pictures: int
    rows: int
    conflicting: int
    overlaps: tuple[Overlap, ...]
    listed: tuple[DuplicateGroup, ...]

    def shared(self, split: str, other: str) -> int:
        """Rows of a split that some row of another split, or some other row of the same split, is identical to."""
        return sum(overlap.rows[split] for overlap in self.overlaps if overlap.rows.keys() == {split, other})


def find_duplicates(splits: Mapping[str, SplitRows], limit: int) -> Duplicates:
    """Find all rows of all splits whose digests are equal.

    Args:
        splits: Split name -> its rows, all with the same number of labels.
        limit: The most groups that are listed, and the most members of a group.

    Returns:
        Full counts, and the groups that matter most.
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
    """The rows of each repeated picture in order, and whether it is blank; pictures by their first row."""
    names, founds = list(splits), list(splits.values())
    offsets = np.cumsum([0, *(len(found.digests) for found in founds)])
    digests = np.concatenate([found.digests for found in founds])
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
            Member(names[home], row, tuple(np.flatnonzero(founds[home].labels[row]).tolist()))
            for home, row in zip(homes.tolist(), rows.tolist(), strict=True)
        ]
        yield members, bool(founds[homes[0]].blank[rows[0]])


def _counted(splits: Mapping[str, SplitRows], tallies: Iterable["_Tally"]) -> Iterator[_Group]:
    for members, blank in _groups(splits):
        for tally in tallies:
            tally.add(members)
        yield members, blank


def _rank(group: _Group) -> tuple[bool, bool]:
    """Sorts leaks between splits first, and among those and the others conflicts first."""
    members, _ = group
    return members[0].split == members[-1].split, not _conflicting(members)


def _shortened(members: list[Member], limit: int) -> tuple[Member, ...]:
    """At most `limit` members: those first that show another split or other labels, then by row."""
    if len(members) <= limit:
        return tuple(members)
    kinds: dict[tuple[str, tuple[int, ...]], int] = {}
    for index, member in enumerate(members):
        kinds.setdefault((member.split, member.labels), index)
    chosen = dict.fromkeys(chain(kinds.values(), range(len(members))))
    return tuple(members[index] for index in sorted(list(chosen)[:limit]))


class _Tally:
    """What is counted for one pair of splits, for one split, or, with no split named, for all of them."""

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
    """Two rows, of two splits if the rows are of two, and with different labels if any have them."""
    right = [member for member in members if member.split != members[0].split] or members[1:]
    left = [member for member in members if member.split == members[0].split]
    # If the first of the left agrees with all of the right, one that does not can be found beside any of these.
    pairs = chain(((left[0], other) for other in right), ((other, right[0]) for other in left))
    return next(((a, b) for a, b in pairs if a.labels != b.labels), (left[0], right[0]))
