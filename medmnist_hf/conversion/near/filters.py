"""Small gray copies of images, their low frequencies, and their local contrast."""

from functools import cache
from itertools import permutations
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medmnist_hf.array_types import UInt8Array

Float32Array = NDArray[np.float32]

LARGEST: Final = {2: 32, 3: 16}
"""Dimensions -> largest edge length of a small copy, in pixels or voxels."""

FREQUENCIES: Final = {2: 8, 3: 5}
"""Dimensions -> number of lowest frequencies per axis that describe an image."""

_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
_DETAIL: Final = 1.5
"""Structures wider than about this sigma, in pixels of the small copy, are removed."""

_NEIGHBORHOOD: Final = 2.0
"""Sigma of the neighborhood whose contrast is equalized."""

_LEAST_CONTRAST: Final = 4.0
"""Contrast, of 255 gray levels, up to which it counts as noise rather than structure."""


def small_copies(images: UInt8Array, ndim: int) -> UInt8Array:
    """Reduce images to gray copies of at most `LARGEST` by the mean of blocks.

    Args:
        images: uint8 ``(n, H, W)``, ``(n, H, W, 3)`` or ``(n, D, H, W)``.
        ndim: 2 for images, 3 for volumes.
    """
    gray = images @ _LUMA if images.ndim - 1 > ndim else images.astype(np.float32)
    factor = -(-gray.shape[1] // LARGEST[ndim])
    blocks: list[int] = [len(gray)]
    for side in gray.shape[1:]:
        blocks += [side // factor, factor]
    return np.asarray(np.rint(gray.reshape(blocks).mean(tuple(range(2, 2 * ndim + 1, 2)))), np.uint8)


class Symmetry(NamedTuple):
    """A flip, quarter turn or transposition: the order of the axes, then the axes to reverse, from 0."""

    axes: tuple[int, ...]
    flips: tuple[int, ...]

    def of_images(self, images: NDArray[Any]) -> NDArray[Any]:
        """Apply it to a stack of images."""
        turned = images.transpose(0, *(axis + 1 for axis in self.axes))
        return turned[:, *(slice(None, None, -1 if axis in self.flips else 1) for axis in range(turned.ndim - 1))]

    def of_frequencies(self, frequencies: Float32Array) -> Float32Array:
        """What `of_images` does to the frequencies of images: flips change the sign of the odd ones."""
        turned = frequencies.transpose(0, *(axis + 1 for axis in self.axes)).copy()
        for axis in self.flips:
            np.moveaxis(turned, axis + 1, 0)[1::2] *= -1
        return turned


def symmetries(ndim: int) -> list[Symmetry]:
    """All symmetries of a square (8) or a cube (48); the first one changes nothing."""
    flips = [tuple(axis for axis in range(ndim) if bits >> axis & 1) for bits in range(1 << ndim)]
    return [Symmetry(axes, flipped) for axes in permutations(range(ndim)) for flipped in flips]


def frequencies(copies: UInt8Array) -> Float32Array:
    """The lowest frequencies of images by the orthonormal DCT-II, float32 ``(n, K, K)`` or ``(n, K, K, K)``."""
    return _along_axes(copies.astype(np.float32), _dct(copies.shape[1], FREQUENCIES[copies.ndim - 1]))


def local_contrast(copies: UInt8Array) -> Float32Array:
    """Details relative to the contrast around them, so without shading, and weak edges count like strong ones."""
    images = copies.astype(np.float32)
    details = images - _along_axes(images, _blur(copies.shape[1], _DETAIL))
    contrast = np.sqrt(np.maximum(_along_axes(details**2, _blur(copies.shape[1], _NEIGHBORHOOD)), 0))
    return (details / (contrast + _LEAST_CONTRAST)).astype(np.float32)


def _along_axes(images: Float32Array, matrix: Float32Array) -> Float32Array:
    """Multiply each axis of images by a matrix."""
    for axis in range(1, images.ndim):
        images = np.moveaxis(np.tensordot(images, matrix, (axis, 1)), -1, axis)
    return np.ascontiguousarray(images, np.float32)


@cache
def _dct(side: int, count: int) -> Float32Array:
    waves = np.cos(np.pi / side * np.arange(count)[:, None] * (np.arange(side) + 0.5)) * np.sqrt(2 / side)
    waves[0] /= np.sqrt(2)
    return np.asarray(waves, np.float32)


@cache
def _blur(side: int, sigma: float) -> Float32Array:
    """A Gaussian of 4 sigma, with the image mirrored at its edges."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    mirrored = np.pad(np.eye(side), ((reach, reach), (0, 0)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(mirrored, 2 * reach + 1, axis=0)
    return np.asarray(windows @ (weights / weights.sum()), np.float32)
