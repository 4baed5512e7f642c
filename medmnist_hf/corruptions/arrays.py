"""Corrupt images in arrays.

Example:
    >>> import numpy as np
    >>> images = np.full((2, 224, 224), 128, np.uint8)
    >>> both = corrupt_batch(images, "breastmnist", "speckle_noise", severity=3)
    >>> second = corrupt_batch(images[1:], "breastmnist", "speckle_noise", severity=3, rows=[1])
    >>> bool((both[1] == second[0]).all())
    True
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

import numpy as np

from medmnist_hf.array_types import IntArray, UInt8Array
from medmnist_hf.catalog import subset
from medmnist_hf.corruptions.apply import apply, row_generator
from medmnist_hf.corruptions.registry import PUBLISHED_SIZE, Corruption, find_corruption
from medmnist_hf.errors import SourceError, counted, shorten

_log = logging.getLogger(__name__)

OTHER_SIZE: Final = (
    "MedMNIST-C is defined for images of 224 pixels. Corruptions at other sizes, with lengths scaled, are of this "
    "project, and results on them are not comparable with published ones."
)
"""Note on images of another size."""


def corrupt_batch(
    images: UInt8Array,
    flag: str,
    corruption: str,
    severity: int = 3,
    *,
    rows: Sequence[int] | IntArray | None = None,
) -> UInt8Array:
    """Corrupt images of a subset.

    Random numbers depend on the subset, the corruption, the severity and the number of the row alone: a row alone, in
    any order and in any process, gets the same pixels.

    Args:
        images: uint8 (N, H, W) for gray subsets, (N, H, W, 3) for RGB; not changed. The sides are equal.
        flag: Flag of the subset.
        corruption: Name of a corruption of this subset.
        severity: 1 to 5.
        rows: Number of each image's row in its split, 0 or more; by default 0 to N - 1.

    Returns:
        Corrupted images of the same shape.

    Raises:
        CatalogError: The subset is unknown or holds volumes, it has no such corruption, or the severity is not valid.
        SourceError: The images are of another shape or type, or the row numbers do not fit.
        MissingModuleError: The corruption needs OpenCV, and the extra ``corruptions`` is not installed.
    """
    found = find_corruption(flag, corruption)
    found.at(severity)
    check_images(images, found)
    numbers = list(range(len(images))) if rows is None else [int(row) for row in rows]
    if len(numbers) != len(images):
        raise SourceError(
            f"{counted(len(images), 'image')} but {counted(len(numbers), 'row number')}: give one per image"
        )
    if min(numbers, default=0) < 0:
        raise SourceError(f"a row number is {min(numbers)}: must be 0 or more")
    warn_of_size(found.subset, images.shape[1])
    return corrupt_rows(images, found, severity, numbers)


def corrupt_rows(images: UInt8Array, corruption: Corruption, severity: int, rows: Sequence[int]) -> UInt8Array:
    """Corrupt images without checking them; see `corrupt_batch`."""
    corrupted = np.empty(images.shape, np.uint8)
    parameters = corruption.at(severity)
    for target, image, row in zip(corrupted, images, rows, strict=True):
        target[...] = apply(corruption, image, parameters, row_generator(corruption, severity, row))
    return corrupted


_PIECE: Final = 8
"""Images that a thread corrupts at a time."""


def corrupt_blocks(blocks: Iterable[UInt8Array], corruption: Corruption, severity: int) -> Iterator[UInt8Array]:
    """Corrupt consecutive blocks of rows, from row 0 on, with as many threads as there are cores.

    Args:
        blocks: Images as for `corrupt_batch`, in blocks that fit into memory; they are not checked.
        corruption: The corruption.
        severity: 1 to 5.

    Yields:
        The corrupted images in their order, a few at a time.
    """

    def corrupt(piece: tuple[int, UInt8Array]) -> UInt8Array:
        return corrupt_rows(piece[1], corruption, severity, range(piece[0], piece[0] + len(piece[1])))

    first = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for block in blocks:
            yield from pool.map(
                corrupt, [(first + at, block[at : at + _PIECE]) for at in range(0, len(block), _PIECE)]
            )
            first += len(block)


def check_images(images: UInt8Array, corruption: Corruption) -> None:
    """Check the type and shape of images.

    Raises:
        SourceError: They are not uint8, not of the subset's mode, or not square.
    """
    entry = subset(corruption.subset)
    tail = (3,) if entry.channels == 3 else ()
    shape: tuple[int, ...] = getattr(images, "shape", ())
    dtype = getattr(images, "dtype", None)
    fits = len(shape) == 3 + len(tail) and shape[3:] == tail and shape[1] == shape[2] and shape[1] > 0
    if dtype != np.uint8 or not fits:
        expected = "(N, H, H, 3)" if tail else "(N, H, H)"
        raise SourceError(f"images of {entry.flag} are {dtype} {shorten(shape)}: give uint8 {expected}, as stored")


@cache
def warn_of_size(flag: str, size: int) -> None:
    """Warn, once per subset and size, that this size is not published."""
    if size != PUBLISHED_SIZE:
        _log.warning("%s at size %d: %s", flag, size, OTHER_SIZE)
