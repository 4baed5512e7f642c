"""Rows of one config in blocks of bounded size, from a local build, the Hub or an NPZ file.

Example:
    >>> from medmnist_hf.data.rows import open_rows
    >>> rows = open_rows("pathmnist", 224, root="dist")  # doctest: +SKIP
    >>> sum(len(block) for block in rows.images("test"))  # doctest: +SKIP
    7180
"""

import abc
import logging
from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from itertools import chain, repeat
from math import prod
from pathlib import Path
from typing import Any, Final, TypeVar

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

_Block = TypeVar("_Block", bound=np.ndarray[Any, Any])

_log = logging.getLogger(__name__)

_LABEL_ROWS: Final = 1 << 16

_READ_BYTES: Final = 1 << 18
"""Voxels that are read at a time: until lists are made of them, Arrow keeps several numbers for each."""


class Rows(abc.ABC):
    """The rows of a config, per split and in the order of the source; pixels are read block by block.

    Attributes:
        entry: The subset.
        size: Edge length in pixels or voxels.
        shape: Shape of a row: ``(H, W)``, ``(H, W, 3)`` or ``(D, H, W)``.
        where: Name of the config in errors, e.g. ``dist/pathmnist/28``.
    """

    def __init__(self, entry: Subset, size: int, where: str) -> None:
        self.entry, self.size, self.where = entry, size, where
        self.shape = entry.file(size).image_shape

    @abc.abstractmethod
    def count(self, split: str) -> int:
        """Number of rows of a split; raises `CatalogError` for an unknown one."""

    @abc.abstractmethod
    def targets(self, split: str) -> NDArray[Any]:
        """Labels of a split as a model needs them.

        Returns:
            int64 of shape (N,) with class ids, or uint8 of shape (N, L) with 0 and 1 for the multi-label task.

        Raises:
            CatalogError: Unknown split.
            SourceError: The split cannot be fetched, or a label is not valid for this subset.
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
            uint8 of shape (n, H, W), (n, H, W, 3) or (n, D, H, W), at most 16 MiB (2 MiB for volumes of a build);
            volumes are read-only.

        Raises:
            CatalogError: Unknown split.
            SourceError: The split cannot be fetched, or holds images of another shape or format.
            BuildError: A shard is missing or damaged.
            ReadError: The NPZ file is damaged.
        """

    @abc.abstractmethod
    def sample(self, split: str, indices: NDArray[np.int64]) -> UInt8Array:
        """Decode some rows, in any order and with repetition; of a build, only their row groups are read.

        Args:
            split: Name of a split.
            indices: Row numbers, each below `count`.

        Returns:
            uint8 of shape ``(len(indices), *shape of a row)``; errors as in `images`.
        """


class BuiltRows(Rows):
    """The rows of a built config, local or on the Hub."""

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

    def between(self, split: str, start: int, stop: int) -> Iterator[UInt8Array]:
        """Stream the pixels of the rows from `start` up to, but not including, `stop`.

        Only shards with such rows are read, and of them only row groups with such rows.

        Yields:
            Blocks as for `Rows.images`; errors as there.
        """
        with row_errors(partial(self._fault, split), start):
            yield from decoded(self._parts_between(split, start, stop), self.shape)

    def files(self, split: str) -> Iterator[list[bytes]]:
        """Stream the images of a split as stored, without decoding; only for 2D subsets.

        Yields:
            Encoded images: PNG, or WebP if the config was built with it.

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
            raise self._other(split, f"{done} of the {len(distinct)} requested rows")
        return np.asarray(out[places])

    def decoded(self, image: bytes, split: str) -> UInt8Array:
        """Decode one stored image to the shape of a row.

        Raises:
            SourceError: It is not an image, or has another shape.
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
                # Only the labels are read and checked against their range; reading pixels also checks the hash.
                self._config.check_file(path, shard)
                with pq.ParquetFile(path) as file:
                    check_footer(file.metadata, shard.rows, self.entry, self.size)
                    for batch in file.iter_batches(_LABEL_ROWS, columns=["label"]):
                        yield batch.column("label")
            except SHARD_ERRORS as error:
                raise self._config.unreadable(path, error) from None

    def _parts(self, split: str) -> Iterator[Part]:
        """The column ``image`` by row groups, after checking each shard's hash against the manifest."""
        total, stated = 0, self.count(split)
        for path, shard in self._config.shards(split):
            for start, stop, read in self._groups(path, shard, whole=True):
                total += stop - start
                if total > stated:
                    break
                yield stop - start, read
        self._check_count(split, total)

    def _parts_between(self, split: str, start: int, stop: int) -> Iterator[Part]:
        first = 0
        for path, shard in self._config.shards(split):
            if first < stop and first + shard.rows > start:
                for group_start, group_stop, read in self._groups(path, shard, whole=True):
                    low, high = max(start, first + group_start), min(stop, first + group_stop)
                    if low < high:
                        yield high - low, partial(_slice, read, low - first - group_start, high - low)
            first += shard.rows

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
        """Start, stop and reader of each row group; with `whole` the file's hash is checked first."""
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
        # A ParquetFile per call: it must not be shared between threads.
        try:
            with pq.ParquetFile(path, metadata=footer) as file:
                rows = max(1, _READ_BYTES // prod(self.shape))
                if self.entry.ndim == 2 or footer.row_group(group).num_rows <= rows:
                    return file.read_row_group(group, columns=["image"], use_threads=False).column("image")
                batches = file.iter_batches(rows, [group], ["image"], use_threads=False)
                return pa.chunked_array([batch.column("image") for batch in batches]).combine_chunks()
        except SHARD_ERRORS as error:
            raise self._config.unreadable(path, error) from None

    def _check_count(self, split: str, rows: int) -> None:
        if rows != self.count(split):
            raise self._other(split, f"{rows} rows where the manifest has {self.count(split)}")

    def _fault(self, split: str, row: int, what: str) -> SourceError:
        return self._other(split, f"row {row} holds {what}")

    def _other(self, split: str, what: str) -> SourceError:
        return SourceError(
            f"{self.where} {split} does not match {self.entry.flag} at size {self.size} ({what}): "
            f"was it built by this project? {self._config.remedy}"
        )


_BLOCK_BYTES: Final = 1 << 24
"""Bytes of pixels in a block that is read from an NPZ file."""


class NpzRows(Rows):
    """The rows of an NPZ file.

    Args:
        place: The file. If its MD5 is not the official one, any number of rows is accepted.

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

    From the Hub, the files of a split are downloaded when it is read. An NPZ file whose MD5 is not the official one
    logs a warning.

    Args:
        name: Name of the data set, see `medmnist_hf.places.names.parse_name`.
        size: Edge length in pixels or voxels; if None, that of the name, or 28.
        root: Folder of builds or of NPZ files. By default ``MEDMNIST_DATA``, ``dist``, the cache of builds, then the
            Hub.
        revision: Branch, tag or commit on the Hub.

    Raises:
        CatalogError: Unknown subset, or a size it does not have.
        SourceError: No such data exists locally or on the Hub.
        BuildError: The build's manifest is unreadable or describes another config.
        ReadError: The NPZ file is damaged, or holds another subset.
    """
    place = find(name, size, root=root, revision=revision, npz=True)
    if not isinstance(place, NpzFile):
        return BuiltRows(config_at(place))
    rows = NpzRows(place)
    if not rows.provenance.comparable:
        _log.warning("%s: %s", place.path, rows.provenance.warning)
    return rows


def _slice(read: Any, start: int, rows: int) -> Any:
    return read().slice(start, rows)


def _take(read: Any, rows: NDArray[np.int64]) -> Any:
    return read().take(pa.array(rows))


def regroup(blocks: Iterable[_Block], counts: Iterable[int]) -> Iterator[_Block]:
    """Yield the rows of all blocks in groups of given lengths.

    A group that lies within one block is a view of it; others are copied.

    Args:
        blocks: Arrays of shape (n, ...), read only as far as needed.
        counts: Length of each group, 1 or more.

    Raises:
        ValueError: The blocks have fewer rows.
    """
    source = iter(blocks)
    pending: list[_Block] = []
    available = 0
    for count in counts:
        while available < count:
            block = next(source, None)
            if block is None:
                raise ValueError(f"{available} rows are left where {count} are needed")
            pending.append(block)
            available += len(block)
        merged = pending[0] if len(pending) == 1 or len(pending[0]) >= count else np.concatenate(pending)
        if merged is not pending[0]:
            pending = [merged]  # type: ignore[list-item]  # NumPy's types lose the bound
        yield merged[:count]  # type: ignore[misc]
        rest = merged[count:]
        pending = [rest, *pending[1:]] if len(rest) else pending[1:]  # type: ignore[list-item]
        available -= count
