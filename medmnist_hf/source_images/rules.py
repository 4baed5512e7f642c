"""Rules on what names of source images, and files about them, say of rows; the catalog holds them as data."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdRule:
    """What the names of the source images of a subset say about its rows.

    Attributes:
        pattern: Regular expression with named parts, which a whole name matches.
        group: The parts that together name the patient or scan of a row.
        kind: What they name, e.g. ``CT volume``.
        label: The part that holds the label, as a number; empty if none is known to.
        first_label: Its value for label 0.
        certain: Whether all names match the pattern. Otherwise it is that of the source data, and rows whose name does
            not match have no group.
    """

    pattern: str
    group: tuple[str, ...]
    kind: str
    label: str
    first_label: int
    certain: bool

    def parts(self, name: str) -> dict[str, str] | None:
        """The named parts of a name; None if it does not match."""
        match = re.fullmatch(self.pattern, name, re.ASCII)
        return match and match.groupdict()

    def group_of(self, parts: dict[str, str]) -> str:
        """The group that parts name, e.g. ``train-112``."""
        return "-".join(parts[name] for name in self.group)


@dataclass(frozen=True, slots=True)
class MetadataRule:
    """The columns of a published CSV file about the source images of a subset.

    Attributes:
        columns: Its columns that become columns of the data set; one of them is ``image_id``.
        group: The column that names what rows have in common.
        kind: What it names, e.g. ``lesion``.
        label: The column with the label.
        codes: Its values, by label.
    """

    columns: tuple[str, ...]
    group: str
    kind: str
    label: str
    codes: tuple[str, ...]
