"""Lossless image encoding: PNG with filters chosen for a whole tile of images at once, and WebP through Pillow.

A PNG encoder spends its time in two places. Choosing a filter for each scanline (by the least sum of absolute
differences, as the PNG specification suggests) is done here by numpy for many images in one pass. Deflating is left
to zlib-ng with its run-length strategy, which on filtered medical images gives files about as small as a full search
does, several times faster, and needs no processor-specific hashing. ``scripts/bench_encode.py`` prints the figures.
"""

import io
import struct
import threading
from collections.abc import Callable
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from zlib_ng import zlib_ng

from medmnist_hf.errors import BuildError

UInt8Array = npt.NDArray[np.uint8]
Codec = Literal["png", "webp"]
Encoder = Callable[[UInt8Array], list[bytes]]
"""Encodes ``(n, H, W)`` or ``(n, H, W, 3)`` uint8 images to n files; may be called from several threads at once."""

_TILE_BYTES: Final = 300_000
_LANES: Final = 8
_LOW_BYTES: Final = np.uint64(0x00FF00FF00FF00FF)
_LOW_HALF: Final = np.uint64(0xFFFF)
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_GRAY, _RGB = 0, 2
_NONE, _SUB, _UP, _AVERAGE, _PAETH = range(5)


class _Filters:
    """Scratch buffers and the filter step for tiles of images of one shape; belongs to one thread.

    Every image is laid out with an empty scanline above it and empty pixels left of each scanline, so that a pixel's
    neighbours are the same flat buffer read at another offset, and each step is one pass over contiguous memory.
    """

    def __init__(self, height: int, row_bytes: int, pixel_bytes: int) -> None:
        self._height, self._row_bytes = height, row_bytes
        # Strides are whole 64-bit words, for the sums in `_costs`.
        self._stride = -(-(row_bytes + pixel_bytes) // _LANES) * _LANES
        self._margin = self._stride - row_bytes
        self.images = max(1, _TILE_BYTES // (height * row_bytes))
        self._lines = self.images * (height + 1)
        length, lead = self._lines * self._stride, self._stride + _LANES
        buffer = np.zeros(lead + length, np.uint8)
        self._raw = buffer[lead:]
        self._left = buffer[lead - pixel_bytes :][:length]
        self._above = buffer[lead - self._stride :][:length]
        self._above_left = buffer[lead - self._stride - pixel_bytes :][:length]
        self._candidates = np.empty((5, length), np.uint8)
        self._scratch = np.empty((4, length), np.uint8)
        self._flags = np.empty((2, length), np.bool_)
        self._words = np.empty((2, length // _LANES), np.uint64)

    def _filter_all(self) -> None:
        """Fill the five candidates: the residual of every byte under each PNG filter type."""
        raw, a, b, c = self._raw, self._left, self._above, self._above_left
        out, (s, t, u, v), (near_a, use_c) = self._candidates, self._scratch, self._flags
        np.copyto(out[_NONE], raw)
        np.subtract(raw, a, out=out[_SUB])
        np.subtract(raw, b, out=out[_UP])
        # floor((a + b) / 2) without leaving 8 bits
        np.bitwise_and(a, b, out=s)
        np.bitwise_xor(a, b, out=t)
        np.right_shift(t, 1, out=t)
        np.add(s, t, out=s)
        np.subtract(raw, s, out=out[_AVERAGE])
        # Paeth in 8 bits: with pa = |b - c| and pb = |a - c|, the third distance |a + b - 2c| is pa + pb where b and a
        # lie on the same side of c (so c never wins there) and |pa - pb| where they do not.
        pa, pb, least = s, t, u
        np.maximum(b, c, out=pa)
        np.minimum(b, c, out=v)
        np.subtract(pa, v, out=pa)
        np.maximum(a, c, out=pb)
        np.minimum(a, c, out=v)
        np.subtract(pb, v, out=pb)
        np.greater(b, c, out=near_a)
        np.greater(a, c, out=use_c)
        np.not_equal(near_a, use_c, out=use_c)
        np.minimum(pa, pb, out=least)
        np.less_equal(pa, pb, out=near_a)
        np.maximum(pa, pb, out=v)
        np.subtract(v, least, out=v)
        c_nearest = v.view(np.bool_)
        np.less(v, least, out=c_nearest)
        np.logical_and(use_c, c_nearest, out=use_c)
        # residual = near_a ? SUB : UP, then use_c ? raw - c : that; by masks, since a masked copy is slower
        mask, paeth = s, out[_PAETH]
        np.negative(near_a.view(np.uint8), out=mask)
        np.bitwise_xor(out[_SUB], out[_UP], out=paeth)
        np.bitwise_and(paeth, mask, out=paeth)
        np.bitwise_xor(paeth, out[_UP], out=paeth)
        np.negative(use_c.view(np.uint8), out=mask)
        np.subtract(raw, c, out=u)
        np.bitwise_xor(u, paeth, out=u)
        np.bitwise_and(u, mask, out=u)
        np.bitwise_xor(paeth, u, out=paeth)

    def _costs(self) -> npt.NDArray[np.uint64]:
        """Cost of each filter on each scanline, from the sum of absolute signed residuals: shape ``(5, lines)``."""
        costs = np.empty((5, self._lines), np.uint64)
        magnitude, (odd, even) = self._scratch[0], self._words
        for kind, candidate in enumerate(self._candidates):
            np.abs(candidate.view(np.int8), out=magnitude.view(np.int8))
            magnitude.reshape(self._lines, self._stride)[:, : self._margin] = 0
            words = magnitude.view(np.uint64)
            # Eight bytes a word are summed as four 16-bit lanes: a line of under 1,024 bytes cannot overflow one.
            np.right_shift(words, np.uint64(8), out=odd)
            np.bitwise_and(odd, _LOW_BYTES, out=odd)
            np.bitwise_and(words, _LOW_BYTES, out=even)
            np.add(odd, even, out=odd)
            lanes = odd.reshape(self._lines, -1).sum(axis=1)
            costs[kind] = sum((lanes >> np.uint64(shift)) & _LOW_HALF for shift in (0, 16, 32, 48))
        # Readers undo Paeth slowest, in every epoch: it must be a tenth better than the others to be worth it.
        costs[_PAETH] += costs[_PAETH] // np.uint64(10)
        return costs

    def scanlines(self, images: UInt8Array) -> UInt8Array:
        """Filtered scanlines ``(n, H, 1 + row_bytes)`` of at most `self.images` images ``(n, H, row_bytes)``."""
        n, height, lines = len(images), self._height, self._lines
        self._raw.reshape(-1, height + 1, self._stride)[:n, 1:, self._margin :] = images
        self._filter_all()
        kinds = self._costs().argmin(axis=0).reshape(-1, height + 1)[:n, 1:]
        index = kinds * lines + np.arange(lines).reshape(-1, height + 1)[:n, 1:]
        chosen = np.take(self._candidates.reshape(-1, self._stride), index, axis=0)
        out = np.empty((n, height, 1 + self._row_bytes), np.uint8)
        out[:, :, 0] = kinds
        out[:, :, 1:] = chosen[:, :, self._margin :]
        return out


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join(
        (struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib_ng.crc32(data, zlib_ng.crc32(kind))))
    )


def png_encoder(image_shape: tuple[int, ...]) -> Encoder:
    """An encoder of 8-bit PNG files (W3C PNG specification): gray-scale ``(H, W)`` or RGB ``(H, W, 3)``.

    Raises:
        BuildError: Scanlines of 1,024 bytes or more, which no MedMNIST size has.
    """
    height, width = image_shape[:2]
    pixel_bytes = image_shape[2] if len(image_shape) == 3 else 1
    row_bytes = width * pixel_bytes
    if row_bytes >= 1024:
        raise BuildError(f"images of {width} pixels a row are too wide for this encoder: at most 1,023 bytes a row")
    colour = _RGB if pixel_bytes == 3 else _GRAY
    head = _SIGNATURE + _chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, colour, 0, 0, 0))
    tail = _chunk(b"IEND", b"")
    local = threading.local()

    def deflate(scanlines: UInt8Array) -> bytes:
        packer = zlib_ng.compressobj(1, zlib_ng.DEFLATED, 15, 8, zlib_ng.Z_RLE)
        return head + _chunk(b"IDAT", packer.compress(scanlines) + packer.flush()) + tail

    def encode(images: UInt8Array) -> list[bytes]:
        filters = getattr(local, "filters", None)
        if filters is None:
            filters = local.filters = _Filters(height, row_bytes, pixel_bytes)
        rows = images.reshape(len(images), height, row_bytes)
        return [
            deflate(lines)
            for start in range(0, len(rows), filters.images)
            for lines in filters.scanlines(rows[start : start + filters.images])
        ]

    return encode


def webp_encoder(image_shape: tuple[int, ...]) -> Encoder:
    """An encoder of lossless WebP files, for RGB images ``(H, W, 3)`` alone.

    Raises:
        BuildError: The images are gray-scale: WebP has no such mode, and they would come back as RGB.
    """
    if len(image_shape) != 3:
        raise BuildError("--codec webp is for RGB subsets: WebP stores no gray-scale, use --codec png")

    def encode(images: UInt8Array) -> list[bytes]:
        files = []
        for image in images:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "WEBP", lossless=True, quality=0, method=0)
            files.append(buffer.getvalue())
        return files

    return encode


ENCODERS: Final[dict[Codec, Callable[[tuple[int, ...]], Encoder]]] = {"png": png_encoder, "webp": webp_encoder}
"""Codec name -> factory of its encoder for images of one shape."""
