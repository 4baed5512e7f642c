"""What the two builders share: configs from the catalogue, splits from a source, and the way from rows to tables."""

import abc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import datasets
import numpy as np
import pyarrow as pa
from datasets.builder import Key

from builders.npz import Int64Array, NpzReader, UInt8Array
from builders.plan import DEFAULT_SHARD_SIZE, RowRange, row_groups, rows_per_group, shard_ranges
from builders.source import SourceFile, open_source
from medmnist_hf import catalog
from medmnist_hf.features import features_of

_BLOCK_BYTES: Final = 1 << 20
"""Raw pixels handed to the pool at once, in bytes: large enough to hide the hand-over, small enough to share out."""

_AHEAD: Final = 12
"""Blocks that may wait for the pool: keeps it busy while a row group is written, and bounds the memory."""


@dataclass
class MedMNISTConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """One subset in one size.

    Attributes:
        subset: Flag of the subset.
        size: Edge length in pixels or voxels.
        source: Where the NPZ file comes from: ``zenodo``, ``phantom`` or a folder.
        codec: How images are stored: ``png`` or ``webp``; volumes are always arrays.
    """

    subset: str = ""
    size: int = catalog.DEFAULT_SIZE
    source: str = "zenodo"
    codec: str = "png"


def configs(ndim: int) -> list[MedMNISTConfig]:
    """A config for each subset of that many dimensions and each of its sizes, named like ``pathmnist-224``."""
    return [
        MedMNISTConfig(name=f"{subset.flag}-{size}", subset=subset.flag, size=size, description=subset.description)
        for subset in catalog.subsets()
        if subset.ndim == ndim
        for size in subset.sizes
    ]


class MedMNISTBuilder(datasets.ArrowBasedBuilder):  # type: ignore[misc]
    """Converts one NPZ file to Arrow tables with the columns ``image`` and ``label``.

    Each table it yields is one row group. Use it through `builders.build` for sharded Parquet with a manifest, or as
    any builder of `datasets`: ``MedMNIST2D(config_name="pathmnist-28").download_and_prepare()``.
    """

    BUILDER_CONFIG_CLASS = MedMNISTConfig

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (the signature is that of datasets)
        super().__init__(*args, **kwargs)
        self.subset = catalog.subset(self.config.subset)
        self.image_shape = self.subset.file(self.config.size).image_shape
        # Tables arrive cut to row groups; the default of datasets would cut images again, every 100 rows.
        self._writer_batch_size = rows_per_group(self.image_shape, self.subset.ndim)

    def _info(self) -> datasets.DatasetInfo:
        subset = catalog.subset(self.config.subset)
        return datasets.DatasetInfo(
            description=subset.description,
            features=features_of(subset, self.config.size),
            homepage=catalog.collection().homepage,
            license=catalog.collection().license_names[subset.license],
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        file = open_source(self.config.source).fetch(self.subset, self.config.size)
        reader = self.open(file)
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={
                    "file": file,
                    "split": split,
                    "shards": shard_ranges(reader.rows(split), self.image_shape, DEFAULT_SHARD_SIZE),
                },
            )
            for split in catalog.SPLITS
        ]

    def _generate_tables(self, file: SourceFile, split: str, shards: list[RowRange]) -> Iterator[tuple[Key, pa.Table]]:
        with ThreadPoolExecutor() as pool:
            for shard, group, table in self.tables(self.open(file), split, shards, pool):
                yield Key(shard, group), table

    def open(self, file: SourceFile) -> NpzReader:
        """A checked reader of the config's NPZ file.

        Raises:
            ReadError: The file does not hold this subset in this size.
        """
        return NpzReader(file.path, self.subset, self.config.size, file.counts)

    def tables(
        self,
        reader: NpzReader,
        split: str,
        shards: Sequence[RowRange],
        pool: Executor,
        on_rows: Callable[[UInt8Array], object] = lambda block: None,
    ) -> Iterator[tuple[int, int, pa.Table]]:
        """Stream a split as tables of one row group each.

        Rows outside the wanted shards are read past, since a zip member has no index; the member is always read to its
        end, so that its CRC is checked.

        Args:
            reader: An open file.
            split: Name of the split.
            shards: The rows wanted, ascending and disjoint.
            pool: Where images are encoded; at most a constant number of blocks waits there.
            on_rows: Called with every block of pixels of the split in row order, wanted or not.

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
        done = 0
        for part, ends_group in _in_order(pool, self._encode, blocks):
            parts.append(part)
            if ends_group:
                shard, group, rows = cuts[done]
                columns = [self._image_column(parts), _label_column(reader.labels(split)[rows.start : rows.stop])]
                yield shard, group, pa.Table.from_arrays(columns, schema=self.info.features.arrow_schema)
                parts = []
                done += 1

    def _blocks(
        self, reader: NpzReader, split: str, groups: Sequence[RowRange], on_rows: Callable[[UInt8Array], object]
    ) -> Iterator[tuple[UInt8Array, bool]]:
        """The wanted rows in blocks of bounded size, and whether a block is the last of its group."""
        most = max(1, _BLOCK_BYTES // prod(self.image_shape))
        cuts = [
            (min(most, rows.stop - start), wanted, start + most >= rows.stop)
            for rows, wanted in _spans(groups, reader.rows(split))
            for start in range(rows.start, rows.stop, most)
        ]
        images = reader.images(split, (count for count, _, _ in cuts))
        for (_, wanted, ends_group), block in zip(cuts, images, strict=True):
            on_rows(block)
            if wanted:
                yield block, ends_group

    @abc.abstractmethod
    def _encode(self, block: UInt8Array) -> Any:  # noqa: ANN401  (each builder has its own kind of part)
        """Turn a block of images into a part of a column; runs in the pool."""

    @abc.abstractmethod
    def _image_column(self, parts: list[Any]) -> pa.Array:
        """The ``image`` column made of the parts of one row group."""


def _label_column(labels: Int64Array) -> pa.Array:
    """Class ids as they are; multi-hot rows as lists of the findings present."""
    if labels.ndim == 1:
        return pa.array(labels)
    offsets = np.zeros(len(labels) + 1, np.int32)
    np.cumsum(labels.sum(axis=1), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.nonzero(labels)[1]))


def _spans(groups: Sequence[RowRange], rows: int) -> Iterator[tuple[RowRange, bool]]:
    """All rows of a split as the groups (True) and the gaps between and around them (False)."""
    position = 0
    for group in groups:
        if position < group.start:
            yield RowRange(position, group.start), False
        yield group, True
        position = group.stop
    if position < rows:
        yield RowRange(position, rows), False


def _in_order(
    pool: Executor, work: Callable[[UInt8Array], Any], blocks: Iterator[tuple[UInt8Array, bool]]
) -> Iterator[tuple[Any, bool]]:
    """Results of `work` in the order of the blocks, with at most `_AHEAD` of them under way."""
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
