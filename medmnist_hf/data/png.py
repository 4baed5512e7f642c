"""Decode PNG files with libdeflate and libpng, without holding Python's lock.

libpng inflates pixels with zlib, which takes most of its time; libdeflate is twice as fast. So a large image is
inflated by libdeflate and handed to libpng in stored blocks (RFC 1951, 3.2.4), of which it only removes the filters.
``scripts/bench/bench_decode.py`` compares this with other decoders.
"""

import struct
from typing import Any, Final

import imagecodecs
from zlib_ng import zlib_ng

from medmnist_hf.array_types import UInt8Array

_HEADER_BYTES: Final = 33
"""Length of the signature and the chunk IHDR."""

_CHUNK: Final = struct.Struct(">I4s")
_CRC_BYTES: Final = 4
_END: Final = struct.pack(">I4sI", 0, b"IEND", 0xAE426082)
_STORED: Final = struct.Struct("<BHH")
_MOST_STORED: Final = 0xFFFF
"""Largest length of a stored block in bytes."""

_LARGE: Final = 1 << 13
"""Bytes of raw pixels from which inflating with libdeflate saves more time than the copies take."""


def decode_png(file: UInt8Array, out: UInt8Array) -> None:
    """Decode a PNG file of 8 bits per value.

    Args:
        file: Its bytes, uint8 of shape ``(n,)``.
        out: Receives the pixels: uint8 of the shape of the image, contiguous.

    Raises:
        ValueError: The file is damaged, or `out` has another shape; or a RuntimeError, as libpng reports most damage.
    """
    stored = _stored(file.data, out.nbytes + len(out)) if out.nbytes >= _LARGE else None
    content: Any = file if stored is None else stored
    imagecodecs.png_decode(content, out=out)


def _stored(file: memoryview, raw_bytes: int) -> bytes | None:
    """The same image without compression; None if it has other chunks or is damaged, which is left to libpng.

    Args:
        file: The PNG file.
        raw_bytes: Length of the filtered pixels: one byte per row in addition to those of the pixels.
    """
    try:
        compressed = _compressed(file)
        raw = imagecodecs.deflate_decode(compressed, out=raw_bytes)  # checks the Adler-32
    except (ValueError, struct.error, RuntimeError, ImportError):  # some builds of imagecodecs lack libdeflate
        return None
    if len(raw) != raw_bytes:
        return None
    pixels = memoryview(raw)
    parts: list[Any] = [b"IDAT\x78\x01"]  # the header of zlib (RFC 1950)
    for start in range(0, raw_bytes, _MOST_STORED):
        block = pixels[start : start + _MOST_STORED]
        parts += [_STORED.pack(start + len(block) == raw_bytes, len(block), len(block) ^ _MOST_STORED), block]
    chunk = b"".join([*parts, compressed[-4:]])
    crc = zlib_ng.crc32(chunk)
    return b"".join([file[:_HEADER_BYTES], struct.pack(">I", len(chunk) - 4), chunk, struct.pack(">I", crc), _END])


def _compressed(file: memoryview) -> bytes:
    """The contents of the chunks IDAT; raises a `ValueError` for other chunks, a `struct.error` at the end."""
    parts: list[memoryview] = []
    at = _HEADER_BYTES
    while True:
        length, kind = _CHUNK.unpack_from(file, at)
        start = at + _CHUNK.size
        if kind == b"IEND":
            return b"".join(parts)
        if kind != b"IDAT":
            raise ValueError
        parts.append(file[start : start + length])
        at = start + length + _CRC_BYTES
