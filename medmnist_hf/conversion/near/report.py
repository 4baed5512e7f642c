"""Near duplicates of a config by split: pairs, groups of connected rows, and leaks between splits."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np

from medmnist_hf.conversion.checks.duplicates import Member, SplitRows
from medmnist_hf.conversion.near.search import THRESHOLD, Pairs, find_pairs
from medmnist_hf.typed_json import Bounds, Count, Share, encode

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two rows that show the same picture.

    Attributes:
        first: The row in the earlier split, or the earlier row.
        second: The other row.
        similarity: Correlation of local contrast, 1 for the same details.
        turned: Whether the second image is flipped, turned or transposed.
        identical: Whether all pixels are equal, so that the pair is an exact duplicate.
    """

    first: Member
    second: Member
    similarity: Annotated[float, Bounds(-1, 1.001)]
    turned: bool
    identical: bool

    @property
    def leaks(self) -> bool:
        """Whether the rows are in different splits."""
        return self.first.split != self.second.split


@dataclass(frozen=True, slots=True)
class NearOverlap:
    """Near duplicates between two splits, or within one.

    Attributes:
        pairs: Number of pairs.
        rows: Split -> number of its rows in these pairs; a single entry for pairs within a split.
        conflicting: Number of pairs with different labels.
    """

    pairs: Count
    rows: dict[str, Count]
    conflicting: Count


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Summary of the near duplicates of a config, without pairs whose pixels are all equal.

    Attributes:
        threshold: Smallest similarity of a pair.
        pairs: Number of pairs.
        leaks: Number of pairs across splits.
        groups: Number of groups of rows that pairs connect, exact duplicates included.
        overlaps: Pairs of each two splits, then within each split; empty ones are left out.
        listed: The most similar pairs, leaks first.
    """

    threshold: Share
    pairs: Count
    leaks: Count
    groups: Count
    overlaps: tuple[NearOverlap, ...]
    listed: tuple[NearPair, ...]

    def rows(self, split: str, other: str) -> int:
        """Number of rows of a split with a near duplicate in `other`, or in the same split."""
        return sum(overlap.rows[split] for overlap in self.overlaps if overlap.rows.keys() == {split, other})


def find_near_duplicates(
    splits: Mapping[str, SplitRows], *, on_progress: Callable[[int], object] = lambda rows: None
) -> list[NearPair]:
    """Find the near duplicates among the rows of all splits, leaks first, then by similarity.

    Args:
        splits: Split name -> its rows, with small copies.
        on_progress: Called with the number of rows just compared.
    """
    tables = list(splits.values())
    copies = np.concatenate([table.copies for table in tables if table.copies is not None])
    pairs = find_pairs(copies, on_progress=on_progress)
    digests = np.concatenate([table.digests for table in tables])
    identical = (digests[pairs.first] == digests[pairs.second]).all(axis=1)
    return sorted(
        _named(splits, pairs, identical.tolist()), key=lambda pair: not pair.leaks
    )  # stable: by descending similarity


def _named(splits: Mapping[str, SplitRows], pairs: Pairs, identical: list[bool]) -> list[NearPair]:
    names, tables = list(splits), list(splits.values())
    offsets = np.cumsum([0, *(len(table.digests) for table in tables)])

    def member(place: int) -> Member:
        home = int(np.searchsorted(offsets, place, side="right")) - 1
        row = place - int(offsets[home])
        return Member(names[home], row, tuple(np.flatnonzero(tables[home].labels[row]).tolist()))

    columns = pairs.first.tolist(), pairs.second.tolist(), pairs.similarity.tolist(), pairs.symmetry.tolist()
    return [
        NearPair(member(first), member(second), round(similarity, 4), turned=symmetry > 0, identical=equal)
        for first, second, similarity, symmetry, equal in zip(*columns, identical, strict=True)
    ]


def summarize(pairs: list[NearPair], splits: tuple[str, ...], limit: int) -> NearDuplicates:
    """Count pairs from `find_near_duplicates`.

    Args:
        pairs: The pairs.
        splits: Names of all splits.
        limit: Largest number of pairs to list.
    """
    near = [pair for pair in pairs if not pair.identical]
    between = [(first, second) for at, first in enumerate(splits) for second in splits[at + 1 :]]
    overlaps = []
    for names in (*between, *((split, split) for split in splits)):
        own = [pair for pair in near if (pair.first.split, pair.second.split) == names]
        if own:
            members = {(each.split, each.row) for pair in own for each in (pair.first, pair.second)}
            rows = Counter(split for split, _ in members)
            conflicting = sum(pair.first.labels != pair.second.labels for pair in own)
            overlaps.append(NearOverlap(len(own), {name: rows[name] for name in dict.fromkeys(names)}, conflicting))
    return NearDuplicates(
        threshold=THRESHOLD,
        pairs=len(near),
        leaks=sum(pair.leaks for pair in near),
        groups=_groups(pairs),
        overlaps=tuple(overlaps),
        listed=tuple(near[:limit]),
    )


def _groups(pairs: list[NearPair]) -> int:
    """Number of connected groups of rows."""
    parents: dict[tuple[str, int], tuple[str, int]] = {}

    def root(key: tuple[str, int]) -> tuple[str, int]:
        while parents.setdefault(key, key) != key:
            parents[key] = parents[parents[key]]
            key = parents[key]
        return key

    for pair in pairs:
        first, second = (root((each.split, each.row)) for each in (pair.first, pair.second))
        parents[first] = second
    return len({root(key) for key in parents})


def pairs_to_json(subset: str, size: int, pairs: list[NearPair]) -> str:
    """The text of a JSON file with all pairs, exact duplicates included."""
    table = {"format": FORMAT, "subset": subset, "size": size, "threshold": THRESHOLD, "pairs": encode(pairs)}
    return json.dumps(table, indent=2, ensure_ascii=False) + "\n"
