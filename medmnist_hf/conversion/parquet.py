"""Parquet shards on disk: written completely or not at all, and reused only if they match their recorded SHA-256."""

import io
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from medmnist_hf.documents import parse_json
from medmnist_hf.files import read_document, sha256_of, write_atomically
from medmnist_hf.manifest import ADDED, AGE, FEATURES, Shard
from medmnist_hf.typed_json import Count, decode

_VOXELS: Final = "image.list.element.list.element.list.element"
_FEATURES: Final = f"{FEATURES}.list.element"


@dataclass(frozen=True, slots=True)
class WrittenShard:
    """A finished shard and the size of its rows as Arrow tables, in bytes."""

    shard: Shard
    arrow_bytes: Count


def _options(features: datasets.Features, schema: pa.Schema) -> dict[str, Any]:
    """The Parquet options of `datasets` 5, whichever release is installed, with two exceptions.

    Voxels are compressed by zstd, which is a sixth smaller than snappy and as fast. Features and the text of added
    columns are stored plainly, so that the size of the file bounds the memory that a reader needs; to features, snappy
    and dictionaries only add.
    """
    leaves = _leaf_paths(schema)
    images = [leaf for leaf in leaves if isinstance(features[leaf.partition(".")[0]], datasets.Image)]
    plain = {*images, _FEATURES, *ADDED} - {AGE}
    compression = {leaf: "none" if leaf in plain else "snappy" for leaf in leaves}
    options: dict[str, Any] = {
        "compression": compression,
        "use_dictionary": [leaf for leaf in leaves if leaf not in plain],
        "column_encoding": dict.fromkeys(images, "PLAIN"),
    }
    if _VOXELS in compression:
        compression[_VOXELS] = "zstd"
        options["compression_level"] = {_VOXELS: 1}
    return options


def _leaf_paths(schema: pa.Schema) -> list[str]:
    """The names that Parquet gives to the columns of a schema, such as ``label.list.element``."""
    file = io.BytesIO()
    pq.write_table(schema.empty_table(), file)
    columns = pq.read_metadata(file).schema
    return [columns.column(index).path for index in range(len(columns))]


def write_shard(path: Path, record: Path, features: datasets.Features, tables: Iterable[pa.Table]) -> WrittenShard:
    """Write one shard, and the record that `finished_shard` checks it against.

    Content-defined chunking, page indexes, encodings and schema metadata are those of `datasets`, so uploads
    deduplicate and the Hub's viewer can read single pages.

    Args:
        path: Path of the shard, in an existing folder.
        record: Path of its record, written after the shard.
        features: Typed columns, kept in the schema.
        tables: Tables of the shard in order; each becomes one row group.

    Raises:
        OSError: The disk is full, or the folder is not writable. No partial file is left.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        rows, arrow_bytes = _write_parquet(temporary, features, tables)
        shard = Shard(path.name, rows, temporary.stat().st_size, sha256_of(temporary))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    written = WrittenShard(shard, arrow_bytes)
    write_atomically(record, json.dumps(asdict(written)))
    return written


def _write_parquet(path: Path, features: datasets.Features, tables: Iterable[pa.Table]) -> tuple[int, int]:
    """Write and sync one file; return the number of rows and their size as Arrow tables in bytes."""
    schema = features.arrow_schema
    chunking = datasets.config.DEFAULT_CDC_OPTIONS
    options = _options(features, schema)
    rows = arrow_bytes = 0
    with path.open("wb") as file:
        with pq.ParquetWriter(
            file, schema, use_content_defined_chunking=chunking, write_page_index=True, **options
        ) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=len(table))
                rows += len(table)
                arrow_bytes += table.nbytes
            writer.add_key_value_metadata({"content_defined_chunking": json.dumps(chunking)})
        file.flush()
        os.fsync(file.fileno())
    return rows, arrow_bytes


def finished_shard(path: Path, record: Path) -> WrittenShard | None:
    """Find a shard that an earlier run finished; None if it is missing or does not match its record."""
    try:
        written: WrittenShard = decode(parse_json(read_document(record)), WrittenShard)
        intact = path.stat().st_size == written.shard.bytes and sha256_of(path) == written.shard.sha256
    except (OSError, ValueError):
        return None
    return written if intact else None
