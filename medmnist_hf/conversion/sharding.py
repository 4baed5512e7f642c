"""Divide the rows of a split into equal shards, and each shard into equal row groups.

The division depends only on row counts and image shapes, not on workers or encoded sizes, so equal input gives equal
files, and a plan can be printed before work starts.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod
from typing import Final

from medmnist_hf.errors import BuildError

ENCODING_OVERHEAD: Final = 640
"""Bytes by which an image file may exceed its raw pixels if they are incompressible: PNG chunks, filter bytes, block
headers."""

_GROUP_BYTES: Final = {2: 16 << 20, 3: 2 << 20}
"""Raw pixels in one row group, in bytes, by number of dimensions.

While Parquet writes or reads a group of volumes, it keeps list levels for each voxel, about 13 times the size of the
pixels, so groups of volumes are smaller. Writing is also much faster while they fit into the processor's cache.
"""

DEFAULT_SHARD_SIZE: Final = 500_000_000
"""Size limit of one shard in bytes; the usual size on the Hub."""

_UNITS: Final = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1}


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows of a split from ``start`` up to, but not including, ``stop``."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def parse_size(text: str) -> int:
    """Parse a size such as ``500MB``, ``64MiB`` or ``1000000``, in bytes.

    Raises:
        BuildError: The text is not a positive size.
    """
    compact = text.strip().upper().replace(" ", "")
    unit = next((unit for unit in sorted(_UNITS, key=len, reverse=True) if compact.endswith(unit)), "")
    try:
        size = int(float(compact.removesuffix(unit)) * _UNITS.get(unit, 1))
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise BuildError(f"--max-shard-size {text!r} is not a valid size: give a size such as 500MB or 1GiB")
    return size


def cut(rows: RowRange, parts: int) -> list[RowRange]:
    """Divide rows into parts that differ by at most one row."""
    edges = [rows.start + len(rows) * index // parts for index in range(parts + 1)]
    return [RowRange(start, stop) for start, stop in pairwise(edges)]


def shard_ranges(rows: int, image_shape: tuple[int, ...], max_shard_size: int) -> list[RowRange]:
    """Divide a split into shards that differ by at most one row and stay below the limit.

    Args:
        rows: Number of rows in the split.
        image_shape: Shape of one uint8 image or volume.
        max_shard_size: Size limit of a shard in bytes of uncompressed pixels, so files are smaller. A row that
            exceeds it gets its own shard.

    Returns:
        At least one range; no range is empty.
    """
    most = max(1, max_shard_size // (prod(image_shape) + ENCODING_OVERHEAD))
    return cut(RowRange(0, rows), ceil(rows / most))


def rows_per_group(image_shape: tuple[int, ...], ndim: int) -> int:
    """Largest number of rows in one Parquet row group."""
    return max(1, _GROUP_BYTES[ndim] // prod(image_shape))


def row_groups(shard: RowRange, image_shape: tuple[int, ...], ndim: int) -> list[RowRange]:
    """Divide a shard into row groups that differ by at most one row."""
    return cut(shard, ceil(len(shard) / rows_per_group(image_shape, ndim)))
