"""Encode rows of a config as image files: images as PNG, volumes as GIF."""

import io
from collections.abc import Iterator
from typing import Final

import PIL.Image

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.data.rows import BuiltRows, Rows

FRAME_MS: Final = 200
"""Duration of a frame in milliseconds, as in the official package."""

_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"\0\0\0\0IEND\xaeB`\x82"


def png_files(rows: Rows, split: str) -> Iterator[list[bytes]]:
    """The images of a split as PNG files, in blocks. Stored PNG files are checked by decoding and kept byte for byte.

    Raises:
        CatalogError: Unknown split.
        SourceError: The split is missing, cannot be fetched, or holds something other than images of this config.
        BuildError: A shard is missing or damaged.
        ReadError: The NPZ file is damaged.
    """
    if not isinstance(rows, BuiltRows):
        for images in rows.images(split):
            yield [_png(image) for image in images]
        return
    for block in rows.files(split):
        yield [_as_png(image, rows.decoded(image, split)) for image in block]


def gif_files(rows: Rows, split: str) -> Iterator[list[bytes]]:
    """The volumes of a split as GIF files, in blocks; errors as in `png_files`."""
    for block in rows.images(split):
        yield [_gif(volume) for volume in block]


def _as_png(image: bytes, pixels: UInt8Array) -> bytes:
    """A stored image, unchanged if it is a PNG without trailing bytes, else encoded from its pixels."""
    return image if image.startswith(_PNG_START) and image.endswith(_PNG_END) else _png(pixels)


def _png(pixels: UInt8Array) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _gif(volume: UInt8Array) -> bytes:
    """The slices along the depth as frames, with the same call as `medmnist.utils.save_frames_as_gif`.

    Pillow merges consecutive equal slices into one longer frame.
    """
    first, *others = [PIL.Image.fromarray(piece) for piece in volume]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=FRAME_MS, loop=0)
    return buffer.getvalue()
