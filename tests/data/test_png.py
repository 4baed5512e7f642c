"""PNG files have the pixels that libpng alone decodes, whoever wrote them, and damage never gives others."""

import io
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from medmnist_hf.conversion.encode import encode_png
from medmnist_hf.data import png
from medmnist_hf.data.png import decode_png

Pixels = NDArray[np.uint8]


def smooth(*shape: int) -> Pixels:
    """Pixels that PNG compresses somewhat, as those of images."""
    noise = np.random.default_rng(0).integers(0, 9, shape)
    return (np.add.accumulate(noise, axis=0) % 256).astype(np.uint8)


def pillow(pixels: Pixels, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def decoded(file: bytes, like: Pixels) -> Pixels:
    out = np.empty_like(like)
    decode_png(np.frombuffer(file, np.uint8), out)
    return out


def is_inflated_apart(file: bytes, pixels: Pixels) -> bool:
    return png._stored(memoryview(file), pixels.nbytes + len(pixels)) is not None


@pytest.mark.parametrize("shape", [(96, 90), (64, 64, 3), (224, 224, 3), (257, 254), (257, 509), (3, 21846, 3)])
def test_pixels_are_those_of_libpng(shape: tuple[int, ...]) -> None:
    """Filtered pixels fill less than a stored block, exactly one (257 x 255 bytes) or two, or several."""
    pixels = smooth(*shape)
    files = [encode_png(pixels[None])[0].as_py(), *(pillow(pixels, compress_level=level) for level in (1, 6, 9))]
    for file in files:
        assert is_inflated_apart(file, pixels)
        assert np.array_equal(decoded(file, pixels), pixels)


def test_other_chunks_are_left_to_libpng() -> None:
    pixels, text = smooth(100, 100), PngImagePlugin.PngInfo()
    text.add_text("Comment", "x")
    file = pillow(pixels, pnginfo=text)
    assert not is_inflated_apart(file, pixels) and np.array_equal(decoded(file, pixels), pixels)
    with pytest.raises(ValueError, match="shape"):  # a transparent gray value makes two channels
        decoded(pillow(pixels, transparency=3), pixels)


def test_without_libdeflate_libpng_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> bytes:
        raise ImportError

    monkeypatch.setattr(imagecodecs, "deflate_decode", missing)
    pixels = smooth(100, 100)
    file = encode_png(pixels[None])[0].as_py()
    assert not is_inflated_apart(file, pixels) and np.array_equal(decoded(file, pixels), pixels)


def test_damage_gives_an_error_or_the_right_pixels() -> None:
    pixels = smooth(100, 100)
    good = pillow(pixels)
    rng = np.random.default_rng(1)
    places = [*range(60), *range(len(good) - 40, len(good)), *rng.integers(60, len(good), 300).tolist()]
    changed = [good[:at] + bytes([good[at] ^ 1 << int(rng.integers(8))]) + good[at + 1 :] for at in places]
    cut = [good[:length] for length in range(33, len(good), 97)]
    errors = 0
    for file in (*changed, *cut):
        try:
            assert np.array_equal(decoded(file, pixels), pixels)
        except (ValueError, RuntimeError):
            errors += 1
    assert errors > 350


def rebuilt(file: bytes, compressed: bytes, crc_of: bytes | None = None) -> bytes:
    """A file with another content of IDAT, and the CRC of yet another."""
    crc = zlib.crc32(b"IDAT" + (compressed if crc_of is None else crc_of))
    chunk = struct.pack(">I", len(compressed)) + b"IDAT" + compressed + struct.pack(">I", crc)
    return file[:33] + chunk + file[-12:]


def test_damage_with_the_same_adler_32_is_found() -> None:
    """Adding 1, -2 and 1 to adjacent bytes does not change an Adler-32."""
    pixels = smooth(100, 96)
    file = pillow(pixels)
    raw = bytearray(b"".join(b"\0" + row.tobytes() for row in np.zeros_like(pixels)))
    raw[11] = 2
    other = bytearray(raw)
    other[10:13] = b"\1\0\1"
    assert zlib.adler32(raw) == zlib.adler32(other)
    damaged = rebuilt(file, zlib.compress(other), zlib.compress(raw))
    assert len(damaged) < pixels.nbytes
    with pytest.raises(RuntimeError, match="CRC"):
        decoded(damaged, pixels)


@pytest.mark.parametrize("extra", [1, 4, 70000])
def test_bytes_after_the_stream_are_ignored_as_by_libpng(extra: int) -> None:
    pixels = smooth(400, 400)
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)
    file = rebuilt(pillow(pixels), zlib.compress(raw) + bytes(extra))
    assert np.array_equal(imagecodecs.png_decode(file), pixels)
    assert np.array_equal(decoded(file, pixels), pixels)


def test_unusual_files_are_left_to_libpng() -> None:
    pixels = smooth(100, 100)
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)
    good = pillow(pixels)
    window = zlib.compressobj(wbits=9)
    small = rebuilt(good, window.compress(raw) + window.flush())
    chunk = struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))
    many = good[:33] + chunk * 5000 + good[33:]
    for file in (small, many):
        assert not is_inflated_apart(file, pixels) and np.array_equal(decoded(file, pixels), pixels)


@pytest.mark.parametrize("shape", [(28, 28, 3), (4097, 4097)])
def test_other_sizes_are_left_to_libpng(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "_stored", pytest.fail)
    pixels = np.zeros(shape, np.uint8)
    assert np.array_equal(decoded(pillow(pixels), pixels), pixels)


def test_files_as_large_as_the_pixels_are_left_to_libpng(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png, "_stored", pytest.fail)
    pixels = smooth(100, 100)
    assert np.array_equal(decoded(pillow(pixels, compress_level=0), pixels), pixels)


def test_another_shape_is_an_error() -> None:
    pixels = smooth(100, 100)
    for other in (smooth(100, 101), smooth(101, 100), smooth(100, 100, 3)):
        with pytest.raises((ValueError, RuntimeError)):
            decoded(encode_png(pixels[None])[0].as_py(), other)
