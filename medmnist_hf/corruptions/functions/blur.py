"""Corruptions by blur: defocus, motion, zoom and Gaussian, by OpenCV and NumPy.

Each function takes an RGB image, uint8 (H, W, 3), and parameters, and returns an image of the same shape; all but
`zoom_blur` also take a gray one, uint8 (H, W). Lengths are in pixels of an image of 224 pixels; for other sizes they
are scaled.
"""

import math
from typing import Final

import numpy as np
from numpy.random import Generator

from medmnist_hf.array_types import Array, UInt8Array
from medmnist_hf.corruptions.registry import PUBLISHED_SIZE

_DISK_REACH: Final = 8
"""Pixels from the center to the edge of the kernel of a defocus blur, unless its radius is larger."""

_MAX_ANGLE: Final = 45.0
"""Largest angle of a motion, in degrees from the horizontal."""


def defocus_blur(image: UInt8Array, radius: float, alias: float) -> UInt8Array:
    """Convolve with a disk of a radius, whose edge is smoothed by a Gaussian of deviation `alias` pixels."""
    import cv2

    radius *= _scale(image)
    reach = max(_DISK_REACH, math.ceil(radius))
    x, y = np.meshgrid(*(np.arange(-reach, reach + 1),) * 2)
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    side = 3 if radius <= _DISK_REACH else 5
    blurred = cv2.filter2D(image / 255.0, -1, cv2.GaussianBlur(disk, (side, side), sigmaX=alias))
    return (np.clip(blurred, 0, 1) * 255).astype(np.uint8)


def motion_blur(image: UInt8Array, generator: Generator, radius: float, sigma: float) -> UInt8Array:
    """Average along a line from each pixel, at an angle drawn from -45 to 45 degrees, see `motion_kernel`.

    Averages are rounded to 16 bits per channel and then cut off to 8, as in ImageMagick 6.
    """
    import cv2

    scale = _scale(image)
    kernel, anchor = motion_kernel(radius * scale, sigma * scale, generator.uniform(-_MAX_ANGLE, _MAX_ANGLE))
    blurred = cv2.filter2D(image, cv2.CV_32F, kernel, anchor=anchor, borderType=cv2.BORDER_REPLICATE)
    return (np.rint(blurred * 257).astype(np.uint16) // 257).astype(np.uint8)


def motion_kernel(radius: float, sigma: float, angle: float) -> tuple[Array, tuple[int, int]]:
    """The kernel of a motion blur: a line from the pixel in one direction, with weights of half a Gaussian.

    The line has as many pixels as the kernel of a Gaussian blur of that radius, 2 * ceil(radius) + 1, and a pixel at
    distance d has the weight exp(-d² / 2 sigma²), up to the factor by which all weights add up to 1.

    Args:
        radius: Radius in pixels.
        sigma: Standard deviation in pixels.
        angle: Direction in degrees, clockwise from the horizontal to the right, from -90 to 90.

    Returns:
        float32 weights of the smallest rectangle that holds the line, and the column and row of the pixel in it.
    """
    distances = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(distances**2) / (2 * sigma**2))
    turn = math.radians(angle)
    columns, rows = (np.ceil(distances * part - 0.5).astype(np.intp) for part in (math.cos(turn), math.sin(turn)))
    left, top = columns.min(), rows.min()
    kernel = np.zeros((np.ptp(rows) + 1, np.ptp(columns) + 1), np.float32)
    np.add.at(kernel, (rows - top, columns - left), weights / weights.sum())
    return kernel, (int(-left), int(-top))


def zoom_blur(image: UInt8Array, stop: float, step: float) -> UInt8Array:
    """Average an image with enlargements of its center, by factors from 1 to below `stop` in equal steps."""
    pixels = (image / 255.0).astype(np.float32)
    factors = np.arange(1, stop, step)
    enlarged = np.zeros_like(pixels)
    for factor in factors:
        enlarged += _enlarge(pixels, factor)
    mean: Array = (pixels + enlarged) / np.float32(len(factors) + 1)
    return (np.clip(mean, 0, 1) * 255).astype(np.uint8)


def _enlarge(pixels: Array, factor: float) -> Array:
    """Enlarge the center of a square image to its size by linear interpolation, as `scipy.ndimage.zoom` does."""
    side = len(pixels)
    part = math.ceil(side / factor)
    top = (side - part) // 2
    grown = round(part * factor)
    skipped = (grown - side) // 2
    places = np.arange(skipped, skipped + side) * ((part - 1) / (grown - 1))
    lower = np.minimum(places.astype(np.intp), part - 2)
    share = places - lower
    center = pixels[top : top + part, top : top + part].astype(np.float64)
    down = share[:, None, None]
    rows = center[lower] * (1 - down) + center[lower + 1] * down
    across = share[:, None]
    columns = rows[:, lower] * (1 - across) + rows[:, lower + 1] * across
    return np.asarray(columns, np.float32)


def gaussian_blur(image: UInt8Array, width: float) -> UInt8Array:
    """Convolve with a Gaussian of a width in pixels, whose deviation is 0.3 * ((width - 1) / 2 - 1) + 0.8.

    The kernel, and the rounding of the result, are those of torchvision's `gaussian_blur`.
    """
    import cv2

    size = max(3, (int(width * _scale(image)) - 1) // 2 * 2 + 1)
    deviation = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    weights = np.exp(-0.5 * (np.arange(size) - (size - 1) / 2) ** 2 / deviation**2)
    weights = (weights / weights.sum()).astype(np.float32)
    blurred = cv2.sepFilter2D(image.astype(np.float32), -1, weights, weights, borderType=cv2.BORDER_REFLECT_101)
    return np.rint(blurred).clip(0, 255).astype(np.uint8)


def _scale(image: UInt8Array) -> float:
    """Edge length of an image as a multiple of the published one."""
    return len(image) / PUBLISHED_SIZE
