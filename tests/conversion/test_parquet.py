"""Shards on disk: complete or absent, readable by page, reused only if they match their record."""

import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.conversion.parquet import finished_shard, write_shard
from medmnist_hf.features import features_of
from medmnist_hf.files import sha256_of, write_atomically

FEATURES = features_of(subset("breastmnist"), 28)


def tables(*rows: int, seed: int = 0) -> Iterator[pa.Table]:
    rng = np.random.default_rng(seed)
    for count in rows:
        files = [{"bytes": rng.bytes(700), "path": None} for _ in range(count)]
        labels = rng.integers(0, 2, count)
        yield pa.Table.from_arrays(
            [pa.array(files, FEATURES.arrow_schema.field(0).type), labels], schema=FEATURES.arrow_schema
        )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "train-00000-of-00001.parquet", tmp_path / "record.json"


def test_a_shard_is_written_as_recorded(place: tuple[Path, Path]) -> None:
    path, record = place
    written = write_shard(path, record, FEATURES, tables(40, 39, 1))
    assert names(path.parent) == {path.name, record.name}
    assert (written.shard.name, written.shard.rows) == (path.name, 80)
    assert (written.shard.bytes, written.shard.sha256) == (path.stat().st_size, sha256_of(path))
    assert written.arrow_bytes == sum(table.nbytes for table in tables(40, 39, 1))
    assert finished_shard(path, record) == written
    parquet = pq.ParquetFile(path)
    assert parquet.schema_arrow.equals(FEATURES.arrow_schema)
    assert parquet.read().equals(pa.concat_tables(tables(40, 39, 1)))
    meta = parquet.metadata
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [40, 39, 1]


def test_shards_are_written_with_the_options_of_datasets(place: tuple[Path, Path], tmp_path: Path) -> None:
    """Codec, encodings, page index and metadata of every column equal those of ``Dataset.to_parquet``."""
    path, record = place
    write_shard(path, record, FEATURES, tables(500))
    peer = tmp_path / "peer.parquet"
    datasets.Dataset(pa.concat_tables(tables(500))).to_parquet(peer)
    shard, reference = pq.ParquetFile(path), pq.ParquetFile(peer)
    assert shard.schema_arrow.metadata == reference.schema_arrow.metadata
    assert datasets.Features.from_arrow_schema(shard.schema_arrow) == FEATURES
    chunking = b"content_defined_chunking"
    assert json.loads(shard.metadata.metadata[chunking]) == json.loads(reference.metadata.metadata[chunking])
    for column in range(3):
        a, b = shard.metadata.row_group(0).column(column), reference.metadata.row_group(0).column(column)
        assert (a.path_in_schema, a.compression, a.encodings) == (b.path_in_schema, b.compression, b.encodings)
        assert a.has_column_index == b.has_column_index
        assert a.has_offset_index
        assert b.has_offset_index
    assert sha256_of(path) == sha256_of(peer)


def test_voxels_are_compressed_with_zstd_and_a_dictionary(place: tuple[Path, Path]) -> None:
    features = features_of(subset("adrenalmnist3d"), 28)
    volumes = np.zeros((4, 28, 28, 28), np.uint8)
    volumes[:, 9:19] = 255
    data = datasets.Dataset.from_dict({"image": list(volumes), "label": [0, 1, 1, 0]}, features=features)
    write_shard(*place, features, [data.data.table.combine_chunks()])
    column = pq.ParquetFile(place[0]).metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert "RLE_DICTIONARY" in column.encodings
    assert column.has_offset_index


def test_writing_is_reproducible(place: tuple[Path, Path]) -> None:
    path, record = place
    first = write_shard(path, record, FEATURES, tables(33, 32))
    assert write_shard(path, record, FEATURES, tables(33, 32)) == first
    assert write_shard(path, record, FEATURES, tables(33, 32, seed=1)).shard.sha256 != first.shard.sha256


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_failure_leaves_no_file(place: tuple[Path, Path], after: int) -> None:
    def failing() -> Iterator[pa.Table]:
        yield from tables(*[50] * after)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(*place, FEATURES, failing())
    assert not names(place[0].parent)


def test_an_unwritable_folder_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_shard(tmp_path / "no" / "a.parquet", tmp_path / "r.json", FEATURES, tables(5))
    with pytest.raises(OSError, match=r"file|director"):
        write_atomically(tmp_path / "no" / "a.json", "{}")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "folder", "{}")
    assert names(tmp_path) == {"folder"}


def _cut(path: Path, record: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path, record: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _edit(path: Path, record: Path) -> None:
    record.write_text(record.read_text().replace('"rows"', '"lines"'))


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _flip,
        _edit,
        lambda path, record: path.unlink(),
        lambda path, record: record.unlink(),
        lambda path, record: record.write_text(""),
        lambda path, record: record.write_text("[]"),
        lambda path, record: record.write_bytes(b"\xff\xfe"),
        lambda path, record: record.write_text("7"),
        lambda path, record: record.write_text('{"shard": null, "arrow_bytes": 1}'),
    ],
)
def test_a_shard_that_differs_from_its_record_is_not_reused(place: tuple[Path, Path], damage: object) -> None:
    write_shard(*place, FEATURES, tables(30))
    assert finished_shard(*place) is not None
    assert callable(damage)
    damage(*place)
    assert finished_shard(*place) is None


def test_text_is_written_atomically(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "first ü\n")
    before = path.stat().st_ino
    write_atomically(path, "second\n")
    assert path.read_text(encoding="utf-8") == "second\n"
    assert path.stat().st_ino != before
    assert names(tmp_path) == {"a.json"}
