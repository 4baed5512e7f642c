"""Columns that CSV files add to a build: names of source images, patients or scans, and metadata.

The official CSV file of a subset has the columns ``split``, ``index`` and ``image_id``, and a line for each row of the
NPZ file, in any order. A metadata file has a line for each source image. Each line is checked against the rows and
their labels.
"""

import csv
import hashlib
import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medmnist_hf.catalog import SPLITS, Subset, split_name
from medmnist_hf.errors import CatalogError, ReadError, SourceError, cannot_read, counted, shorten
from medmnist_hf.features import features_of
from medmnist_hf.files import expand_user, read_document
from medmnist_hf.manifest import GROUP, SOURCE_ID, AddedColumns, AddedFile
from medmnist_hf.source_images.rules import IdRule, MetadataRule

_log = logging.getLogger(__name__)

Labels = Mapping[str, NDArray[Any]]
"""Split -> labels of its rows: class ids of shape (N,), or multi-hot (N, L)."""

_CSV_BYTES: Final = 64 << 20
"""Largest CSV file; that of TissueMNIST, which has most rows, has about 10 MB."""

_IDS: Final = ("split", "index", "image_id")


@dataclass(frozen=True, slots=True)
class AddedRows:
    """The values of added columns.

    Attributes:
        record: Their names and files, for the manifest.
        columns: Split -> column -> values, in the order of the rows; None where a value is unknown.
    """

    record: AddedColumns
    columns: dict[str, dict[str, list[str | None]]]

    def arrays(self, subset: Subset, size: int, split: str, start: int, stop: int) -> list[Any]:
        """The values of some rows as Arrow columns, in the order of `record.names`."""
        schema = features_of(subset, size, self.record.names).arrow_schema
        return [
            pa.array(values[start:stop], pa.string()).cast(schema.field(name).type)
            for name, values in self.columns[split].items()
        ]


@dataclass(frozen=True, slots=True)
class AddedFiles:
    """The files that columns are read from.

    Attributes:
        ids: Folder of the official CSV files, one per subset; None for none.
        metadata: A metadata file; None for none.

    Raises:
        SourceError: The folder or the file does not exist.
    """

    ids: Path | None = None
    metadata: Path | None = None

    def __post_init__(self) -> None:
        """Check that both exist."""
        if self.ids is not None and self.ids.is_file():
            raise SourceError(f"{self.ids} is a file: set --source-ids to its folder, {self.ids.parent}")
        if self.ids is not None and not self.ids.is_dir():
            raise SourceError(f"no folder {self.ids}: set --source-ids to the folder of the official CSV files")
        if self.metadata is not None and self.metadata.is_dir():
            raise SourceError(f"{self.metadata} is a folder: set --metadata to a CSV file in it")
        if self.metadata is not None and not self.metadata.is_file():
            raise SourceError(f"no file {self.metadata}: set --metadata to the CSV file about the source images")

    @classmethod
    def of(cls, ids: Path | None, metadata: Path | None) -> "AddedFiles | None":
        """The files of a command line; None if it names none. Errors as above."""
        if ids is None and metadata is None:
            return None
        return cls(ids and expand_user(ids), metadata and expand_user(metadata))

    def columns_of(self, subset: Subset) -> AddedColumns:
        """The columns that the files add to a subset, and the digests of the files.

        Raises:
            SourceError: A file is missing, cannot be read, or is not for this subset.
        """
        names: list[str] = []
        kind, paths = None, []
        if (ids := self._ids_of(subset)) is not None:
            paths.append(ids)
            names.append(SOURCE_ID)
            kind = subset.ids.kind if subset.ids else None
        if self.metadata is not None:
            rule = self._rule(subset)
            paths.append(self.metadata)
            names += rule.columns
            kind = rule.kind
        if kind is not None:
            names.append(GROUP)
        files = tuple(AddedFile(path.name, hashlib.sha256(_content(path)).hexdigest()) for path in paths)
        return AddedColumns(tuple(names), kind, files)

    def read(self, subset: Subset, labels: Labels) -> AddedRows:
        """Read the columns of a subset, checked row by row.

        Args:
            subset: The subset, or a variant.
            labels: The labels of the rows.

        Raises:
            SourceError: A file is missing, cannot be read, or is not for this subset.
            ReadError: A file does not describe these rows; the message names the line.
        """
        record = self.columns_of(subset)
        columns: dict[str, dict[str, list[str | None]]] = {split: {} for split in SPLITS}
        if (id_file := self._ids_of(subset)) is not None:
            names = read_ids(id_file, subset, labels)
            groups = None if subset.ids is None else _groups(subset.ids, names)
            for split in SPLITS:
                columns[split][SOURCE_ID] = list(names[split])
                if groups is not None:
                    columns[split][GROUP] = groups[split]
        if self.metadata is not None:
            rule = self._rule(subset)
            ids = None if id_file is None else {split: columns[split][SOURCE_ID] for split in SPLITS}
            for split, rows in _read_metadata(self.metadata, rule, labels, ids).items():
                columns[split] |= {name: [row[name] or None for row in rows] for name in rule.columns}
                columns[split][GROUP] = columns[split][rule.group]
        return AddedRows(record, {split: {name: columns[split][name] for name in record.names} for split in SPLITS})

    def _rule(self, subset: Subset) -> MetadataRule:
        if subset.metadata is None:
            raise SourceError(f"no metadata file is known for {subset.flag}: omit --metadata")
        if not subset.variant and self.ids is None:
            raise SourceError(
                f"--metadata describes images of {subset.flag} by their ID: pass --source-ids with the official CSV "
                "file too"
            )
        return subset.metadata

    def _ids_of(self, subset: Subset) -> Path | None:
        """The file with the IDs of a subset; None if none is used. The metadata of a variant is in its order."""
        return None if self.ids is None or (subset.variant and self.metadata) else _id_file(self.ids, subset)


def read_ids(path: Path, subset: Subset, labels: Labels) -> dict[str, list[str]]:
    """Read the names of the source images of a subset, one per row.

    Args:
        path: The CSV file.
        subset: The subset.
        labels: The labels of the rows.

    Raises:
        SourceError: The file cannot be read.
        ReadError: It lacks a column or a row, has a row twice, or contradicts a label; the message names the line.
    """
    names: dict[str, list[str]] = {split: [""] * len(labels[split]) for split in SPLITS}
    rule = subset.ids
    for line, row in _lines(path, _IDS):
        where = f"{path} line {line}"
        split = _split_of(row, where)
        rows = len(labels[split])
        index = int(row["index"]) if row["index"].isdecimal() and len(row["index"]) < 10 else -1
        if not 0 <= index < rows:
            raise ReadError(
                f"{where}: {split} has no row {shorten(row['index'])}, only 0 to {rows - 1}: is it the file of "
                f"{subset.flag}?"
            )
        if names[split][index]:
            raise ReadError(f"{where}: row {index} of {split} occurs twice: fetch the file again")
        if not row["image_id"]:
            raise ReadError(f"{where}: row {index} of {split} has no image_id: fetch the file again")
        if rule is not None:
            _check_name(rule, row["image_id"], labels[split][index], where)
        names[split][index] = row["image_id"]
    for split in SPLITS:
        if missing := names[split].count(""):
            raise ReadError(
                f"{path} lacks {missing:,} of {len(names[split]):,} rows of {split}, the first is "
                f"{names[split].index('')}: fetch the file again"
            )
    return names


def _check_name(rule: IdRule, name: str, label: Any, where: str) -> None:
    """Check a name against the pattern, and against the label of its row."""
    parts = rule.parts(name)
    if parts is None:
        if rule.certain:
            raise ReadError(f"{where}: image_id {shorten(name)} does not have the form of this subset: check the file")
        return
    if rule.label and int(parts[rule.label]) != int(label) + rule.first_label:
        raise ReadError(
            f"{where}: {rule.label} {parts[rule.label]} of image_id {shorten(name)} contradicts label {int(label)}, "
            f"which is {int(label) + rule.first_label} there: is it the file of this release?"
        )


def _groups(rule: IdRule, names: Mapping[str, list[str]]) -> dict[str, list[str | None]]:
    """The group of each row; None where the pattern does not match, which a warning counts."""
    groups: dict[str, list[str | None]] = {}
    unknown: list[str] = []
    for split, ids in names.items():
        parts = [rule.parts(name) for name in ids]
        groups[split] = [None if part is None else rule.group_of(part) for part in parts]
        unknown += [name for name, part in zip(ids, parts, strict=True) if part is None]
    if unknown:
        _log.warning(
            "%s without a %s, since a source_id such as %s is not of the known form",
            counted(len(unknown), "row"),
            rule.kind,
            shorten(unknown[0]),
        )
    return groups


def _read_metadata(
    path: Path, rule: MetadataRule, labels: Labels, ids: Mapping[str, list[str | None]] | None
) -> dict[str, list[dict[str, str]]]:
    """The lines of each split in the order of its rows: by the names of the images, or else in the file's order."""
    by_name: dict[str, tuple[int, dict[str, str]]] = {}
    for line, row in _lines(path, (*rule.columns, rule.label, *(() if ids else ("split",)))):
        name = row["image_id"]
        if name in by_name:
            raise ReadError(f"{path} line {line}: image_id {shorten(name)} occurs twice: fetch the file again")
        if not name or not row[rule.group]:
            raise ReadError(f"{path} line {line}: no image_id or {rule.group}: fetch the file again")
        if "age" in rule.columns and not _is_number(row["age"]):
            raise ReadError(f"{path} line {line}: age {shorten(row['age'])} is not a number: fetch the file again")
        by_name[name] = line, row
    by_split: dict[str, list[tuple[int, dict[str, str]]]] = {split: [] for split in SPLITS}
    if ids is None:
        for line, row in by_name.values():
            by_split[_split_of(row, f"{path} line {line}")].append((line, row))
    for split, names in (ids or {}).items():
        if lost := next((name for name in names if name not in by_name), None):
            raise ReadError(f"{path} lacks image_id {shorten(lost)} of {split}: is it the file of this subset?")
        by_split[split] = [by_name[str(name)] for name in names]
    for split, found in by_split.items():
        if len(found) != len(labels[split]):
            raise ReadError(
                f"{path} has {len(found):,} rows of {split} where the data has {len(labels[split]):,}: is it the file "
                "of this release?"
            )
        for (line, row), label in zip(found, labels[split], strict=True):
            if row[rule.label] != rule.codes[int(label)]:
                raise ReadError(
                    f"{path} line {line}: {rule.label} {shorten(row[rule.label])} of {row['image_id']} contradicts "
                    f"its label {int(label)}, which is {rule.codes[int(label)]}: is it the file of this release?"
                )
    return {split: [row for _, row in found] for split, found in by_split.items()}


def _split_of(row: Mapping[str, str], where: str) -> str:
    try:
        return split_name(row["split"])
    except CatalogError as error:
        raise ReadError(f"{where}: {error}") from None


def _is_number(text: str) -> bool:
    try:
        return not text or bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _id_file(folder: Path, subset: Subset) -> Path:
    """The CSV file of a subset; that of a variant does not exist."""
    names = [f"{subset.flag}.csv", f"{subset.flag}_split_info.csv"]
    if subset.variant:
        raise SourceError(f"no file with source IDs is known for {subset.flag}: omit --source-ids, use --metadata")
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise SourceError(
            f"no file {' or '.join(names)} in {folder}: copy the official CSV file of {subset.flag} there"
        )
    return path


def _content(path: Path) -> bytes:
    try:
        return read_document(path, _CSV_BYTES)
    except OSError as error:
        raise SourceError(cannot_read(path, error, "check the file")) from None


def _lines(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number and the values of each line after the header.

    Raises:
        SourceError: The file cannot be read.
        ReadError: It is not a CSV file with these columns.
    """
    try:
        text = _content(path).decode("utf-8-sig")
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(lines, [])
        if missing := [name for name in columns if name not in header]:
            raise ReadError(
                f"{path} has no column {missing[0]}, only {shorten(', '.join(header))}: the columns needed are "
                f"{', '.join(columns)}"
            )
        for values in lines:
            if len(values) != len(header):
                raise ReadError(
                    f"{path} line {lines.line_num}: {len(values)} values, not {len(header)}: check the file"
                )
            yield lines.line_num, {name: value.strip() for name, value in zip(header, values, strict=True)}
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReadError(f"{path} is not a CSV file in UTF-8 ({error}): fetch it again") from None
