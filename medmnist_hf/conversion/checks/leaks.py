"""Count the patients, scans or lesions with rows in more than one split: such leaks inflate test scores.

Example:
    >>> audit = find_leaks("CT volume", {"train": ["1", "1", "2"], "validation": ["3"], "test": ["2", None]})
    >>> list(sentences(audit, "image"))[0]
    '1 CT volume has images in train and test: 1 of train, 1 of test, e.g. 2'
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from medmnist_hf.errors import counted
from medmnist_hf.typed_json import Count, Name


@dataclass(frozen=True, slots=True)
class SharedGroups:
    """The groups that two splits share.

    Attributes:
        groups: Their number.
        rows: Split -> number of rows of these groups.
        example: Name of one of them.
    """

    groups: Count
    rows: dict[str, Count]
    example: Name


@dataclass(frozen=True, slots=True)
class GroupAudit:
    """Groups of rows across splits.

    Attributes:
        kind: What a group is, e.g. ``CT volume``, ``patient`` or ``lesion``.
        groups: Number of groups of all splits.
        split_groups: Split -> number of its groups.
        unknown: Split -> number of rows whose group is not known.
        shared: For each pair of splits that share groups.
    """

    kind: Name
    groups: Count
    split_groups: dict[str, Count]
    unknown: dict[str, Count]
    shared: tuple[SharedGroups, ...]


def find_leaks(kind: str, groups: Mapping[str, Sequence[str | None]]) -> GroupAudit:
    """Find the groups with rows in more than one split.

    Args:
        kind: What a group is.
        groups: Split -> group of each row; None where it is not known.
    """
    counts = {split: Counter(name for name in names if name is not None) for split, names in groups.items()}
    shared = []
    for first, second in combinations(counts, 2):
        both = counts[first].keys() & counts[second].keys()
        if both:
            rows = {split: sum(counts[split][name] for name in both) for split in (first, second)}
            shared.append(SharedGroups(len(both), rows, min(both)))
    return GroupAudit(
        kind=kind,
        groups=len(set().union(*counts.values())),
        split_groups={split: len(count) for split, count in counts.items()},
        unknown={split: sum(name is None for name in names) for split, names in groups.items()},
        shared=tuple(shared),
    )


def sentences(audit: GroupAudit, thing: str) -> Iterator[str]:
    """Findings for a card, without a full stop.

    Args:
        audit: The groups.
        thing: What a row is, ``image`` or ``volume``.
    """
    for shared in audit.shared:
        splits, rows = " and ".join(shared.rows), ", ".join(f"{n:,} of {split}" for split, n in shared.rows.items())
        verb = "has" if shared.groups == 1 else "have"
        yield f"{counted(shared.groups, audit.kind)} {verb} {thing}s in {splits}: {rows}, e.g. {shared.example}"
    if not audit.shared:
        yield f"no {audit.kind} has {thing}s in two splits, of {counted(audit.groups, audit.kind)}"
    for split, unknown in audit.unknown.items():
        if unknown:
            yield f"the {audit.kind} of {counted(unknown, thing)} of {split} is not known"
