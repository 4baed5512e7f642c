"""Parquet shards on disk: written whole or not at all, and trusted later only with their recorded SHA-256."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.arrow_writer import get_parquet_column_options

from medmnist_hf.documents import parse_json
from medmnist_hf.files import read_document, sha256_of, write_atomically
from medmnist_hf.manifest import Shard
from medmnist_hf.typed_json import Count, decode

_VOXELS: Final = "image.list.element.list.element.list.element"


@dataclass(frozen=True, slots=True)
class WrittenShard:
    """A finished shard and the size of its rows as Arrow tables, in bytes."""

    shard: Shard
    arrow_bytes: Count


def _options(features: datasets.Features, schema: pa.Schema) -> dict[str, Any]:
    """The Parquet options of `datasets`, but for the voxels zstd: a sixth smaller than snappy and as fast."""
    options: dict[str, Any] = get_parquet_column_options(features, schema)
    if _VOXELS in options["compression"]:
        options["compression"][_VOXELS] = "zstd"
        options["compression_level"] = {_VOXELS: 1}
    return options


def write_shard(path: Path, record: Path, features: datasets.Features, tables: Iterable[pa.Table]) -> WrittenShard:
    """Write one shard and the record by which `finished_shard` trusts it.

    Content-defined chunking, page indexes, encodings and the schema's metadata are those that `datasets` itself
    writes, so uploads deduplicate and the Hub's viewer reads pages alone.

    Args:
        path: Where the shard goes; its folder exists.
        record: Where its record goes, once the shard is on the disk.
        features: Typed columns, kept in the schema.
        tables: Tables of the shard in order, each becoming one row group.

    Raises:
        OSError: The disk is full, or the folder cannot be written to. Nothing is left then.
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
    """Write and sync one file; rows written and their size as Arrow tables in bytes."""
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
    """A shard that an earlier run finished, or None where there is none or it is not as it was recorded."""
    try:
        written: WrittenShard = decode(parse_json(read_document(record)), WrittenShard)
        intact = path.stat().st_size == written.shard.bytes and sha256_of(path) == written.shard.sha256
    except (OSError, ValueError):
        return None
    return written if intact else None
