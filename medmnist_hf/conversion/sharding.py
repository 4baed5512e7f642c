"""How the rows of a split are cut: into shards of equal rows, and each shard into row groups of equal rows.

Cuts depend on row counts and sizes alone, never on workers or on what was encoded, so the same input always gives the
same files, and a plan can be printed before work starts.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod
from typing import Final

from medmnist_hf.errors import BuildError

ENCODING_OVERHEAD: Final = 640
"""Bytes by which an image file may exceed incompressible pixels: chunks of a PNG, filter bytes, headers of blocks."""

_GROUP_BYTES: Final = {2: 16 << 20, 3: 2 << 20}
"""Raw pixels in one row group, in bytes, by number of dimensions.

Parquet holds list levels beside each voxel while it writes or reads a group of volumes, about 13 times the pixels, so
their groups are smaller; writing is also much faster while all that stays in the processor's cache.
"""

DEFAULT_SHARD_SIZE: Final = 500_000_000
"""Limit of one shard in bytes; the usual size on the Hub."""

_UNITS: Final = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1}


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows ``start`` up to and without ``stop`` of a split."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def parse_size(text: str) -> int:
    """A size in bytes from text such as ``500MB``, ``64MiB`` or ``1000000``.

    Raises:
        BuildError: The text is no positive size.
    """
    compact = text.strip().upper().replace(" ", "")
    unit = next((unit for unit in sorted(_UNITS, key=len, reverse=True) if compact.endswith(unit)), "")
    try:
        size = int(float(compact.removesuffix(unit)) * _UNITS.get(unit, 1))
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise BuildError(f"--max-shard-size {text!r} is no size: give one like 500MB or 1GiB")
    return size


def _cut(rows: RowRange, parts: int) -> list[RowRange]:
    edges = [rows.start + len(rows) * index // parts for index in range(parts + 1)]
    return [RowRange(start, stop) for start, stop in pairwise(edges)]


def shard_ranges(rows: int, image_shape: tuple[int, ...], max_shard_size: int) -> list[RowRange]:
    """Cut a split into shards which differ by at most one row and stay below the limit.

    Args:
        rows: Rows of the split.
        image_shape: Shape of one uint8 image or volume.
        max_shard_size: Limit of a shard in bytes; a larger row is a shard of its own. Pixels are counted
            uncompressed, so files come out smaller.

    Returns:
        At least one range; no range is empty.
    """
    most = max(1, max_shard_size // (prod(image_shape) + ENCODING_OVERHEAD))
    return _cut(RowRange(0, rows), ceil(rows / most))


def rows_per_group(image_shape: tuple[int, ...], ndim: int) -> int:
    """The most rows that one Parquet row group holds."""
    return max(1, _GROUP_BYTES[ndim] // prod(image_shape))


def row_groups(shard: RowRange, image_shape: tuple[int, ...], ndim: int) -> list[RowRange]:
    """Cut a shard into row groups which differ by at most one row."""
    return _cut(shard, ceil(len(shard) / rows_per_group(image_shape, ndim)))
