"""Streaming rows as tables: one per row group, for the requested shards only, with a bounded queue."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from medmnist_hf.catalog import Subset, subset
from medmnist_hf.conversion.sharding import RowRange, row_groups, rows_per_group
from medmnist_hf.conversion.sources.source import SourceFile
from medmnist_hf.conversion.tables import RowTables
from medmnist_hf.errors import ReadError
from tests.conftest import Phantoms
from tests.fixtures.npz import NpzFile, arrays_of, source_file
from tests.fixtures.tables import images_of, labels_of

UInt8 = npt.NDArray[np.uint8]


def tables_of(entry: Subset, size: int) -> RowTables:
    return RowTables(entry, size, "array" if entry.ndim == 3 else "png")


def all_tables(
    tables: RowTables, file: SourceFile, split: str, shards: list[RowRange]
) -> list[tuple[int, int, pa.Table]]:
    with ThreadPoolExecutor(3) as pool:
        return list(tables.stream(tables.open(file), split, shards, pool))


@pytest.mark.parametrize(
    ("flag", "size", "count"), [("pathmnist", 224, 240), ("organcmnist", 128, 40), ("nodulemnist3d", 64, 48)]
)
def test_each_table_is_a_row_group(phantoms: Phantoms, flag: str, size: int, count: int) -> None:
    entry, file = subset(flag), phantoms(flag, size, count)
    tables = tables_of(entry, size)
    assert file.counts is not None
    shape, rows = entry.file(size).image_shape, file.counts.train
    shards = [RowRange(0, rows // 4), RowRange(rows // 4, rows)]
    streamed = all_tables(tables, file, "train", shards)
    groups = [(i, row_groups(shard, shape, entry.ndim)) for i, shard in enumerate(shards)]
    expected = [(i, j, len(group)) for i, parts in groups for j, group in enumerate(parts)]
    assert [(shard, group, len(table)) for shard, group, table in streamed] == expected
    assert any(group > 0 for _, group, _ in expected) or flag == "organcmnist"
    assert {table.schema for _, _, table in streamed} == {tables.features.arrow_schema}
    with np.load(file.path) as npz:
        pixels = pa.concat_tables([table for _, _, table in streamed])["image"]
        assert np.array_equal(images_of(pixels, entry, size), npz["train_images"])


def test_only_requested_shards_are_yielded(phantoms: Phantoms) -> None:
    """Rows between them are skipped, but `on_rows` gets every block, in row order."""
    entry, file = subset("bloodmnist"), phantoms("bloodmnist", 28, 400)
    tables = tables_of(entry, 28)
    reader = tables.open(file)
    with np.load(file.path) as npz:
        pixels, labels = npz["train_images"], npz["train_labels"]
    for shards in (
        [RowRange(10, 20), RowRange(20, 25), RowRange(390, 400)],
        [RowRange(0, 1)],
        [],
        [RowRange(399, 400)],
    ):
        seen: list[UInt8] = []
        with ThreadPoolExecutor(2) as pool:
            streamed = list(tables.stream(reader, "train", shards, pool, seen.append))
        assert np.array_equal(np.concatenate(seen), pixels)
        assert [shard for shard, _, _ in streamed] == list(range(len(shards)))
        for (_, _, table), rows in zip(streamed, shards, strict=True):
            assert np.array_equal(images_of(table["image"], entry, 28), pixels[rows.start : rows.stop])
            assert np.array_equal(labels_of(table["label"], entry), labels[rows.start : rows.stop])


def test_multi_hot_labels_become_lists_of_findings(tmp_path: Path) -> None:
    entry = subset("chestmnist")
    arrays = arrays_of(entry)
    labels = np.zeros((7, 14), np.uint8)
    labels[1, [0, 13]] = labels[3, 5] = labels[4] = 1
    arrays["train_labels"] = labels
    NpzFile(arrays).write(tmp_path / "a.npz")
    tables = tables_of(entry, 28)
    ((_, _, table),) = all_tables(tables, source_file(tmp_path / "a.npz"), "train", [RowRange(0, 7)])
    assert table["label"].to_pylist() == [[], [0, 13], [], [5], list(range(14)), [], []]
    ((_, _, table),) = all_tables(tables, source_file(tmp_path / "a.npz"), "train", [RowRange(2, 4)])
    assert table["label"].to_pylist() == [[], [5]]


def test_tables_of_volumes_take_little_more_memory_than_their_voxels(phantoms: Phantoms) -> None:
    entry, file = subset("vesselmnist3d"), phantoms("vesselmnist3d", 64)
    tables = tables_of(entry, 64)
    ((_, _, table),) = all_tables(tables, file, "test", [RowRange(0, 8)])
    assert 8 * 64**3 < table["image"].nbytes < 8 * 64**3 * 1.1


@pytest.mark.parametrize("workers", [1, 5])
def test_the_queue_of_the_pool_is_bounded(phantoms: Phantoms, workers: int) -> None:
    """The number of blocks read ahead is bounded, however slowly tables are consumed."""
    entry, file = subset("pathmnist"), phantoms("pathmnist", 224, 240)
    tables = tables_of(entry, 224)
    read = itertools.count()
    rows = 0

    def on_rows(block: UInt8) -> None:
        nonlocal rows
        next(read)
        rows += len(block)

    most = rows_per_group((224, 224, 3), 2)
    with ThreadPoolExecutor(workers) as pool:
        stream = tables.stream(tables.open(file), "train", [RowRange(0, 240)], pool, on_rows)
        _, _, first = next(stream)
        assert len(first) <= most
        assert rows <= len(first) + 14 * max(1, (1 << 20) // (224 * 224 * 3)) < 240
        del stream  # closes the stream, so that the pool has no work left


def test_a_file_with_other_row_counts_is_refused(tmp_path: Path) -> None:
    NpzFile(arrays_of(subset("breastmnist"))).write(tmp_path / "a.npz")
    with pytest.raises(ReadError, match="7 rows where the catalog has 546"):
        tables_of(subset("breastmnist"), 28).open(source_file(tmp_path / "a.npz", subset("breastmnist").counts))
