"""Lossless codecs for images: PNG by our compiled encoder, and WebP through Pillow."""

import io
from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
from PIL import Image
from zlib_ng import zlib_ng

from builders.png import UInt8Array, scanline_streams
from medmnist_hf.errors import BuildError

Encoder = Callable[[UInt8Array], pa.BinaryArray]
"""Encodes ``(n, H, W)`` or ``(n, H, W, 3)`` uint8 images to n files; may be called from several threads at once."""


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib_ng.crc32(data, zlib_ng.crc32(kind))
    return b"".join((len(data).to_bytes(4, "big"), kind, data, check.to_bytes(4, "big")))


def encode_png(images: UInt8Array) -> pa.BinaryArray:
    """Encode images as 8-bit PNG files, losslessly and always to the same bytes.

    Args:
        images: uint8, gray-scale ``(n, H, W)`` or RGB ``(n, H, W, 3)``, C order.

    Returns:
        One file for each image, larger than its pixels by `builders.png.overhead` bytes at most.
    """
    n, height, width = images.shape[:3]
    pixel = images.shape[3] if images.ndim == 4 else 1
    streams, ends = scanline_streams(images.reshape(n, height, width * pixel), pixel)
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 2 if pixel == 3 else 0, 0, 0, 0))
    head, tail = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header), _chunk(b"IEND", b"")
    kind = zlib_ng.crc32(b"IDAT")
    pieces: list[bytes | memoryview] = []
    for start, end in pairwise([0, *ends.tolist()]):
        data = streams.data[start:end]
        check = zlib_ng.crc32(data, kind)
        pieces += (head, (end - start).to_bytes(4, "big"), b"IDAT", data, check.to_bytes(4, "big"), tail)
    frame = len(head) + 12 + len(tail)
    offsets = np.concatenate(([0], ends + frame * np.arange(1, n + 1))).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), n, [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(pieces))])


def encode_webp(images: UInt8Array) -> pa.BinaryArray:
    """Encode RGB images ``(n, H, W, 3)`` as lossless WebP files."""
    files = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "WEBP", lossless=True, quality=0, method=0)
        files.append(buffer.getvalue())
    return pa.array(files, pa.binary())


_ENCODERS: Final[dict[str, Encoder]] = {"png": encode_png, "webp": encode_webp}


def encoder(codec: str, channels: int) -> Encoder:
    """The encoder that a codec names, for images of so many channels.

    Raises:
        BuildError: There is no such codec, or it cannot hold these images.
    """
    if codec not in _ENCODERS:
        raise BuildError(f"unknown codec {codec!r}: choose from {', '.join(_ENCODERS)}")
    if codec == "webp" and channels != 3:
        raise BuildError("--codec webp is for RGB subsets: WebP stores no gray-scale, use --codec png")
    return _ENCODERS[codec]
