"""Parquet shards of a build: what their footers claim is compared with the manifest before a column is read."""

from math import prod
from typing import Any, Final

import pyarrow as pa

from medmnist_hf.catalog import Subset, Task

SHARD_ERRORS: Final = (OSError, ValueError, KeyError, pa.ArrowException)
"""What reading a shard raises where it is missing or damaged; a name in it that is no UTF-8 is a ValueError."""


def check_footer(footer: Any, rows: int, subset: Subset, size: int) -> None:
    """Compare a shard's numbers of rows and values with what it must have: a few kB can stand for any number.

    Args:
        footer: Its `pyarrow.parquet.FileMetaData`.
        rows: Rows that the manifest says it has.
        subset: The subset.
        size: Edge length in pixels or voxels.

    Raises:
        ValueError: It has others; the message follows "cannot read PATH".
    """
    groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
    if {footer.num_rows, sum(group.num_rows for group in groups)} != {rows}:
        raise ValueError(f"it has {footer.num_rows:,} rows where the manifest has {rows:,}")
    voxels = prod(subset.file(size).image_shape) if subset.ndim == 3 else 1
    most = {"image": voxels, "label": len(subset.labels) if subset.task is Task.MULTI_LABEL else 1}
    for group in groups:
        for index in range(group.num_columns):
            chunk = group.column(index)
            column = chunk.path_in_schema.partition(".")[0]
            if chunk.num_values > group.num_rows * most.get(column, chunk.num_values):
                raise ValueError(f"its column {column} holds {chunk.num_values:,} values in {group.num_rows:,} rows")
