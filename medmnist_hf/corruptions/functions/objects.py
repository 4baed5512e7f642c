"""Corruptions by objects in the image: stains, bubbles, letters, and the black corners of a dermatoscope.

Each function takes an RGB image, uint8 (H, W, 3), and parameters, and returns an image of the same shape. Lengths are
in pixels of an image of 224 pixels; for other sizes they are scaled.
"""

import string
from typing import Final

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from medmnist_hf.array_types import BoolArray, UInt8Array
from medmnist_hf.corruptions.registry import PUBLISHED_SIZE

_STAINS: Final = {24: (0.48, 0.78), 32: (0.47, 0.61)}
"""Edge length of a stain in pixels -> least and largest share of its square that is black, as in MedMNIST-C."""

_MARGIN: Final = 10
"""Least distance of stains and letters from the edges."""


def stain_deposit(image: UInt8Array, generator: Generator, most: float, side: float) -> UInt8Array:
    """Cover up to a number of places with black stains of random shapes, see `draw_stain`.

    Args:
        image: The image.
        generator: Source of the number of stains, from 1 to `most`, and of their shapes and positions.
        most: Largest number of stains.
        side: Edge length of the square that holds a stain: 24 or 32.
    """
    stained = image.copy()
    scale = image.shape[0] / PUBLISHED_SIZE
    edge, margin = max(2, round(side * scale)), round(_MARGIN * scale)
    for _ in range(generator.integers(1, int(most), endpoint=True)):
        mask = draw_stain(generator, edge, *_STAINS[int(side)])
        top, left = (
            int(generator.integers(margin, length - edge - margin, endpoint=True)) for length in image.shape[:2]
        )
        stained[top : top + edge, left : left + edge][mask] = 0
    return stained


def draw_stain(generator: Generator, side: int, least: float, largest: float) -> BoolArray:
    """Draw the shape of a stain: a disk whose edge is moved by a few random waves.

    Args:
        generator: Source of the shape.
        side: Edge length of the square that holds it, in pixels.
        least: Least share of the square that it covers; the share is drawn uniformly.
        largest: Largest share.

    Returns:
        The pixels that it covers, (side, side).
    """
    grid = (np.arange(side) - (side - 1) / 2) / (side / 2)
    x, y = np.meshgrid(grid, grid)
    height = -np.hypot(x, y)
    for _ in range(_WAVES):
        along, down = generator.normal(0, _FREQUENCY, 2)
        height += _ROUGHNESS * np.cos(along * x + down * y + generator.uniform(0, 2 * np.pi))
    covered = round(side * side * generator.uniform(least, largest))
    return np.asarray(height >= np.partition(height.ravel(), -covered)[-covered])


_WAVES: Final = 8
_FREQUENCY: Final = 6.0
_ROUGHNESS: Final = 0.06
"""Number of the waves of a stain's edge, deviation of their frequency and their height, as fractions of its radius."""

_BORDER: Final = 2
_OPACITY: Final = (130, 100)
"""Width of the border of a bubble, and opacity of border and inside, of 255."""


def bubble(image: UInt8Array, generator: Generator, radius: float, most: float) -> UInt8Array:
    """Draw 7 to `most` half transparent white disks with radii from 3 to `radius`; the border is less transparent."""
    height, width = image.shape[:2]
    scale = height / PUBLISHED_SIZE
    layer = Image.new("RGBA", (width, height), (255, 255, 255, 0))
    pen = ImageDraw.Draw(layer)
    for _ in range(generator.integers(7, int(most), endpoint=True)):
        reach = max(1, round(int(generator.integers(3, int(radius), endpoint=True)) * scale))
        x, y = (int(generator.integers(reach, length - reach, endpoint=True)) for length in (width, height))
        for grown, opacity in zip((reach + max(1, round(_BORDER * scale)), reach), _OPACITY, strict=True):
            pen.ellipse((x - grown, y - grown, x + grown, y + grown), fill=(255, 255, 255, opacity))
    picture = Image.fromarray(image)
    picture.paste(layer, mask=layer)
    return np.asarray(picture)


def black_corner(image: UInt8Array, factor: float) -> UInt8Array:
    """Blacken what is outside of a disk about the center; its radius is half of the edge length times a factor."""
    import cv2

    height, width = image.shape[:2]
    disk = np.zeros((height, width), np.uint8)
    center = (width // 2, height // 2)
    inner = min(*center, width - center[0], height - center[1])
    cv2.circle(disk, center, int(inner * factor), 1, thickness=-1)
    return image * disk[..., None]


def characters(image: UInt8Array, generator: Generator, words: float, letters: float, font: float) -> UInt8Array:
    """Write words of random letters in random colors.

    Args:
        image: The image.
        generator: Source of the words.
        words: Largest number of words.
        letters: Largest number of letters in a word; the least is 3.
        font: Largest scale of OpenCV's font ``DUPLEX``, whose letters are some 21 pixels high; the least is 0.14.
    """
    import cv2

    height, width = image.shape[:2]
    scale = height / PUBLISHED_SIZE
    alphabet = np.array(list(string.ascii_lowercase))
    written = image.copy()
    for _ in range(generator.integers(1, int(words), endpoint=True)):
        word = "".join(generator.choice(alphabet, generator.integers(3, int(letters), endpoint=True)))
        size = generator.integers(14, int(font * 100), endpoint=True) / 100
        x = int(generator.integers(round(10 * scale), width - round(8 * len(word) * scale), endpoint=True))
        y = int(generator.integers(round(_MARGIN * scale), height - round(_MARGIN * scale), endpoint=True))
        color = generator.integers(0, 256, 3).tolist()
        cv2.putText(written, word, (x, y), cv2.FONT_HERSHEY_DUPLEX, size * scale, color, 1, cv2.LINE_AA)
    return written
