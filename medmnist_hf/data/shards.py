"""Parquet shards of a build: what their footers claim is compared with the manifest before a column is read."""

from collections.abc import Iterator
from math import prod
from typing import Any, Final

import pyarrow as pa

from medmnist_hf.catalog import Subset, Task

SHARD_ERRORS: Final = (OSError, ValueError, KeyError, pa.ArrowException)
"""What reading a shard raises where it is missing or damaged; a name in it that is no UTF-8 is a ValueError."""

_VALUE_BYTES: Final = 16
"""Bytes of a number with its levels, before compression, at most."""

_PAGE_BYTES: Final = 1 << 20
"""What a column has beside its values: heads of pages and a dictionary."""

_PLAIN: Final = frozenset({"PLAIN", "RLE", "BIT_PACKED"})
"""Encodings that write each value; RLE and BIT_PACKED are those of the levels."""


def check_footer(footer: Any, rows: int, subset: Subset, size: int) -> None:
    """Compare a shard's numbers of rows and values with what it must have: a few kB can stand for any number.

    Nor may they stand for values of any length, as compression and dictionaries let them: files of images are stored
    as they are, and numbers take what numbers take.

    Args:
        footer: Its `pyarrow.parquet.FileMetaData`.
        rows: Rows that the manifest says it has.
        subset: The subset.
        size: Edge length in pixels or voxels.

    Raises:
        ValueError: It has others, or values that are stored otherwise; the message follows "cannot read PATH".
    """
    groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
    if {footer.num_rows, sum(group.num_rows for group in groups)} != {rows}:
        raise ValueError(f"it has {footer.num_rows:,} rows where the manifest has {rows:,}")
    voxels = prod(subset.file(size).image_shape) if subset.ndim == 3 else 1
    most = {"image": voxels, "label": len(subset.labels) if subset.task is Task.MULTI_LABEL else 1}
    for group in groups:
        for column, chunk in _chunks(group):
            if chunk.num_values > group.num_rows * most.get(column, chunk.num_values):
                raise ValueError(f"its column {column} holds {chunk.num_values:,} values in {group.num_rows:,} rows")
            if chunk.physical_type.endswith("BYTE_ARRAY"):
                if chunk.compression != "UNCOMPRESSED" or not _PLAIN.issuperset(chunk.encodings):
                    raise ValueError(f"its column {column} holds texts or files that are compressed")
            elif chunk.total_uncompressed_size > chunk.num_values * _VALUE_BYTES + _PAGE_BYTES:
                size = chunk.total_uncompressed_size
                raise ValueError(f"its column {column} takes {size:,} bytes for {chunk.num_values:,} numbers")


def _chunks(group: Any) -> Iterator[tuple[str, Any]]:
    """Name of the column and metadata of each column chunk of a row group."""
    for index in range(group.num_columns):
        chunk = group.column(index)
        yield chunk.path_in_schema.partition(".")[0], chunk
