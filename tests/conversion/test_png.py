"""The PNG encoder: every pixel survives, files are sound and small, the same in any thread and with any neighbours."""

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
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medmnist_hf.catalog import NPZ_SPLITS, subsets
from medmnist_hf.conversion.build import LAYOUT
from medmnist_hf.conversion.encode import encode_png
from medmnist_hf.conversion.png import overhead
from medmnist_hf.conversion.sharding import ENCODING_OVERHEAD, rows_per_group

Images = npt.NDArray[np.uint8]

SHAPES = sorted(
    {f.image_shape for s in subsets() if s.ndim == 2 for f in s.files}, key=lambda shape: (len(shape), shape)
)


def png(images: Images) -> list[bytes]:
    files: list[bytes] = encode_png(images).to_pylist()
    return files


def pattern(kind: str, count: int, shape: tuple[int, ...], seed: int) -> Images:
    """Images of one character, as `count` different ones of a shape."""
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


KINDS = ["noise", "constant", "mask", "extremes", "gradient", "noisy gradient"]


def chunks_of(file: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG file, whose lengths and CRCs must hold."""
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


def scanlines_of(file: bytes, shape: tuple[int, ...]) -> list[tuple[int, bytes]]:
    """Filter type and filtered bytes of every scanline, after a check of the file's structure."""
    (head, header), (idat, packed), (end, nothing) = chunks_of(file)
    assert (head, idat, end, nothing) == (b"IHDR", b"IDAT", b"IEND", b"")
    colour = 2 if len(shape) == 3 else 0
    assert header == struct.pack(">2I5B", shape[1], shape[0], 8, colour, 0, 0, 0)
    inflate = zlib.decompressobj()
    raw = inflate.decompress(packed) + inflate.flush()
    assert inflate.eof
    assert not inflate.unused_data
    width = 1 + shape[1] * (3 if colour else 1)
    assert len(raw) == shape[0] * width
    return [(raw[start], raw[start + 1 : start + width]) for start in range(0, len(raw), width)]


def paeth(a: int, b: int, c: int) -> int:
    """The predictor as the PNG specification, section 9.4, words it."""
    p = a + b - c
    pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
    return a if pa <= pb and pa <= pc else b if pb <= pc else c


def predictions(line: list[int], above: list[int], at: int, bpp: int) -> list[int]:
    a, b = (line[at - bpp] if at >= bpp else 0), above[at]
    c = above[at - bpp] if at >= bpp else 0
    return [0, a, b, (a + b) // 2, paeth(a, b, c)]


def decoded(file: bytes, shape: tuple[int, ...]) -> Images:
    """A PNG file by the letter of its specification, byte by byte."""
    bpp = shape[2] if len(shape) == 3 else 1
    above = [0] * (shape[1] * bpp)
    rows = []
    for kind, filtered in scanlines_of(file, shape):
        line: list[int] = []
        for at, value in enumerate(filtered):
            line.append((value + predictions(line, above, at, bpp)[kind]) % 256)
        rows.append(line)
        above = line
    return np.array(rows, np.uint8).reshape(shape)


def best_filters(image: Images) -> list[int]:
    """The filter type of each scanline with the least cost, the first of equals.

    The cost is the sum of absolute differences; Paeth must be a tenth better, as readers undo it slowest.
    """
    bpp = image.shape[2] if image.ndim == 3 else 1
    rows = image.reshape(image.shape[0], -1).tolist()
    best, above = [], [0] * len(rows[0])
    for line in rows:
        sums = [0] * 5
        for at, value in enumerate(line):
            for kind, guess in enumerate(predictions(line, above, at, bpp)):
                residual = (value - guess) % 256
                sums[kind] += min(residual, 256 - residual)
        sums[4] += sums[4] // 10
        best.append(sums.index(min(sums)))
        above = line
    return best


def assert_survives(images: Images, files: list[bytes], image_format: str) -> None:
    assert len(files) == len(images)
    for image, file in zip(images, files, strict=True):
        with Image.open(io.BytesIO(file)) as opened:
            assert (opened.format, opened.mode) == (image_format, "RGB" if image.ndim == 3 else "L")
            assert np.array_equal(np.asarray(opened), image)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_pixel_survives(shape: tuple[int, ...], kind: str) -> None:
    for count in (1, 2, 50):
        images = pattern(kind, count, shape, seed=count)
        assert_survives(images, png(images), "PNG")
    assert png(images[:0]) == []


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 11),
    rgb=st.booleans(),
    kind=st.sampled_from(KINDS),
    count=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=80, deadline=None)
def test_filters_and_pixels_by_the_letter(  # noqa: PLR0917
    height: int, width: int, rgb: bool, kind: str, count: int, seed: int
) -> None:
    shape = (height, width, 3) if rgb else (height, width)
    images = pattern(kind, count, shape, seed)
    for image, file in zip(images, png(images), strict=True):
        assert [kind for kind, _ in scanlines_of(file, shape)] == best_filters(image)
        assert np.array_equal(decoded(file, shape), image)


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_filters_on_few_gray_levels(data: st.DataObject) -> None:
    """Ties and the edges of 8 bits, which noise seldom meets."""
    values = st.sampled_from([0, 1, 2, 127, 128, 129, 254, 255])
    image = np.array(data.draw(st.lists(values, min_size=30, max_size=30)), np.uint8)
    for shape in ((5, 6), (5, 2, 3)):
        (file,) = png(image.reshape(1, *shape))
        assert [kind for kind, _ in scanlines_of(file, shape)] == best_filters(image.reshape(shape))
        assert np.array_equal(decoded(file, shape), image.reshape(shape))


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (224, 224, 3)], ids=str)
def test_filters_at_the_sizes_of_medmnist(shape: tuple[int, ...]) -> None:
    images = pattern("noisy gradient", 2, shape, seed=5)
    for image, file in zip(images, png(images), strict=True):
        assert [kind for kind, _ in scanlines_of(file, shape)] == best_filters(image)


@pytest.mark.parametrize("width", [341, 340, 300, 1])
def test_widest_scanlines(width: int) -> None:
    """Wider than any size of MedMNIST."""
    images = np.zeros((2, 4, width, 3), np.uint8)
    images[:, ::2] = 128
    images[1, :, ::2] = 128
    assert_survives(images, png(images), "PNG")
    for image, file in zip(images, png(images), strict=True):
        assert [kind for kind, _ in scanlines_of(file, (4, width, 3))] == best_filters(image)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_incompressible_images_stay_within_what_the_plan_allows(shape: tuple[int, ...]) -> None:
    images = pattern("noise", 3, shape, seed=1)
    assert max(map(len, png(images))) <= images[0].size + overhead(shape)
    assert overhead(shape) <= ENCODING_OVERHEAD


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_real_images_are_no_larger_than_pillows(real_data: Path, flag: str) -> None:
    ours = peers = 0
    with np.load(real_data / f"{flag}.npz", allow_pickle=False) as npz:
        for prefix in NPZ_SPLITS.values():
            images = npz[f"{prefix}_images"]
            if flag == "adrenalmnist3d":
                images = images.reshape(-1, 28, 28)[::5]
            files = png(images)
            assert_survives(images, files, "PNG")
            ours += sum(map(len, files))
            for image in images:
                buffer = io.BytesIO()
                Image.fromarray(image).save(buffer, "PNG")
                peers += buffer.tell()
    assert ours <= 1.01 * peers, f"{ours} bytes against {peers}: {ours / peers:.4f}"


def test_threads_give_the_same_bytes() -> None:
    blocks = [pattern(KINDS[i % len(KINDS)], 3 + i % 25, (64, 64, 3), seed=i) for i in range(48)]
    wanted = [png(block) for block in blocks]
    with ThreadPoolExecutor(4 * (os.cpu_count() or 1)) as pool:
        for _ in range(2):
            assert list(pool.map(png, blocks)) == wanted


def test_bytes_do_not_depend_on_what_is_encoded_together() -> None:
    images = np.concatenate([pattern(kind, 70, (28, 28), seed=2) for kind in KINDS])
    together = png(images)
    assert [file for image in images for file in png(image[np.newaxis])] == together
    assert png(images[::-1])[::-1] == together


@given(
    runs=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 600)), min_size=1, max_size=40),
    noise=st.integers(0, 200),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150, deadline=None)
def test_runs_of_any_length(runs: list[tuple[int, int]], noise: int, seed: int) -> None:
    """Every run length and its extra bits, runs over the borders of blocks, codes of few and of many symbols."""
    flat = np.concatenate([np.full(length, value, np.uint8) for value, length in runs])
    flat = np.concatenate([flat, np.random.default_rng(seed).integers(0, 256, noise, np.uint8)])
    height = int(np.ceil(len(flat) / 341))
    image = np.resize(flat, (1, height, 341))
    assert_survives(image, png(image), "PNG")


@pytest.mark.parametrize("ratio", [1.2, 1.5, 1.62, 2.0, 3.0])
def test_skewed_counts_keep_code_lengths_within_the_format(ratio: float) -> None:
    """Counts that grow like Fibonacci's numbers ask for codes of more than the 15 bits that deflate has."""
    counts = np.minimum(ratio ** np.arange(24), 40_000).astype(int)
    flat = np.repeat(np.arange(24, dtype=np.uint8) * 9, counts)
    np.random.default_rng(0).shuffle(flat)
    image = np.resize(flat, (1, 224, 224 * 3 // 3))
    assert_survives(image, png(image), "PNG")


def test_the_bytes_are_those_of_this_layout() -> None:
    """Whoever changes the encoder or the cuts raises `LAYOUT`, or an interrupted build would mix two of them."""
    digest = hashlib.sha256()
    for kind in KINDS:
        for shape in ((28, 28), (64, 64, 3)):
            digest.update(b"".join(png(pattern(kind, 3, shape, seed=7))))
    cuts = [rows_per_group(shape, ndim) for shape, ndim in (((28, 28), 2), ((224, 224, 3), 2), ((64, 64, 64), 3))]
    assert (LAYOUT, digest.hexdigest()[:16], cuts) == (1, "8996be5e4c65ae98", [21399, 111, 8])
