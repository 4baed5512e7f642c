"""Rows of one config in blocks of bounded size, from a local build or the Hub, with labels as the NPZ file holds them.

Example:
    >>> from medmnist_hf.data.rows import open_rows
    >>> rows = open_rows("pathmnist", 224, root="dist")  # doctest: +SKIP
    >>> sum(len(block) for block in rows.images("test"))  # doctest: +SKIP
    7180
"""

import abc
import logging
from collections.abc import Iterator
from functools import cached_property, partial
from itertools import chain, repeat
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import Subset, Task, split_name
from medmnist_hf.data.configs import NOT_THE_SHARD, BuiltConfig, config_at
from medmnist_hf.data.decode import Part, decode_image, decoded, encoded, labels_of, row_errors
from medmnist_hf.data.npz_reader import NpzReader, provenance_of
from medmnist_hf.data.shards import SHARD_ERRORS, check_footer
from medmnist_hf.errors import SourceError
from medmnist_hf.files import sha256_of
from medmnist_hf.manifest import Shard
from medmnist_hf.places.resolver import NpzFile, find

_log = logging.getLogger(__name__)

_LABEL_ROWS: Final = 1 << 16


class Rows(abc.ABC):
    """The rows of a config, split by split and in the order of the source; pixels are read block by block.

    Attributes:
        entry: The subset.
        size: Edge length in pixels or voxels.
        shape: Shape of a row: ``(H, W)``, ``(H, W, 3)`` or ``(D, H, W)``.
        where: What to call the config in an error, e.g. ``dist/pathmnist/28``.
    """

    def __init__(self, entry: Subset, size: int, where: str) -> None:
        self.entry, self.size, self.where = entry, size, where
        self.shape = entry.file(size).image_shape

    @abc.abstractmethod
    def count(self, split: str) -> int:
        """Number of rows of a split; raises `CatalogError` for an unknown one."""

    @abc.abstractmethod
    def targets(self, split: str) -> NDArray[Any]:
        """Labels of a split as a model wants them.

        Returns:
            int64 of shape (N,) with class ids, or uint8 of shape (N, L) with 0 and 1 for the multi-label task.

        Raises:
            CatalogError: Unknown split.
            SourceError: The split cannot be fetched, or a label is none of this subset.
            BuildError: A shard is missing or damaged.
            ReadError: The NPZ file is damaged.
        """

    def labels(self, split: str) -> UInt8Array:
        """Labels of a split as the official NPZ file holds them; errors as in `targets`.

        Returns:
            uint8 of shape (N, 1) with class ids, or (N, L) with 0 and 1 for the multi-label task.
        """
        return self.targets(split).astype(np.uint8).reshape(self.count(split), -1)

    @abc.abstractmethod
    def images(self, split: str) -> Iterator[UInt8Array]:
        """Stream the pixels of a split.

        Yields:
            uint8 of shape (n, H, W), (n, H, W, 3) or (n, D, H, W): 16 MiB of images at most, of volumes in a build
            2 MiB; volumes read-only.

        Raises:
            CatalogError: Unknown split.
            SourceError: The split cannot be fetched, or holds images of another kind.
            BuildError: A shard is missing or damaged.
            ReadError: The NPZ file is damaged.
        """

    @abc.abstractmethod
    def sample(self, split: str, indices: NDArray[np.int64]) -> UInt8Array:
        """Decode some rows, in any order and also several times; of a build only the row groups that hold them.

        Args:
            split: Name of a split.
            indices: Row numbers, each below `count`.

        Returns:
            uint8 of shape (len(indices), *shape of a row); errors as in `images`.
        """


class BuiltRows(Rows):
    """The rows of a built config, here or on the Hub."""

    def __init__(self, config: BuiltConfig) -> None:
        super().__init__(config.entry, config.size, config.where)
        self._config = config

    def count(self, split: str) -> int:
        """See `Rows.count`."""
        return self._config.split(split).rows

    def targets(self, split: str) -> NDArray[Any]:
        """See `Rows.targets`."""
        blocks: list[NDArray[Any]] = []
        start, multi_label = 0, self.entry.task is Task.MULTI_LABEL
        for column in self._labels(split):
            with row_errors(partial(self._fault, split), start):
                blocks.append(labels_of(column, len(self.entry.labels), multi_label=multi_label))
            start += len(column)
        self._check_count(split, start)
        return np.concatenate(blocks)

    def images(self, split: str) -> Iterator[UInt8Array]:
        """See `Rows.images`."""
        with row_errors(partial(self._fault, split)):
            yield from decoded(self._parts(split), self.shape)

    def files(self, split: str) -> Iterator[list[bytes]]:
        """Stream the images of a split as they are stored, without decoding; for 2D subsets alone.

        Yields:
            Encoded images: PNG, or WebP where the config was built so.

        Raises:
            CatalogError: Unknown split.
            SourceError: The split cannot be fetched, or holds no images.
            BuildError: A shard is missing or damaged.
        """
        start = 0
        for rows, read in self._parts(split):
            with row_errors(partial(self._fault, split), start):
                files = encoded(read())
            yield files
            start += rows

    def sample(self, split: str, indices: NDArray[np.int64]) -> UInt8Array:
        """See `Rows.sample`."""
        distinct, places = np.unique(indices, return_inverse=True)
        out = np.empty((len(distinct), *self.shape), np.uint8)
        done = 0
        with row_errors(lambda row, what: self._fault(split, int(distinct[row]), what)):
            for block in decoded(self._picked(split, distinct), self.shape):
                out[done : done + len(block)] = block
                done += len(block)
        if done != len(distinct):
            raise self._other(split, f"{done} of {len(distinct)} rows asked for")
        return np.asarray(out[places])

    def decoded(self, image: bytes, split: str) -> UInt8Array:
        """The pixels of one stored image, of the shape of a row.

        Raises:
            SourceError: It is no image, or one of another shape.
        """
        pixels = np.empty(self.shape, np.uint8)
        try:
            decode_image(np.frombuffer(image, np.uint8), pixels)
        except ValueError as error:
            raise self._other(split, f"a row holds {error}") from None
        return pixels

    def _labels(self, split: str) -> Iterator[Any]:
        for path, shard in self._config.shards(split):
            try:
                # Labels are read alone and checked against their range; whoever reads pixels reads all of the file.
                self._config.check_file(path, shard)
                with pq.ParquetFile(path) as file:
                    check_footer(file.metadata, shard.rows, self.entry, self.size)
                    for batch in file.iter_batches(_LABEL_ROWS, columns=["label"]):
                        yield batch.column("label")
            except SHARD_ERRORS as error:
                raise self._config.unreadable(path, error) from None

    def _parts(self, split: str) -> Iterator[Part]:
        """The column ``image`` by row groups, of shards that are proved to be those of the manifest."""
        total, stated = 0, self.count(split)
        for path, shard in self._config.shards(split):
            for start, stop, read in self._groups(path, shard, whole=True):
                total += stop - start
                if total > stated:
                    break
                yield stop - start, read
        self._check_count(split, total)

    def _picked(self, split: str, indices: NDArray[np.int64]) -> Iterator[Part]:
        """The rows at ascending, distinct indices of the column ``image``."""
        first = 0
        for path, shard in self._config.shards(split):
            if ((indices >= first) & (indices < first + shard.rows)).any():
                for start, stop, read in self._groups(path, shard, whole=False):
                    inside = indices[(indices >= first + start) & (indices < first + stop)] - (first + start)
                    if inside.size:
                        yield inside.size, partial(_take, read, inside)
            first += shard.rows

    def _groups(self, path: Path, shard: Shard, *, whole: bool) -> Iterator[tuple[int, int, Any]]:
        """First row, row after the last and reader of each row group; with `whole` the file is hashed first."""
        try:
            self._config.check_file(path, shard)
            if whole and sha256_of(path) != shard.sha256:
                raise self._config.unreadable(path, OSError(NOT_THE_SHARD))
            footer = pq.read_metadata(path)
            check_footer(footer, shard.rows, self.entry, self.size)
        except SHARD_ERRORS as error:
            raise self._config.unreadable(path, error) from None
        start = 0
        for group in range(footer.num_row_groups):
            stop = start + footer.row_group(group).num_rows
            yield start, stop, partial(self._read, path, footer, group)
            start = stop

    def _read(self, path: Path, footer: Any, group: int) -> Any:
        # A file of its own for each thread, which a reader is not meant to be shared by.
        try:
            with pq.ParquetFile(path, metadata=footer) as file:
                return file.read_row_group(group, columns=["image"], use_threads=False).column("image")
        except SHARD_ERRORS as error:
            raise self._config.unreadable(path, error) from None

    def _check_count(self, split: str, rows: int) -> None:
        if rows != self.count(split):
            raise self._other(split, f"{rows} rows where {self.count(split)} are stated")

    def _fault(self, split: str, row: int, what: str) -> SourceError:
        return self._other(split, f"row {row} holds {what}")

    def _other(self, split: str, what: str) -> SourceError:
        return SourceError(
            f"{self.where} {split} does not hold what {self.entry.flag} at size {self.size} must ({what}): "
            f"is it of this project? {self._config.remedy}"
        )


_BLOCK_BYTES: Final = 1 << 24
"""Pixels of a block that is read of an NPZ file."""


class NpzRows(Rows):
    """The rows of an NPZ file.

    Args:
        place: The file. Where its MD5 is not the official one, it may have any number of rows.

    Raises:
        ReadError: The file is damaged, or is not this subset in this size.
        SourceError: It cannot be read.
    """

    def __init__(self, place: NpzFile) -> None:
        super().__init__(place.entry, place.size, str(place.path))
        self._path = place.path
        self.provenance = provenance_of(place)

    @cached_property
    def _reader(self) -> NpzReader:
        counts = self.entry.counts if self.provenance.comparable else None
        return NpzReader(self._path, self.entry, self.size, counts)

    def count(self, split: str) -> int:
        """See `Rows.count`."""
        return self._reader.rows(split_name(split))

    def targets(self, split: str) -> NDArray[Any]:
        """See `Rows.targets`."""
        labels = self._reader.labels(split_name(split))
        return labels if self.entry.task is Task.MULTI_LABEL else labels.astype(np.int64)

    def images(self, split: str) -> Iterator[UInt8Array]:
        """See `Rows.images`."""
        count, block = self.count(split), max(1, _BLOCK_BYTES // prod(self.shape))
        whole, rest = divmod(count, block)
        return self._reader.images(split_name(split), chain(repeat(block, whole), [rest] if rest else []))

    def sample(self, split: str, indices: NDArray[np.int64]) -> UInt8Array:
        """See `Rows.sample`."""
        distinct, places = np.unique(indices, return_inverse=True)
        out = np.empty((len(distinct), *self.shape), np.uint8)
        first, done = 0, 0
        for block in self.images(split):
            picked = distinct[(distinct >= first) & (distinct < first + len(block))] - first
            out[done : done + len(picked)] = block[picked]
            first, done = first + len(block), done + len(picked)
            if done == len(distinct):
                break
        return np.asarray(out[places])


def open_rows(
    name: str | Path,
    size: int | str | None = None,
    *,
    root: str | Path | None = None,
    revision: str | None = None,
) -> Rows:
    """Open a config for reading: a build, a repository on the Hub, or an NPZ file.

    Of the Hub, the files of a split are downloaded when that is asked for. An NPZ file whose MD5 is not the official
    one is logged.

    Args:
        name: Name of the data set, see `medmnist_hf.places.names.parse_name`.
        size: Edge length in pixels or voxels; None takes that of the name, or 28.
        root: Folder of builds or of NPZ files. By default that of ``MEDMNIST_DATA``, ``dist``, the cache of builds,
            then the Hub.
        revision: Branch, tag or commit on the Hub.

    Raises:
        CatalogError: Unknown subset, or a size it does not have.
        SourceError: There is no such data here or on the Hub.
        BuildError: The build's manifest is unreadable or that of another config.
        ReadError: The NPZ file is damaged, or of another subset.
    """
    place = find(name, size, root=root, revision=revision, npz=True)
    if not isinstance(place, NpzFile):
        return BuiltRows(config_at(place))
    rows = NpzRows(place)
    if not rows.provenance.comparable:
        _log.warning("%s: %s", place.path, rows.provenance.warning)
    return rows


def _take(read: Any, rows: NDArray[np.int64]) -> Any:
    return read().take(pa.array(rows))
