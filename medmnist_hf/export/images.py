"""Rows of a config as the bytes of image files: PNG of images, GIF of volumes."""

import io
import struct
from collections.abc import Iterator
from typing import Final

import PIL.Image

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.data.rows import Rows

FRAME_MS: Final = 200
"""How long the official package shows each slice of a volume."""

_IHDR: Final = struct.Struct(">4x4sIIBB")
_PNG_COLOUR: Final = {1: 0, 3: 2}


def png_files(rows: Rows, split: str) -> Iterator[list[bytes]]:
    """The images of a split as PNG files, in blocks; those stored as plain 8-bit PNG go through as they are.

    Raises:
        CatalogError: Unknown split.
        SourceError: The split is not there, cannot be fetched, or holds no images of this config.
        BuildError: A shard is missing or damaged.
    """
    for block in rows.files(split):
        yield [image if _is_plain_png(image, rows) else _png(rows.decoded(image, split)) for image in block]


def gif_files(rows: Rows, split: str) -> Iterator[list[bytes]]:
    """The volumes of a split as GIF files, in blocks; errors as in `png_files`."""
    for block in rows.images(split):
        yield [_gif(volume) for volume in block]


def _is_plain_png(image: bytes, rows: Rows) -> bool:
    if image[:8] != b"\x89PNG\r\n\x1a\n" or len(image) < 8 + _IHDR.size:
        return False
    kind, width, height, depth, colour = _IHDR.unpack_from(image, 8)
    expected = (b"IHDR", rows.size, rows.size, 8, _PNG_COLOUR[rows.entry.channels])
    return bool((kind, width, height, depth, colour) == expected)


def _png(pixels: UInt8Array) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _gif(volume: UInt8Array) -> bytes:
    """The slices along the depth as frames, by the very call of `medmnist.utils.save_frames_as_gif`.

    Pillow joins equal slices that follow each other into one frame that is shown longer.
    """
    first, *others = [PIL.Image.fromarray(piece) for piece in volume]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=FRAME_MS, loop=0)
    return buffer.getvalue()
