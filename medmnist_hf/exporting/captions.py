"""Captions below the tiles of a picture, in Pillow's default font.

Example:
    >>> caption("colorectal adenocarcinoma epithelium", 112).shape
    (32, 112)
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Final

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import Subset, Task

NARROWEST: Final = 112
"""Smallest width in pixels of a tile with a caption: nearly all class names fit on two lines."""

HEIGHT: Final = 32
"""Height of a caption in pixels."""

NO_FINDING: Final = "no finding"

_FONT_SIZE: Final = 12
_LINE: Final = 15
_MARGIN: Final = 2
_CUT: Final = "..."


def class_names(subset: Subset, labels: UInt8Array) -> list[str]:
    """Class name of each row; for the multi-label task, the names of its findings.

    Args:
        subset: The subset.
        labels: uint8 of shape (N, 1) with class ids, or (N, L) with 0 and 1 for the multi-label task.
    """
    if subset.task is Task.MULTI_LABEL:
        findings = (np.flatnonzero(row) for row in labels)
        return [", ".join(subset.labels[label] for label in row) or NO_FINDING for row in findings]
    return [subset.labels[label] for label in labels[:, 0]]


def captioned_scale(width: int, scale: int) -> int:
    """The factor, at least `scale`, that enlarges a tile of `width` pixels enough for a caption."""
    return max(scale, -(-NARROWEST // width))


@lru_cache(maxsize=4096)
def caption(text: str, width: int) -> UInt8Array:
    """Draw a name in black on white, on at most two lines; a longer name is cut.

    Args:
        text: The name, on one line.
        width: Width in pixels.

    Returns:
        uint8 of shape (`HEIGHT`, width), cached and read-only.
    """
    picture = PIL.Image.new("L", (width, HEIGHT), 255)
    draw = PIL.ImageDraw.Draw(picture)
    for line, words in enumerate(_lines(text.split(), width - 2 * _MARGIN)):
        draw.text((_MARGIN, line * _LINE), words, fill=0, font=_font())
    pixels: UInt8Array = np.asarray(picture)
    return pixels


def _lines(words: Sequence[str], width: int) -> list[str]:
    """Break words into at most two lines of `width` pixels."""
    first = 0
    while first < len(words) and _width(" ".join(words[: first + 1])) <= width:
        first += 1
    if first == len(words):
        return [" ".join(words)]
    first = max(first, 1)  # a single word that is too long is cut
    return [_fitted(" ".join(words[:first]), width), _fitted(" ".join(words[first:]), width)]


def _fitted(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while text and _width(text + _CUT) > width:
        text = text[:-1]
    return text.rstrip() + _CUT


def _width(text: str) -> float:
    return float(_font().getlength(text))


@cache
def _font() -> PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont:
    return PIL.ImageFont.load_default(_FONT_SIZE)
