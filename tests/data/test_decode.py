"""Decoding returns every pixel from every kind of column, and errors name the row."""

import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medmnist_hf.conversion.encode import encode_png, encode_webp
from medmnist_hf.data.decode import (
    Part,
    RowError,
    decode_image,
    decoded,
    encoded,
    labels_of,
    row_errors,
    row_shape,
    volumes_of,
)

STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def pillow(array: NDArray[Any], kind: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = PIL.Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def column(files: list[bytes | None]) -> Any:
    return pa.array([{"bytes": file, "path": None} for file in files], STRUCT)


def images(n: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(n).integers(0, 256, (n, *shape), np.uint8)


def parts(arrow: Any, *cuts: int) -> Iterator[Part]:
    """The column in parts that end at the cuts."""
    for start, stop in zip((0, *cuts), (*cuts, len(arrow)), strict=True):
        yield stop - start, lambda start=start, stop=stop: arrow[start:stop]  # type: ignore[misc]


def joined(arrow: Any, shape: tuple[int, ...], *cuts: int) -> NDArray[np.uint8]:
    return np.concatenate(list(decoded(parts(arrow, *cuts), shape)))


CODECS: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
    "ours": lambda pixels: encode_png(pixels).to_pylist(),
    "pillow": lambda pixels: [pillow(image) for image in pixels],
    "webp": lambda pixels: encode_webp(pixels).to_pylist(),
}
RGB = [(9, 9, 3), (224, 224, 3), (1, 1, 3)]
CASES = [(codec, shape) for codec in CODECS for shape in RGB + ([] if codec == "webp" else [(9, 9), (5, 7)])]


@pytest.mark.parametrize(("codec", "shape"), CASES)
def test_every_pixel(codec: str, shape: tuple[int, ...]) -> None:
    pixels = images(12, *shape)
    files = CODECS[codec](pixels)
    assert np.array_equal(joined(column(files), shape, 5, 5, 11), pixels)
    assert row_shape(column(files)) == shape


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 600), st.data())
def test_slices_and_chunks(rows: int, data: st.DataObject) -> None:
    """Columns may start within their buffers, and chunks and parts may end anywhere."""
    pixels = images(rows, 3, 4)
    files = column(encode_png(pixels).to_pylist())
    ends = sorted(data.draw(st.lists(st.integers(0, rows), max_size=3)))
    chunked = pa.chunked_array([files[a:b] for a, b in zip((0, *ends), (*ends, rows), strict=True)], STRUCT)
    first = data.draw(st.integers(0, rows))
    cuts = sorted(data.draw(st.lists(st.integers(0, rows - first), max_size=4)))
    assert np.array_equal(joined(chunked[first:], (3, 4), *cuts), pixels[first:])
    assert encoded(chunked[first:]) == files[first:].field("bytes").to_pylist()


def png(color: int, depth: int) -> bytes:
    """A PNG in which only the header is wrong."""
    file = bytearray(pillow(images(1, 28, 28)[0]))
    file[24:26] = depth, color
    return bytes(file)


GRAY = images(1, 28, 28)[0]
FAULTS: dict[str, tuple[bytes | None, str]] = {
    "another size": (pillow(GRAY[:, :14]), r"shape \(28, 14\), not \(28, 28\)"),
    "RGB": (pillow(GRAY, mode="RGB"), r"shape \(28, 28, 3\), not \(28, 28\)"),
    "with alpha": (pillow(GRAY, mode="LA"), r"shape \(28, 28, 2\), not"),
    "RGB with alpha": (pillow(GRAY, mode="RGBA"), r"shape \(28, 28, 4\), not"),
    "transparent gray": (pillow(GRAY, transparency=3), "unreadable"),
    "palette": (pillow(GRAY, mode="P"), "palette PNG of 8 bits"),
    "one bit": (pillow(GRAY, mode="1"), "PNG of 1 bits"),
    "16 bits": (pillow(GRAY.astype(np.uint16)), "PNG of 16 bits"),
    "no such color": (png(5, 8), "color PNG"),
    "WebP": (pillow(GRAY, "WEBP", mode="RGB", lossless=True), r"shape \(28, 28, 3\), not"),
    "lossy WebP": (pillow(GRAY, "WEBP", mode="RGB"), "neither PNG nor lossless WebP"),
    "JPEG": (pillow(GRAY, "JPEG"), "neither PNG nor lossless WebP"),
    "GIF": (b"GIF89a", "neither PNG nor lossless WebP"),
    "nothing": (b"", "neither PNG nor lossless WebP"),
    "cut": (pillow(GRAY)[:-20], "unreadable"),
    "cut in the header": (pillow(GRAY)[:25], "neither PNG"),
    "flipped": (pillow(GRAY)[:200] + b"\0\1" + pillow(GRAY)[202:], "unreadable"),
    "null": (None, "a link to a file"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("row", [0, 299, 700])
def test_a_row_that_holds_something_else(name: str, row: int) -> None:
    file, match = FAULTS[name]
    files: list[bytes | None] = [pillow(GRAY)] * 701
    files[row] = file
    with pytest.raises(RowError, match=match) as caught:
        joined(column(files), (28, 28), 310, 690)
    assert caught.value.row == row
    assert str(caught.value).startswith(f"row {row} holds ") and "\n" not in str(caught.value)


def test_webp_with_transparency_and_damage() -> None:
    rgba = images(1, 8, 8, 4)[0]
    good = encode_webp(images(1, 8, 8, 3))[0].as_py()
    assert row_shape(column([pillow(rgba, "WEBP", lossless=True)])) == (8, 8, 4)
    for file, match in ((pillow(rgba, "WEBP", lossless=True), "shape"), (good[:-9], "unreadable")):
        with pytest.raises(ValueError, match=match):
            decode_image(np.frombuffer(file, np.uint8), np.empty((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("arrow", "match"),
    [
        (pa.array([3]), "row 0 holds int64, not an image"),
        (pa.array([{"path": "x"}]), "row 0 holds struct<path: string>, not an image"),
        (pa.array([{"bytes": "text"}]), "not an image"),
        (pa.array([{"bytes": b"", "path": ""}, None], STRUCT), "row 1 holds no image"),
    ],
)
def test_columns_of_something_else(arrow: Any, match: str) -> None:
    with pytest.raises(RowError, match=match):
        joined(arrow, (28, 28))
    with pytest.raises(RowError, match=match):
        encoded(arrow)


@pytest.mark.parametrize(
    ("arrow", "match"),
    [
        (pa.array([3]), "row 0 holds int64, not an image"),
        (column([None]), "row 0 holds a link to a file"),
        (column([b"GIF89a"]), "row 0 holds an unreadable image .neither PNG"),
        (column([pillow(images(1, 9, 9)[0], mode="P")]), "row 0 holds a palette PNG"),
    ],
)
def test_the_shape_of_an_invalid_first_row(arrow: Any, match: str) -> None:
    with pytest.raises(RowError, match=match):
        row_shape(arrow)


def test_row_errors_converts_the_error() -> None:
    with (
        pytest.raises(LookupError, match="12 is a horse"),
        row_errors(lambda row, what: LookupError(f"{row} {what}"), 10),
    ):
        raise RowError(2, "is a horse")


def test_reading_ahead_is_bounded_and_keeps_the_order() -> None:
    """Of parts of 8 MiB, three may wait in addition to the one that is decoded and the one that is yielded."""
    lock, open_parts, most = threading.Lock(), [0], [0]
    volume = pa.array(np.zeros(1 << 23, np.uint8))
    for width in (128, 256, 256):
        volume = pa.ListArray.from_arrays(pa.array(np.arange(0, len(volume) + 1, width, dtype=np.int32)), volume)

    def read() -> Any:
        with lock:
            open_parts[0] += 1
            most[0] = max(most[0], open_parts[0])
        return volume

    blocks = 0
    for block in decoded(((1, read) for _ in range(12)), (256, 256, 128)):
        assert block.shape == (1, 256, 256, 128)
        blocks += 1
        with lock:
            open_parts[0] -= 1
    assert blocks == 12
    assert most[0] <= 5


def test_a_reader_that_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    blocks = decoded(parts(column([pillow(GRAY)] * 60), (20), 40), (28, 28))
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_an_error_of_a_reader_is_raised() -> None:
    def read() -> Any:
        raise BlockingIOError("the shard is gone")

    with pytest.raises(BlockingIOError, match="gone"):
        list(decoded([(1, read)], (28, 28)))


def volumes(values: Any, kind: Any = pa.uint8()) -> Any:  # noqa: B008
    return pa.array(values, pa.list_(pa.list_(pa.list_(kind))))


def test_voxels_without_a_copy() -> None:
    voxels = images(9, 2, 3, 4)
    arrow = volumes(voxels.tolist())
    part = volumes_of(arrow[2:7], (2, 3, 4))
    assert np.array_equal(part, voxels[2:7])
    assert part.dtype == np.uint8 and not part.flags.owndata and not part.flags.writeable
    chunked = pa.chunked_array([arrow[:1], arrow[4:], arrow[1:4]])
    assert row_shape(chunked) == row_shape(arrow[3:]) == (2, 3, 4)
    assert np.array_equal(joined(chunked, (2, 3, 4), 3, 7), voxels[[0, 4, 5, 6, 7, 8, 1, 2, 3]])


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ([[[1, 2], [3, 4]], [[5, 6]]], "row 3 holds a volume that is not of shape"),
        ([[[1, 2], [3, 4]], [[5, 6], [7]]], "row 3 holds a volume that is not of shape"),
        ([[[1, 2], [3, 4]], [[5, 6], [7, 8, 9]]], "row 3 holds a volume that is not of shape"),
        ([[[1, 2], [3, 4]], [[5], [6, 7, 8]]], "row 3 holds a volume that is not of shape"),
        ([], "row 3 holds a volume that is not of shape"),
        (None, "row 3 holds a volume that is not of shape"),
        ([[[1, 2], [3, 4]], None], "row 3 holds a volume that is not of shape"),
        ([[[1, 2], [3, 4]], [[5, 6], None]], "row 3 holds a volume that is not of shape"),
        ([[[1, 2], [3, 4]], [[5, 6], [7, None]]], "row 3 holds a volume with missing voxels"),
    ],
)
def test_an_invalid_volume(bad: Any, match: str) -> None:
    good = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    with pytest.raises(RowError, match=match):
        volumes_of(volumes([good, good, good, bad, good]), (2, 2, 2))
    with pytest.raises(RowError, match=match.replace("3", "2")):
        volumes_of(volumes([good, good, good, bad, good])[1:], (2, 2, 2))


def test_voxels_of_another_type() -> None:
    with pytest.raises(RowError, match="voxels of int64, not uint8"):
        volumes_of(volumes([[[[1]]]], pa.int64()), (1, 1, 1))
    with pytest.raises(RowError, match=r"list<item: uint8>, not a volume of shape \(1, 1, 1\)"):
        volumes_of(pa.array([[1]], pa.list_(pa.uint8())), (1, 1, 1))


def test_class_ids() -> None:
    for kind in (pa.int64(), pa.uint8(), pa.int32()):
        ids = labels_of(pa.chunked_array([pa.array([9, 2, 0], kind)[1:], pa.array([1], kind)]), 3, multi_label=False)
        assert ids.tolist() == [2, 0, 1] and ids.dtype == np.int64


def test_findings() -> None:
    lists = pa.array([[5], [], [0, 2], [1]])[1:]
    multi_hot = labels_of(lists, 3, multi_label=True)
    assert multi_hot.tolist() == [[0, 0, 0], [1, 0, 1], [0, 1, 0]] and multi_hot.dtype == np.uint8
    assert labels_of(pa.array([], pa.list_(pa.int64())), 3, multi_label=True).shape == (0, 3)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ([0, 1, 2], "row 2 holds a label outside 0 to 1"),
        ([0, -1], "row 1 holds a label outside 0 to 1"),
        (pa.array([2**63 + 5], pa.uint64()), "row 0 holds a label outside"),
        ([0, None], "row 1 holds no label"),
        ([0.5], "row 0 holds a label of double"),
        (["a"], "row 0 holds a label of string"),
        ([[0]], "row 0 holds a label of list"),
    ],
)
def test_invalid_class_ids(values: Any, match: str) -> None:
    with pytest.raises(RowError, match=match):
        labels_of(pa.array(values), 2, multi_label=False)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ([[0], [], [1, 2]], "row 2 holds a label outside 0 to 1"),
        ([[0], [-1]], "row 1 holds a label outside"),
        ([[0], None], "row 1 holds no label"),
        ([[], [0, None]], "row 1 holds a missing label"),
        ([["a"]], "row 0 holds a label of list"),
        ([0], "row 0 holds a label of int64"),
    ],
)
def test_invalid_lists_of_findings(values: Any, match: str) -> None:
    with pytest.raises(RowError, match=match):
        labels_of(pa.array(values), 2, multi_label=True)
