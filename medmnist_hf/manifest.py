"""The manifest of a build: ``manifest.json``, next to a config's shards, records its source, content and versions.

It holds no time stamp and no path, so the same input always gives the same manifest.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod
from pathlib import Path
from typing import Annotated, Final

from medmnist_hf import catalog
from medmnist_hf.catalog import SPLITS, Subset, Task
from medmnist_hf.errors import BuildError, CatalogError, cannot_read
from medmnist_hf.files import read_document
from medmnist_hf.statistics.recorded import SplitStatistics
from medmnist_hf.statistics.sums import WHITE, PixelSums
from medmnist_hf.typed_json import (
    OPTIONAL,
    Bounds,
    Count,
    FileName,
    Md5,
    Name,
    OneOf,
    Sha256,
    decode_versioned,
    encode,
)

MANIFEST_NAME: Final = "manifest.json"
WORK_DIR: Final = ".build"
"""Folder within a subset's folder for locks and unfinished configs; it is not part of the build."""

README_NAME: Final = "README.md"
AUDIT_NAME: Final = "audit.json"
PICTURES: Final = {2: "montage.png", 3: "montage.gif"}
"""Dimensions of a subset -> file name of the picture on its card."""

FORMAT: Final = 1

FEATURES: Final = "features"
"""The column of a feature store, in place of ``image``."""

ARRAY: Final = "array"
"""The codec of volumes: uncompressed voxels."""

SOURCE_ID: Final = "source_id"
"""The column with the name of a row's source image."""

GROUP: Final = "group"
"""The column that names the patient, scan or lesion of a row."""

AGE: Final = "age"

ADDED: Final = (SOURCE_ID, GROUP, "lesion_id", "image_id", AGE, "sex", "localization")
"""Names of columns that CSV files add to a data set: text, except for `AGE`, a number of years."""

IMAGE_CODECS: Final = ("png", "webp")
SOURCE_KINDS: Final = ("zenodo", "folder", "phantom")

_Positive = Annotated[int, Bounds(1, (1 << 63) - 1)]


def shard_name(split: str, index: int, total: int) -> str:
    """Return the file name of a Parquet shard, e.g. ``train-00000-of-00007.parquet``."""
    return f"{split}-{index:05d}-of-{total:05d}.parquet"


@dataclass(frozen=True, slots=True)
class Shard:
    """One Parquet file of a split.

    Attributes:
        name: File name within the config's folder.
        rows: Number of rows.
        bytes: Size of the file in bytes.
        sha256: SHA-256 of the file, 64 hex digits.
    """

    name: FileName
    rows: _Positive
    bytes: Count
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class SplitRecord:
    """One split of a config.

    Attributes:
        rows: Number of rows.
        arrow_bytes: Size of the split as Arrow tables, in bytes (`num_bytes` in `datasets`).
        label_histogram: Label name -> number of rows with that label, zero counts included.
        unlabeled: Rows with an empty list of findings; 0 unless the task is multi-label.
        pixels_sha256: SHA-256 over the raw uint8 pixels of all rows, in row order, C order.
        labels_sha256: SHA-256 over the labels of the NPZ file, as little-endian int64, C order.
        shards: The Parquet files, in row order.
        pixels: Sums over all pixels, with mean and standard deviation; None in builds made before they were recorded.
    """

    rows: _Positive
    arrow_bytes: Count
    label_histogram: dict[str, Count]
    unlabeled: Count
    pixels_sha256: Sha256
    labels_sha256: Sha256
    shards: tuple[Shard, ...]
    pixels: PixelSums | None = field(default=None, metadata=OPTIONAL)

    @property
    def statistics(self) -> SplitStatistics | None:
        """Pixel sums and label counts; None in builds made before they were recorded."""
        return None if self.pixels is None else SplitStatistics(self.pixels, self.label_histogram)


class Provenance(StrEnum):
    """Origin of a build's data. Every result records it: only scores on verified data are compared with others."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    SYNTHETIC = "synthetic"

    @property
    def comparable(self) -> bool:
        """Whether scores on such data may be compared with published ones."""
        return self is Provenance.VERIFIED

    @property
    def banner(self) -> str:
        """Label for everything made from such data, ``SYNTHETIC`` or ``UNVERIFIED``; empty for verified data."""
        return "" if self.comparable else self.name

    @property
    def warning(self) -> str:
        """One line that starts with the banner and explains it; empty for verified data."""
        return _WARNINGS.get(self, "")

    def mark(self, text: str) -> str:
        """Return a title or name with the banner in front."""
        return f"{self.banner}: {text}" if self.banner else text


_WARNINGS: Final = {
    Provenance.UNVERIFIED: "UNVERIFIED: the data was built from a file whose MD5 is not the official one. "
    "Scores on it cannot be compared with others.",
    Provenance.SYNTHETIC: "SYNTHETIC: the data was generated and does not show patients. "
    "Scores on it mean nothing and cannot be compared with others.",
}


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The NPZ file a config was built from.

    Attributes:
        kind: ``zenodo``, ``folder`` or ``phantom``.
        file: File name.
        bytes: Size of the file in bytes.
        md5: MD5 of the file, computed while reading it.
        verified: Whether the MD5 equals the one in the catalog. Always False for a phantom.
    """

    kind: Annotated[str, OneOf(*SOURCE_KINDS)]
    file: FileName
    bytes: Count
    md5: Md5
    verified: bool

    @property
    def synthetic(self) -> bool:
        """Whether the pixels were generated by this project."""
        return self.kind == "phantom"

    @property
    def provenance(self) -> Provenance:
        """Provenance of the rows; a phantom is synthetic, whatever else is recorded."""
        if self.synthetic:
            return Provenance.SYNTHETIC
        return Provenance.VERIFIED if self.verified else Provenance.UNVERIFIED


@dataclass(frozen=True, slots=True)
class AddedFile:
    """A CSV file that columns were read from.

    Attributes:
        name: File name.
        sha256: SHA-256 of the file, 64 hex digits.
    """

    name: FileName
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class AddedColumns:
    """Columns next to ``image`` and ``label`` that do not come from the NPZ file.

    Attributes:
        names: Their names, in the order of the data set; each is one of `ADDED`.
        kind: What a value of the column ``group`` names, e.g. ``CT volume``; None without that column.
        files: The files they were read from.
    """

    names: tuple[Annotated[str, OneOf(*ADDED)], ...]
    kind: Name | None
    files: tuple[AddedFile, ...]

    @property
    def described(self) -> str:
        """The files with their digests, for messages."""
        return ", ".join(f"{file.name} (SHA-256 {file.sha256[:8]})" for file in self.files)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Manifest of a config, which is a subset built in one size.

    Attributes:
        subset: Flag of the subset, or of its variant.
        size: Edge length in pixels or voxels.
        codec: How pixels are stored: ``png``, ``webp`` or ``array``.
        max_shard_size: The limit on the size of a shard, in bytes of raw pixels.
        source: The NPZ file that the rows come from.
        splits: Split name -> its record, in the order train, validation, test.
        releases: Library -> version, for the libraries that determine the bytes of the shards.
        added: Columns that do not come from the NPZ file; None without any.
    """

    subset: Name
    size: _Positive
    codec: Annotated[str, OneOf(*IMAGE_CODECS, ARRAY)]
    max_shard_size: _Positive
    source: SourceRecord
    splits: dict[str, SplitRecord]
    releases: dict[Name, Name]
    added: AddedColumns | None = field(default=None, metadata=OPTIONAL)

    @property
    def entry(self) -> Subset:
        """The subset, or its variant."""
        return catalog.subset(self.subset)

    @property
    def config_name(self) -> str:
        """Name of the config on the card and in `load_dataset`, e.g. ``"28"`` or ``"28-corrected"``."""
        return self.entry.config_name(self.size)

    @property
    def name(self) -> str:
        """Name of the config for people, e.g. ``pathmnist 28``."""
        return f"{self.entry.base} {self.config_name}"

    @property
    def added_names(self) -> tuple[str, ...]:
        """Names of the columns that do not come from the NPZ file."""
        return self.added.names if self.added else ()

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards of all splits."""
        return tuple(shard for record in self.splits.values() for shard in record.shards)

    @property
    def content_id(self) -> str:
        """Hash of all shards, 64 hex digits: builds with the same ID hold the same files.

        It is written on the card because `datasets` identifies its prepared copies by the card's content.
        """
        shards = {split: [shard.sha256 for shard in record.shards] for split, record in self.splits.items()}
        return hashlib.sha256(json.dumps([self.subset, self.size, shards]).encode()).hexdigest()

    def to_json(self) -> str:
        """Return the text of ``manifest.json``: indented JSON with a final newline, the same for the same content."""
        return json.dumps({"format": FORMAT, **encode(self)}, indent=2, ensure_ascii=False) + "\n"


def parse_manifest(text: str | bytes, where: str, remedy: str = "build the config again with --force") -> Manifest:
    """Parse a manifest and check it for contradictions.

    Args:
        text: Content of a ``manifest.json``; bytes are decoded as UTF-8.
        where: Name of the file in an error message.
        remedy: What the error message advises.

    Raises:
        BuildError: The text is not a manifest of this format, or is inconsistent: the catalog lacks the subset, size
            or label, counts do not add up, shards have unexpected names, or a source is marked as verified although
            its MD5 differs from the catalog's.
    """
    try:
        manifest: Manifest = decode_versioned(text, Manifest, FORMAT)
        _check(manifest)
    except (ValueError, CatalogError) as error:
        raise BuildError(f"{where} is not a valid build manifest ({error}): {remedy}") from None
    return manifest


def _check(manifest: Manifest) -> None:
    """Raise a `ValueError` or `CatalogError` if a manifest contradicts itself or the catalog."""
    entry = catalog.subset(manifest.subset)
    official, source = entry.file(manifest.size), manifest.source
    if entry.flag != manifest.subset:
        raise ValueError(f"subset is {manifest.subset}, must be {entry.flag}")
    if (manifest.codec == ARRAY) != (entry.ndim == 3):
        raise ValueError(f"codec {manifest.codec} does not suit {entry.ndim}D data of {entry.flag}")
    if source.verified and (source.synthetic or source.md5 != official.md5):
        raise ValueError(f"source is called verified, but its MD5 {source.md5} is not that of {official.name}")
    if manifest.added is not None and ((GROUP in manifest.added.names) != (manifest.added.kind is not None)):
        raise ValueError(f"added does not describe the column {GROUP}")
    if tuple(manifest.splits) != SPLITS:
        raise ValueError(f"splits are {', '.join(manifest.splits) or 'missing'}, must be {', '.join(SPLITS)}")
    for split, record in manifest.splits.items():
        _check_split(entry, split, record)
        _check_pixels(split, record, official.image_shape, entry.channels)


def _check_split(entry: Subset, split: str, record: SplitRecord) -> None:
    names = [shard_name(split, index, len(record.shards)) for index in range(len(record.shards))]
    if [shard.name for shard in record.shards] != names:
        expected = f"{names[0]} and so on" if names else "at least one shard"
        raise ValueError(f"the shard names of {split} are not as expected: {expected}")
    if sum(shard.rows for shard in record.shards) != record.rows:
        raise ValueError(f"the shards of {split} do not add up to {record.rows} rows")
    if tuple(record.label_histogram) != entry.labels:
        raise ValueError(f"label_histogram of {split} does not list the labels of {entry.flag}")
    labeled, counts = record.rows - record.unlabeled, record.label_histogram.values()
    single_label = entry.task is not Task.MULTI_LABEL
    labels_match_rows = (sum(counts), labeled) == (record.rows, record.rows)
    if max(counts) > labeled or sum(counts) < labeled or (single_label and not labels_match_rows):
        raise ValueError(f"label_histogram of {split} does not add up to {record.rows} rows")


def _check_pixels(split: str, record: SplitRecord, shape: tuple[int, ...], channels: int) -> None:
    pixels = record.pixels
    if pixels is None:
        return
    values = record.rows * prod(shape) // channels
    if pixels.values != values or not len(pixels.sums) == len(pixels.squares) == channels:
        raise ValueError(f"pixels of {split} are not those of {record.rows} rows of shape {shape}")
    for total, square in zip(pixels.sums, pixels.squares, strict=True):
        if not total <= square <= WHITE * total or total**2 > values * square:
            raise ValueError(f"pixels of {split} has sums that no pixels have")


def read_manifest(config_dir: Path) -> Manifest:
    """Read the manifest in a config's folder.

    Raises:
        BuildError: The manifest is missing, cannot be read or is not valid.
    """
    path = config_dir / MANIFEST_NAME
    try:
        text = read_document(path)
    except (FileNotFoundError, NotADirectoryError):
        raise BuildError(f"no {MANIFEST_NAME} in {config_dir}: is it a build?") from None
    except OSError as error:
        raise BuildError(cannot_read(path, error, "build the config again with --force")) from None
    return parse_manifest(text, str(path))


def read_build(subset_dir: Path) -> tuple[Manifest, ...]:
    """Read the manifests of all complete configs in a subset's folder, in the order of `in_order`; may be empty.

    Raises:
        BuildError: The folder cannot be listed, or a manifest cannot be read or is not valid.
    """
    try:
        folders = [
            path
            for path in subset_dir.iterdir()
            if catalog.is_config_name(path.name) and (path / MANIFEST_NAME).exists()
        ]
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL byte in the name
        return ()
    except OSError as error:
        raise BuildError(
            f"cannot look for builds in {subset_dir} ({error.strerror}): check the folder and its permissions"
        ) from None
    return in_order(map(read_manifest, folders))


def in_order(manifests: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """Sort manifests by ascending size, those of the subset before those of its variants."""
    return tuple(sorted(manifests, key=lambda manifest: (manifest.entry.variant, manifest.size)))
