"""Convert the rows of an NPZ file to Arrow tables of one row group each, encoded in a pool and yielded in order."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from math import prod
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import SPLITS, Subset
from medmnist_hf.conversion.added_columns import AddedFiles, AddedRows
from medmnist_hf.conversion.encode import image_column
from medmnist_hf.conversion.sharding import RowRange, row_groups
from medmnist_hf.conversion.sources.source import SourceFile
from medmnist_hf.data.npz_reader import NpzReader
from medmnist_hf.features import features_of

_BLOCK_BYTES: Final = 1 << 20
"""Raw pixels per task of the pool, in bytes: large enough to hide the overhead, small enough to balance the load."""

_AHEAD: Final = 12
"""Blocks that may wait for the pool, which stays busy while a row group is written; bounds memory."""


class RowTables:
    """Arrow tables of one subset at one size, with the columns ``image`` and ``label``, and those that files add.

    Attributes:
        subset: The subset.
        size: Edge length in pixels or voxels.
        codec: ``png`` or ``webp`` for images, ``array`` for volumes.
        image_shape: Shape of one row.
        features: The typed columns.
        added: The columns that files add, known once a file is open; None without any.
    """

    def __init__(self, subset: Subset, size: int, codec: str, files: AddedFiles | None = None) -> None:
        """Choose the encoder.

        Raises:
            CatalogError: The subset is not published in that size.
            BuildError: The codec is unknown, or cannot store these images.
            SourceError: A file of added columns is missing, or is not for this subset.
        """
        self._files = files
        self.added: AddedRows | None = None
        self.subset, self.size, self.codec = subset, size, codec
        self.image_shape = subset.file(size).image_shape
        self.features = features_of(subset, size, files.columns_of(subset).names if files else ())
        self._column = image_column(subset, size, codec)

    def open(self, file: SourceFile) -> NpzReader:
        """Open an NPZ file and check its members.

        Raises:
            ReadError: The file does not contain this subset at this size, or added columns do not describe its rows.
        """
        reader = NpzReader(file.path, self.subset, self.size, file.counts)
        if self._files is not None:
            self.added = self._files.read(self.subset, {split: reader.labels(split) for split in SPLITS})
        return reader

    def stream(
        self,
        reader: NpzReader,
        split: str,
        shards: Sequence[RowRange],
        pool: Executor,
        on_rows: Callable[[UInt8Array], object] = lambda block: None,
    ) -> Iterator[tuple[int, int, pa.Table]]:
        """Stream a split as tables of one row group each.

        A zip member has no index, so rows outside the requested shards are read and skipped. The member is always read
        to its end, so that its CRC is checked.

        Args:
            reader: An open file.
            split: Name of the split.
            shards: The rows to yield, ascending and disjoint.
            pool: Encodes images; a bounded number of blocks waits for it.
            on_rows: Called with every block of pixels of the split in row order, skipped rows included.

        Yields:
            Index of the shard in `shards`, index of the row group within it, and the table.

        Raises:
            ReadError: The images of the split are damaged.
        """
        cuts = [
            (shard, group, rows)
            for shard, shard_rows in enumerate(shards)
            for group, rows in enumerate(row_groups(shard_rows, self.image_shape, self.subset.ndim))
        ]
        blocks = self._blocks(reader, split, [rows for _, _, rows in cuts], on_rows)
        parts: list[Any] = []
        finished = 0
        for part, ends_group in _map_in_order(pool, self._column.encode, blocks):
            parts.append(part)
            if ends_group:
                shard, group, rows = cuts[finished]
                columns = [self._column.join(parts), label_column(reader.labels(split)[rows.start : rows.stop])]
                if self.added is not None:
                    columns += self.added.arrays(self.subset, self.size, split, rows.start, rows.stop)
                yield shard, group, pa.Table.from_arrays(columns, schema=self.features.arrow_schema)
                parts = []
                finished += 1

    def _blocks(
        self, reader: NpzReader, split: str, groups: Sequence[RowRange], on_rows: Callable[[UInt8Array], object]
    ) -> Iterator[tuple[UInt8Array, bool]]:
        """Yield the rows of groups in blocks of bounded size, and whether a block is the last of its group."""
        step = max(1, _BLOCK_BYTES // prod(self.image_shape))
        cuts = [
            (min(step, rows.stop - start), in_group, start + step >= rows.stop)
            for rows, in_group in _spans(groups, reader.rows(split))
            for start in range(rows.start, rows.stop, step)
        ]
        images = reader.images(split, (count for count, _, _ in cuts))
        for (_, in_group, ends_group), block in zip(cuts, images, strict=True):
            on_rows(block)
            if in_group:
                yield block, ends_group


def label_column(labels: NDArray[np.integer[Any]]) -> pa.Array:
    """The column ``label``: class ids unchanged, multi-hot rows as lists of the findings present.

    Args:
        labels: Integers of shape (N,), or 0 and 1 of shape (N, L).
    """
    if labels.ndim == 1:
        return pa.array(labels.astype(np.int64))
    offsets = np.zeros(len(labels) + 1, np.int32)
    np.cumsum(labels.sum(axis=1, dtype=np.int32), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.nonzero(labels)[1]))


def _spans(groups: Sequence[RowRange], rows: int) -> Iterator[tuple[RowRange, bool]]:
    """Divide all rows of a split into the groups (True) and the gaps around them (False)."""
    position = 0
    for group in groups:
        if position < group.start:
            yield RowRange(position, group.start), False
        yield group, True
        position = group.stop
    if position < rows:
        yield RowRange(position, rows), False


def _map_in_order(
    pool: Executor, work: Callable[[UInt8Array], Any], blocks: Iterator[tuple[UInt8Array, bool]]
) -> Iterator[tuple[Any, bool]]:
    """Yield the results of `work` in the order of the blocks, with at most `_AHEAD` of them pending."""
    pending: deque[tuple[Future[Any], bool]] = deque()
    try:
        for block, ends_group in blocks:
            pending.append((pool.submit(work, block), ends_group))
            if len(pending) > _AHEAD:
                future, ended = pending.popleft()
                yield future.result(), ended
        while pending:
            future, ended = pending.popleft()
            yield future.result(), ended
    finally:
        for future, _ in pending:
            future.cancel()
