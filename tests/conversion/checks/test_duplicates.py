"""Duplicates, compared with a slow reference, and which groups are listed."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from medmnist_hf.catalog import SPLITS
from medmnist_hf.conversion.checks.duplicates import Duplicates, Member, SplitRows, find_duplicates

Row = tuple[int, int]
"""A picture and a label, both small numbers."""

LABELS = 3


def split_rows(rows: list[Row]) -> SplitRows:
    pictures = np.array([picture for picture, _ in rows], np.uint64)
    labels = np.array([label for _, label in rows], np.intp)
    # Both halves of a digest matter: pictures 0 and 1 share the first half, 0 and 2 the second.
    digests = np.stack([pictures // 2, pictures % 2], axis=1)
    return SplitRows(digests, pictures == 0, np.eye(LABELS, dtype=np.bool_)[labels])


def find(splits: dict[str, list[Row]], limit: int = 20) -> Duplicates:
    return find_duplicates({split: split_rows(rows) for split, rows in splits.items()}, limit)


def reference(splits: dict[str, list[Row]]) -> list[list[Member]]:
    groups: dict[int, list[Member]] = {}
    for split, rows in splits.items():
        for row, (picture, label) in enumerate(rows):
            groups.setdefault(picture, []).append(Member(split, row, (label,)))
    return [group for group in groups.values() if len(group) > 1]


MOST_ROWS = 12

ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, LABELS - 1)), max_size=MOST_ROWS)


@settings(max_examples=300, deadline=None)
@given(st.tuples(ROWS, ROWS, ROWS))
def test_equals_a_slow_reference(rows: tuple[list[Row], list[Row], list[Row]]) -> None:
    splits = dict(zip(SPLITS, rows, strict=True))
    duplicates, groups = find(splits, len(splits) * MOST_ROWS), reference(splits)  # the limit lists all groups
    assert duplicates.pictures == len(groups)
    assert duplicates.rows == sum(map(len, groups))
    assert duplicates.conflicting == sum(len({member.labels for member in group}) > 1 for group in groups)
    # Leaks come first, then conflicts; otherwise pictures are in order of their first row.
    ranked = sorted(
        groups, key=lambda group: (group[0].split == group[-1].split, len({member.labels for member in group}) == 1)
    )
    assert [list(group.members) for group in duplicates.listed] == ranked
    for group in duplicates.listed:
        first = group.members[0]
        assert group.blank == (splits[first.split][first.row][0] == 0)
    overlaps = {tuple(overlap.rows): overlap for overlap in duplicates.overlaps}
    assert len(overlaps) == len(duplicates.overlaps)
    for chosen in (*combinations(SPLITS, 2), *((split,) for split in SPLITS)):
        kept = [[member for member in group if member.split in chosen] for group in groups]
        kept = [group for group in kept if len(group) > 1 and len({member.split for member in group}) == len(chosen)]
        if not kept:
            assert chosen not in overlaps
            continue
        overlap = overlaps[chosen]
        assert overlap.pictures == len(kept)
        assert overlap.rows == {split: sum(member.split == split for g in kept for member in g) for split in chosen}
        assert overlap.conflicting == sum(len({member.labels for member in group}) > 1 for group in kept)
        first, second = overlap.example
        assert first != second
        assert (first.split, second.split) == (chosen[0], chosen[-1])
        assert (first.labels != second.labels) == (overlap.conflicting > 0)
        assert any(first in group and second in group for group in kept)
        for split, partner in {chosen, chosen[::-1]} if len(chosen) == 2 else {chosen * 2}:
            assert duplicates.shared(split, partner) == overlap.rows[split]


def test_groups_across_splits_and_conflicts_are_listed_first() -> None:
    plain, conflict, leak, worst = 1, 2, 3, 4
    train = [(plain, 0), (plain, 0), (conflict, 0), (conflict, 1), (leak, 2), (worst, 0)]
    duplicates = find({"train": train, "validation": [(5, 0)], "test": [(leak, 2), (worst, 1)]}, limit=3)
    assert [group.members[0].row for group in duplicates.listed] == [5, 4, 2]
    assert [group.conflicting for group in duplicates.listed] == [True, False, True]
    assert duplicates.pictures == 4


def test_a_long_group_keeps_a_row_of_every_split_and_label() -> None:
    rows = [(1, 0)] * 30
    duplicates = find({"train": [*rows, (1, 2)], "validation": [(1, 0)], "test": [(3, 1), (1, 1)]}, limit=5)
    (group,) = duplicates.listed
    assert group.rows == 33
    assert [(member.split, member.row) for member in group.members] == [
        ("train", 0),
        ("train", 1),
        ("train", 30),
        ("validation", 0),
        ("test", 1),
    ]


def test_distinct_pictures_have_no_duplicates() -> None:
    duplicates = find({"train": [(1, 0)], "validation": [(2, 0)], "test": [(3, 0)]})
    assert duplicates == Duplicates(pictures=0, rows=0, conflicting=0, overlaps=(), listed=())
    assert duplicates.shared("train", "test") == 0
