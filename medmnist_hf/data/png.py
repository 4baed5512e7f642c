"""Decode PNG files with libdeflate and libpng, without holding Python's lock.

libpng inflates pixels with zlib, which takes most of its time; libdeflate is faster. So a large image is inflated by
libdeflate and handed to libpng in stored blocks (RFC 1951, 3.2.4), of which it only removes the filters.
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
_NUMBER: Final = struct.Struct(">I")
_MOST_CHUNKS: Final = 1 << 10
_END: Final = struct.pack(">I4sI", 0, b"IEND", 0xAE426082)
_MOST_WINDOW: Final = 1 << 15
_STORED: Final = struct.Struct("<BHH")
_MOST_STORED: Final = 0xFFFF
"""Largest length of a stored block in bytes."""

_WORTH_IT: Final = range(1 << 13, 1 << 24)
"""Bytes of pixels for which libdeflate saves more time than the copies take, and these take little memory."""


def decode_png(file: UInt8Array, out: UInt8Array) -> None:
    """Decode a PNG file of 8 bits per value.

    Args:
        file: Its bytes, uint8 of shape ``(n,)``.
        out: Receives the pixels: uint8 of the shape of the image, contiguous.

    Raises:
        ValueError: The file is damaged, or `out` has another shape; or a RuntimeError, as libpng reports most damage.
    """
    is_worth_it = out.nbytes in _WORTH_IT and file.nbytes < out.nbytes
    stored = _stored(file.data, out.nbytes + len(out)) if is_worth_it else None
    content: Any = file if stored is None else stored
    imagecodecs.png_decode(content, out=out)


def _stored(file: memoryview, raw_bytes: int) -> bytes | None:
    """The same image without compression; None if it is damaged or not written as usual, which is left to libpng.

    Args:
        file: The PNG file.
        raw_bytes: Length of the filtered pixels: one byte per row in addition to those of the pixels.
    """
    try:
        compressed = _compressed(file)
        raw = imagecodecs.deflate_decode(compressed, out=raw_bytes)
    except (ValueError, BufferError, struct.error, RuntimeError, ImportError):  # imagecodecs may lack libdeflate
        return None
    window = 1 << (compressed[0] >> 4) + 8  # only zlib refuses matches beyond it
    if len(raw) != raw_bytes or window < min(raw_bytes, _MOST_WINDOW):
        return None
    pixels = memoryview(raw)
    parts: list[Any] = [b"IDAT\x78\x01"]  # the header of zlib (RFC 1950)
    for start in range(0, raw_bytes, _MOST_STORED):
        block = pixels[start : start + _MOST_STORED]
        parts += [_STORED.pack(start + len(block) == raw_bytes, len(block), len(block) ^ _MOST_STORED), block]
    chunk = b"".join([*parts, _NUMBER.pack(zlib_ng.adler32(raw))])
    length, crc = _NUMBER.pack(len(chunk) - 4), _NUMBER.pack(zlib_ng.crc32(chunk))
    return b"".join([file[:_HEADER_BYTES], length, chunk, crc, _END])


def _compressed(file: memoryview) -> bytes:
    """The contents of the chunks IDAT. The Adler-32 that ends them misses errors that their CRCs detect.

    Raises:
        ValueError: There are other chunks, very many, or one is damaged.
        struct.error: The file ends early.
    """
    parts: list[memoryview] = []
    at = _HEADER_BYTES
    while True:
        length, kind = _CHUNK.unpack_from(file, at)
        start = at + _CHUNK.size
        stop = start + length
        (crc,) = _NUMBER.unpack_from(file, stop)
        if kind == b"IEND":
            return b"".join(parts)
        if kind != b"IDAT" or len(parts) == _MOST_CHUNKS or zlib_ng.crc32(file[at + 4 : stop]) != crc:
            raise ValueError
        parts.append(file[start:stop])
        at = stop + _NUMBER.size
