"""Verify that a built config equals its source: every pixel and label, read back the way a user reads them.

Rows are streamed with `datasets.load_dataset` and compared with the NPZ file row by row. Without a source, their
digests are compared with those in the manifest, which were computed from the NPZ file during the build.

All other modules read images and labels with `medmnist_hf.data.decode`. This one deliberately decodes with Pillow and
its own label reader, because sharing a reader would hide that reader's faults.
"""

import hashlib
import io
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from medmnist_hf.array_types import Int64Array, UInt8Array
from medmnist_hf.catalog import NPZ_SPLITS, Subset, subset
from medmnist_hf.conversion.sources.source import SourceFile
from medmnist_hf.data.loading import cache_fault, root_cause
from medmnist_hf.data.npz_reader import NpzReader
from medmnist_hf.data.shards import SHARD_ERRORS, check_footer
from medmnist_hf.errors import VerificationError, cannot_read, first_line
from medmnist_hf.features import features_of
from medmnist_hf.files import read_document, sha256_of
from medmnist_hf.manifest import MANIFEST_NAME, README_NAME, Manifest, read_manifest
from medmnist_hf.places.local_paths import check_loadable, escaped_shards, is_pattern
from medmnist_hf.statistics.sums import PixelCounter

_BATCH: Final = {2: 256, 3: 16}
"""Rows decoded at once, by number of dimensions."""

_REBUILD: Final = "build the config again with --force"


@dataclass(frozen=True, slots=True)
class Verified:
    """A config that passed.

    Attributes:
        subset: Flag of the subset.
        size: Edge length in pixels or voxels.
        rows: Number of rows compared, in all splits.
        shards: Number of shards whose SHA-256 was checked.
        against: What pixels and labels were compared with: the name of the NPZ file, or ``manifest``.
    """

    subset: str
    size: int
    rows: int
    shards: int
    against: str


def verify_config(
    config_dir: Path, file: SourceFile | None = None, *, on_progress: Callable[[int], object] = lambda rows: None
) -> Verified:
    """Verify that one built config equals its source, or its manifest.

    Args:
        config_dir: Folder of the config, e.g. ``dist/pathmnist/28``; its parent contains the card.
        file: NPZ file to compare with; None compares digests with the manifest.
        on_progress: Called with the number of rows just compared.

    Raises:
        BuildError: The folder has no build.
        ReadError: The NPZ file is damaged or contains another subset or size.
        VerificationError: Something differs; the message names the shard, split or row.
    """
    check_loadable(config_dir)
    manifest = read_manifest(config_dir)
    entry = subset(manifest.subset)
    if config_dir.name != manifest.config_name:
        raise VerificationError(
            f"{config_dir / MANIFEST_NAME} is the manifest of {manifest.entry.base} at size {manifest.config_name}: "
            "build the config again with --force"
        )
    _check_shards(config_dir, manifest, entry)
    _check_card(config_dir.parent, manifest)
    if file is not None and file.md5 != manifest.source.md5:
        raise VerificationError(
            f"{config_dir} was built from a file with MD5 {manifest.source.md5}, but {file.path} has {file.md5}: "
            "verify against the file it was built from, or build the config again with --force"
        )
    reader = NpzReader(file.path, entry, manifest.size, file.counts) if file is not None else None
    with ThreadPoolExecutor() as pool:
        for split in NPZ_SPLITS:
            _verify_split(_Stored(config_dir, manifest, entry, split, pool), reader, on_progress)
    rows = sum(record.rows for record in manifest.splits.values())
    against = "manifest" if file is None else file.path.name
    return Verified(manifest.subset, manifest.size, rows, len(manifest.shards), against)


def _check_shards(config_dir: Path, manifest: Manifest, entry: Subset) -> None:
    """Check size and SHA-256 of all shards, and that the folder has no other Parquet file."""
    for shard in manifest.shards:
        path = config_dir / shard.name
        if not path.is_file():
            raise VerificationError(f"{path} is missing: build the config again with --force")
        if path.stat().st_size != shard.bytes or sha256_of(path) != shard.sha256:
            raise VerificationError(f"{path} is not the shard of the manifest: build the config again with --force")
        try:
            check_footer(pq.read_metadata(path), shard.rows, entry, manifest.size)
        except SHARD_ERRORS as error:
            raise VerificationError(
                f"{path} is not a shard of this build ({first_line(error)}): build the config again with --force"
            ) from None
    names = {shard.name for shard in manifest.shards}
    for path in sorted(config_dir.glob("*.parquet")):
        if path.name not in names:
            raise VerificationError(
                f"{path} is not in the manifest: remove it, or build the config again with --force"
            )


def _check_card(folder: Path, manifest: Manifest) -> None:
    """Check that the card describes this build, since `load_dataset` keys its cache by it; refuse loading scripts."""
    card, script = folder / README_NAME, folder / f"{folder.resolve().name}.py"
    if script.exists():
        raise VerificationError(f"{script} prevents loading, since load_dataset refuses scripts: remove it")
    try:
        content = read_document(card)
    except FileNotFoundError:
        raise VerificationError(
            f"no {README_NAME} in {folder}: run medmnist-hf build again to write the card"
        ) from None
    except OSError as error:
        raise VerificationError(cannot_read(card, error, "check the file")) from None
    if manifest.content_id.encode() not in content:
        raise VerificationError(f"{card} is the card of another build: run medmnist-hf build again to write the card")


class _Stored:
    """One split of a built config, as `load_dataset` streams it."""

    def __init__(
        self, config_dir: Path, manifest: Manifest, entry: Subset, split: str, pool: ThreadPoolExecutor
    ) -> None:
        self.where = f"{config_dir} {split}"
        self.split = split
        self.record = manifest.splits[split]
        self.channels = entry.channels
        self._entry, self._pool = entry, pool
        self._shape = entry.file(manifest.size).image_shape
        folder = config_dir.parent
        escaped = {"data_files": escaped_shards(folder, manifest, NPZ_SPLITS)} if is_pattern(folder) else {}
        try:
            self._data: Any = datasets.load_dataset(
                str(folder.resolve()), config_dir.name, split=split, streaming=True, **escaped
            )
        except Exception as error:  # five libraries, whose errors have no common base
            if fault := cache_fault(error, folder):
                raise fault from None
            raise VerificationError(
                f"load_dataset cannot read {self.where} ({first_line(root_cause(error))}): {_REBUILD}"
            ) from None
        expected = features_of(entry, manifest.size, manifest.added_names)
        if self._data.features != expected:
            raise VerificationError(f"{self.where} has features {self._data.features}, not {expected}: {_REBUILD}")

    def blocks(self) -> Iterator[tuple[UInt8Array, Int64Array]]:
        """Yield decoded pixels ``(n, *image_shape)`` and labels ``(n,)`` or multi-hot ``(n, L)``, in row order."""
        tables = iter(self._data.with_format("arrow").iter(batch_size=_BATCH[self._entry.ndim]))
        row = 0
        while True:
            try:
                table = next(tables, None)
            except Exception as error:
                why = first_line(root_cause(error))
                raise VerificationError(f"{self.where} cannot be read from row {row} on ({why}): {_REBUILD}") from None
            if table is None:
                return
            image, label = table["image"].combine_chunks(), table["label"].combine_chunks()
            yield self._pixels(image, row), self._labels(label, row)
            row += len(table)

    def _pixels(self, column: pa.Array, start: int) -> UInt8Array:
        if self._entry.ndim == 3:
            return self._voxels(column.storage if isinstance(column, pa.ExtensionArray) else column, start)
        images = column.field("bytes").to_pylist()
        return np.stack(list(self._pool.map(self._decode, images, range(start, start + len(images)))))

    def _voxels(self, values: pa.Array, start: int) -> UInt8Array:
        inner = 1
        for edge in self._shape:
            lengths = np.asarray(values.value_lengths().fill_null(-1))
            self._refuse(lengths != edge, inner, start, f"a volume that is not {self._shape}")
            values, inner = values.flatten(), inner * edge
        self._refuse(np.asarray(values.is_null()), inner, start, "a volume with empty voxels")
        return np.asarray(values).reshape(-1, *self._shape)

    def _decode(self, data: bytes | None, row: int) -> UInt8Array:
        if not data:
            raise self._bad(row, "no image")
        mode, size = "RGB" if self._entry.channels == 3 else "L", self._shape[1::-1]
        try:
            with Image.open(io.BytesIO(data), formats=("PNG", "WEBP")) as image:
                # Before decoding, because a small file can claim a huge picture.
                if (image.mode, image.size) != (mode, size):
                    raise self._bad(row, f"an image of mode {image.mode} and size {image.size}, not {mode} and {size}")
                pixels = np.asarray(image)
                if image.getexif():
                    raise self._bad(row, "an image with EXIF data, which datasets uses to rotate it")
                return pixels
        except UnidentifiedImageError:  # its message contains a memory address
            raise self._bad(row, "a file that is not a PNG or WebP image") from None
        except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
            raise self._bad(row, f"an unreadable image ({first_line(error)})") from None

    def _labels(self, column: pa.Array, start: int) -> Int64Array:
        classes = len(self._entry.labels)
        self._refuse(np.asarray(column.is_null()), 1, start, "no label")
        if not pa.types.is_list(column.type):
            ids = np.asarray(column, np.int64)
            self._refuse((ids < 0) | (ids >= classes), 1, start, f"a label that is not 0 to {classes - 1}")
            return ids
        hot = np.zeros((len(column), classes), np.int64)
        rows = np.repeat(np.arange(len(column)), np.asarray(column.value_lengths()))
        ids = np.asarray(column.flatten().fill_null(-1), np.int64)
        bad = np.bincount(rows[(ids < 0) | (ids >= classes)], minlength=len(column)) > 0
        self._refuse(bad, 1, start, f"a label that is not 0 to {classes - 1}")
        np.add.at(hot, (rows, ids), 1)
        return hot

    def _refuse(self, bad: npt.NDArray[np.bool_], inner: int, start: int, what: str) -> None:
        """Raise an error for the row of the first bad value; each row has `inner` values."""
        if bad.any():
            raise self._bad(start + int(np.flatnonzero(bad)[0]) // inner, what)

    def _bad(self, row: int, what: str) -> VerificationError:
        return VerificationError(f"{self.where} row {row} holds {what}: {_REBUILD}")


def _verify_split(stored: _Stored, reader: NpzReader | None, on_progress: Callable[[int], object]) -> None:
    pixels, labels = hashlib.sha256(), hashlib.sha256()
    counter = PixelCounter(stored.channels)
    counts: list[int] = []
    images = reader.images(stored.split, iter(counts.pop, None)) if reader else None
    row = 0
    for block, block_labels in stored.blocks():
        if row + len(block) > stored.record.rows:
            break
        if reader and images:
            counts.append(len(block))
            source_labels = reader.labels(stored.split)[row : row + len(block)]
            _compare(stored, row, "pixels", block, next(images))
            _compare(stored, row, "labels", block_labels, source_labels)
        pixels.update(np.ascontiguousarray(block).data)
        counter.add(block)
        labels.update(block_labels.astype("<i8").tobytes())
        row += len(block)
        on_progress(len(block))
    else:
        expected = reader.rows(stored.split) if reader else stored.record.rows
        if row != expected or row != stored.record.rows:
            raise VerificationError(
                f"{stored.where} has {row} rows, the source {expected}, the manifest {stored.record.rows}: {_REBUILD}"
            )
        digests = (pixels.hexdigest(), labels.hexdigest())
        if digests != (stored.record.pixels_sha256, stored.record.labels_sha256):
            raise VerificationError(f"{stored.where} has pixels or labels that differ from its manifest: {_REBUILD}")
        if stored.record.pixels not in {None, counter.sums()}:
            raise VerificationError(f"{stored.where} has pixel statistics that differ from its manifest: {_REBUILD}")
        return
    raise VerificationError(f"{stored.where} has more rows than its manifest: {_REBUILD}")


def _compare(stored: _Stored, start: int, what: str, block: Any, expected: Any) -> None:
    if block.shape == expected.shape and np.array_equal(block, expected):
        return
    row = start
    if block.shape == expected.shape:
        row += int(np.flatnonzero((block != expected).reshape(len(block), -1).any(axis=1))[0])
    raise VerificationError(f"{stored.where} row {row}: the {what} differ from the NPZ file: {_REBUILD}")
