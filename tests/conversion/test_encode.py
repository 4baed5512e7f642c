"""PNG and WebP are lossless, small and valid, and their bytes do not depend on threads or on neighboring images."""

import hashlib
import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from medmnist_hf.catalog import NPZ_SPLITS, subsets
from medmnist_hf.conversion.build import LAYOUT
from medmnist_hf.conversion.encode import encode_png, encode_webp, encoder, png_releases
from medmnist_hf.conversion.sharding import ENCODING_OVERHEAD, rows_per_group
from medmnist_hf.errors import BuildError

Images = npt.NDArray[np.uint8]

SHAPES = sorted(
    {f.image_shape for s in subsets() if s.ndim == 2 for f in s.files}, key=lambda shape: (len(shape), shape)
)
ODD_SHAPES = [(1, 1), (1, 1, 3), (4, 341, 3), (9, 2)]
KINDS = ["noise", "constant", "mask", "extremes", "gradient", "noisy gradient"]


def png(images: Images) -> list[bytes]:
    files: list[bytes] = encode_png(images).to_pylist()
    return files


def pattern(kind: str, count: int, shape: tuple[int, ...], seed: int) -> Images:
    """Generate `count` different images of one kind and shape."""
    rng = np.random.default_rng(seed)
    full = (count, *shape)
    if kind == "noise":
        return rng.integers(0, 256, full, np.uint8)
    if kind == "constant":
        return np.broadcast_to(rng.integers(0, 256, (count, *[1] * len(shape)), np.uint8), full).copy()
    if kind == "mask":
        return np.where(rng.random(full) < 0.1, 255, 0).astype(np.uint8)
    if kind == "extremes":
        return rng.choice(np.array([0, 1, 127, 128, 254, 255], np.uint8), full)
    y, x = np.mgrid[: shape[0], : shape[1]]
    slope = rng.integers(-3, 4, (count, 2))
    ramp = slope[:, 0, None, None] * y + slope[:, 1, None, None] * x + rng.integers(0, 256, (count, 1, 1))
    if len(shape) == 3:
        ramp = ramp[..., None] + 40 * np.arange(3)
    images: Images = (ramp + (rng.integers(0, 3, full) if kind == "noisy gradient" else 0)).astype(np.uint8)
    return images


def assert_survives(images: Images, files: list[bytes], image_format: str = "PNG") -> None:
    assert len(files) == len(images)
    for image, file in zip(images, files, strict=True):
        with Image.open(io.BytesIO(file)) as decoded:
            assert (decoded.format, decoded.mode) == (image_format, "RGB" if image.ndim == 3 else "L")
            assert np.array_equal(np.asarray(decoded), image)


def chunks_of(file: bytes) -> list[tuple[bytes, bytes]]:
    """Read the chunks of a PNG file and check their lengths and CRCs."""
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, offset = [], 8
    while offset < len(file):
        length, kind = struct.unpack_from(">I4s", file, offset)
        data = file[offset + 8 : offset + 8 + length]
        (crc,) = struct.unpack_from(">I", file, offset + 8 + length)
        assert crc == zlib.crc32(kind + data)
        chunks.append((kind, data))
        offset += 12 + length
    assert offset == len(file)
    return chunks


# PNG


@pytest.mark.parametrize("shape", SHAPES + ODD_SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_pixel_survives(shape: tuple[int, ...], kind: str) -> None:
    for count in (1, 2, 50):
        images = pattern(kind, count, shape, seed=count)
        assert_survives(images, png(images))
    assert png(images[:0]) == []


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (224, 224, 3)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_files_contain_only_eight_bit_pixels(shape: tuple[int, ...], kind: str) -> None:
    """There is no palette, however few values occur, and no time, text or gamma."""
    (file,) = png(pattern(kind, 1, shape, seed=3))
    (head, header), *data, end = chunks_of(file)
    assert (head, end) == (b"IHDR", (b"IEND", b""))
    assert header == struct.pack(">2I5B", shape[1], shape[0], 8, 2 if len(shape) == 3 else 0, 0, 0, 0)
    assert {name for name, _ in data} == {b"IDAT"}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_incompressible_images_stay_within_the_encoding_overhead(shape: tuple[int, ...]) -> None:
    images = pattern("noise", 3, shape, seed=1)
    assert max(map(len, png(images))) <= images[0].size + ENCODING_OVERHEAD


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_files_of_real_images_are_as_small_as_those_of_pillow(real_data: Path, flag: str) -> None:
    size = pillow_size = 0
    with np.load(real_data / f"{flag}.npz", allow_pickle=False) as npz:
        for prefix in NPZ_SPLITS.values():
            images = npz[f"{prefix}_images"]
            if flag == "adrenalmnist3d":
                images = images.reshape(-1, 28, 28)[::5]
            files = png(images)
            assert_survives(images, files)
            size += sum(map(len, files))
            for image in images:
                buffer = io.BytesIO()
                Image.fromarray(image).save(buffer, "PNG")
                pillow_size += len(buffer.getvalue())
    assert size <= 1.01 * pillow_size, f"{size} bytes against {pillow_size}: {size / pillow_size:.4f}"


def test_threads_give_the_same_bytes() -> None:
    blocks = [pattern(KINDS[i % len(KINDS)], 3 + i % 25, (64, 64, 3), seed=i) for i in range(48)]
    expected = [png(block) for block in blocks]
    with ThreadPoolExecutor(4 * (os.cpu_count() or 1)) as pool:
        for _ in range(2):
            assert list(pool.map(png, blocks)) == expected


def test_bytes_do_not_depend_on_the_batch() -> None:
    images = np.concatenate([pattern(kind, 70, (28, 28), seed=2) for kind in KINDS])
    together = png(images)
    assert [file for image in images for file in png(image[np.newaxis])] == together
    assert png(images[::-1])[::-1] == together


def test_the_bytes_belong_to_this_layout() -> None:
    """If the encoder or the sharding changes, `LAYOUT` must too, or an interrupted build would mix two layouts."""
    cuts = [rows_per_group(shape, ndim) for shape, ndim in (((28, 28), 2), ((224, 224, 3), 2), ((64, 64, 64), 3))]
    assert (LAYOUT, cuts, ENCODING_OVERHEAD) == (2, [21399, 111, 8], 640)
    releases = png_releases()
    if (releases["libpng"], releases["zlib"]) != ("1.6.55", "1.2.13"):
        pytest.skip("the digest was computed with libpng 1.6.55 and zlib 1.2.13")
    digest = hashlib.sha256()
    for kind in KINDS:
        for shape in ((28, 28), (64, 64, 3)):
            digest.update(b"".join(png(pattern(kind, 3, shape, seed=7))))
    assert digest.hexdigest()[:16] == "c16dcbb7be96babc"


# WebP, and codecs by name


@pytest.mark.parametrize("size", [28, 64, 224])
def test_webp_is_lossless(size: int) -> None:
    rng = np.random.default_rng(size)
    noise = rng.integers(0, 256, (3, size, size, 3), np.uint8)
    smooth = np.broadcast_to(np.arange(size, dtype=np.uint8)[None, :, None, None], noise.shape)
    for images in (noise, np.ascontiguousarray(smooth), np.where(noise < 40, 255, 0).astype(np.uint8)):
        assert_survives(images, encode_webp(images).to_pylist(), "WEBP")


def test_encoders_are_found_by_name() -> None:
    assert encoder("png", 1) is encode_png
    assert encoder("png", 3) is encode_png
    assert encoder("webp", 3) is encode_webp


@pytest.mark.parametrize(
    ("codec", "channels", "match"),
    [
        ("webp", 1, r"--codec webp is for RGB subsets.*use --codec png"),
        ("jpeg", 3, r"unknown codec 'jpeg': choose from png, webp"),
    ],
)
def test_unsupported_codecs_are_refused(codec: str, channels: int, match: str) -> None:
    with pytest.raises(BuildError, match=match) as caught:
        encoder(codec, channels)
    assert "\n" not in str(caught.value)
