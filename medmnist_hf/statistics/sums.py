"""Exact sums of pixels, from which mean and standard deviation follow."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.typed_json import Bounds, Count

WHITE: Final = 255
"""The largest value of a pixel."""

_VALUES: Final = np.arange(WHITE + 1, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class PixelSums:
    """Exact sums over the uint8 pixels of a split, from which mean and standard deviation follow.

    Attributes:
        values: Number of pixels or voxels per channel.
        sums: Sum of the values 0 to 255, per channel.
        squares: Sum of their squares, per channel.
    """

    values: Annotated[int, Bounds(1, (1 << 63) - 1)]
    sums: tuple[Count, ...]
    squares: tuple[Count, ...]

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean per channel of pixels in 0 to 1."""
        return tuple(total / self.values / WHITE for total in self.sums)

    @property
    def std(self) -> tuple[float, ...]:
        """Population standard deviation (divided by N, not N - 1) per channel of pixels in 0 to 1."""
        pairs = zip(self.sums, self.squares, strict=True)
        return tuple(sqrt(max(0, self.values * square - total**2)) / self.values / WHITE for total, square in pairs)


class PixelCounter:
    """Counts the values of pixels, block by block; the order and sizes of blocks do not matter."""

    def __init__(self, channels: int) -> None:
        """Start with no pixels of 1 or 3 channels."""
        self._counts: NDArray[np.int64] = np.zeros((channels, WHITE + 1), np.int64)

    def add(self, block: UInt8Array) -> None:
        """Count the pixels of a block, uint8 of shape ``(n, H, W)``, ``(n, H, W, 3)`` or ``(n, D, H, W)``."""
        pixels = block.reshape(-1, len(self._counts))
        for channel, values in enumerate(pixels.T):
            self._counts[channel] += np.bincount(values, minlength=WHITE + 1)

    def sums(self) -> PixelSums:
        """The sums over all pixels so far; there must be some."""
        return PixelSums(
            values=int(self._counts[0].sum()),
            sums=tuple((self._counts @ _VALUES).tolist()),
            squares=tuple((self._counts @ _VALUES**2).tolist()),
        )


def pooled(parts: Sequence[PixelSums]) -> PixelSums:
    """The sums over the pixels of several splits; gray ones count for each of three channels if others are RGB."""
    channels = max(len(part.sums) for part in parts)
    sums, squares = (
        tuple(map(sum, zip(*(each * (channels // len(each)) for each in column), strict=True)))
        for column in ([part.sums for part in parts], [part.squares for part in parts])
    )
    return PixelSums(sum(part.values for part in parts), sums, squares)
