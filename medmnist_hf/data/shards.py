"""Check the footers of a build's Parquet shards against the manifest, before a column is read."""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, Final

import pyarrow as pa

from medmnist_hf.catalog import Subset, Task

SHARD_ERRORS: Final = (OSError, ValueError, KeyError, pa.ArrowException)
"""Errors that reading a missing or damaged shard raises; ValueError for a name in it that is not UTF-8."""

_VALUE_BYTES: Final = 16
"""Largest size of a number with its levels, in bytes before compression."""

_PAGE_BYTES: Final = 1 << 20
"""Bytes allowed for a column in addition to its values: page headers and a dictionary."""

_PLAIN: Final = frozenset({"PLAIN", "RLE", "BIT_PACKED"})
"""Encodings that write every value; RLE and BIT_PACKED encode the levels."""


def check_footer(footer: Any, rows: int, subset: Subset, size: int) -> None:
    """Check the number of rows and values in a shard, of which a few kB can encode any number.

    Compression and dictionaries can also make a value arbitrarily long. So image files must be stored uncompressed,
    and the size of numbers is bounded.

    Args:
        footer: Its `pyarrow.parquet.FileMetaData`.
        rows: Number of rows in the manifest.
        subset: The subset.
        size: Edge length in pixels or voxels.

    Raises:
        ValueError: The numbers differ, or values are stored in another way; the message follows "cannot read PATH".
    """
    voxels = prod(subset.file(size).image_shape) if subset.ndim == 3 else 1
    check_values(footer, rows, {"image": voxels, "label": most_labels(subset)})


def most_labels(subset: Subset) -> int:
    """Largest number of labels of a row."""
    return len(subset.labels) if subset.task is Task.MULTI_LABEL else 1


def check_values(footer: Any, rows: int, most: Mapping[str, int]) -> None:
    """Check the rows and values of a shard, see `check_footer`.

    Args:
        footer: Its `pyarrow.parquet.FileMetaData`.
        rows: Number of rows in the manifest.
        most: Column -> largest number of values of a row.

    Raises:
        ValueError: As for `check_footer`.
    """
    groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
    if {footer.num_rows, sum(group.num_rows for group in groups)} != {rows}:
        raise ValueError(f"it has {footer.num_rows:,} rows where the manifest has {rows:,}")
    for group in groups:
        for column, chunk in _chunks(group):
            if chunk.num_values > group.num_rows * most.get(column, chunk.num_values):
                raise ValueError(f"its column {column} holds {chunk.num_values:,} values in {group.num_rows:,} rows")
            if chunk.physical_type.endswith("BYTE_ARRAY"):
                if chunk.compression != "UNCOMPRESSED" or not _PLAIN.issuperset(chunk.encodings):
                    raise ValueError(f"its column {column} holds compressed texts or files")
            elif chunk.total_uncompressed_size > chunk.num_values * _VALUE_BYTES + _PAGE_BYTES:
                size = chunk.total_uncompressed_size
                raise ValueError(f"its column {column} takes {size:,} bytes for {chunk.num_values:,} numbers")


def _chunks(group: Any) -> Iterator[tuple[str, Any]]:
    """Name of the column and metadata of each column chunk of a row group."""
    for index in range(group.num_columns):
        chunk = group.column(index)
        yield chunk.path_in_schema.partition(".")[0], chunk
