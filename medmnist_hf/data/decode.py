"""Decode Arrow columns of images, volumes and labels to numpy, in several threads and without an object per pixel."""

import contextlib
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any, Final, TypeVar

import imagecodecs
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.data.png import decode_png
from medmnist_hf.errors import first_line

_Item = TypeVar("_Item")

Part = tuple[int, Callable[[], Any]]
"""Number of rows of a piece of a column, and a function that reads it as an Arrow array or chunked array."""

_THREADS: Final = min(8, os.cpu_count() or 1)
_TASK_BYTES: Final = 1 << 20
_TASK_ROWS: Final = 256
"""Most rows in one task of a thread: large enough to hide its overhead, small enough to balance the load."""

_AHEAD_BYTES: Final = 24 << 20
"""Bytes of raw pixels that are read ahead; at least one part always is."""

_PNG_HEAD: Final = struct.Struct(">8s4x4sIIBB")
_PNG_START: Final = (b"\x89PNG\r\n\x1a\n", b"IHDR")
_PNG_CHANNELS: Final[dict[int, tuple[int, ...]]] = {0: (), 2: (3,), 4: (2,), 6: (4,)}
_WEBP_HEAD: Final = struct.Struct("<4s4x8s4xBI")
_WEBP_START: Final = (b"RIFF", b"WEBPVP8L", 0x2F)
_HEAD_BYTES: Final = max(_PNG_HEAD.size, _WEBP_HEAD.size)


class RowError(ValueError):
    """A row that cannot be decoded, or has another shape than the others.

    Attributes:
        row: Its number within the column.
        what: What it holds instead; follows "row 3 holds".
    """

    def __init__(self, row: int, what: str) -> None:
        super().__init__(f"row {row} holds {what}")
        self.row, self.what = row, what


@contextlib.contextmanager
def row_errors(fault: Callable[[int, str], Exception], start: int = 0) -> Iterator[None]:
    """Convert a `RowError` to an error in the terms of the caller's user.

    Args:
        fault: Makes that error from the number of the row and what it holds instead.
        start: Number of the column's first row.
    """
    try:
        yield
    except RowError as error:
        raise fault(start + error.row, error.what) from None


def decoded(parts: Iterable[Part], shape: tuple[int, ...], *, as_rgb: bool = False) -> Iterator[UInt8Array]:
    """Read and decode the parts of an image column, several at a time.

    Args:
        parts: The parts in row order. They are read in other threads, some of them ahead of time.
        shape: Shape of every row: ``(H, W)``, ``(H, W, 3)``, or ``(D, H, W)`` for nested lists.
        as_rgb: Accept gray images where `shape` is ``(H, W, 3)``, as for `decode_image`.

    Yields:
        uint8 of shape ``(n, *shape)``, one array per part, in order; volumes are read-only.

    Raises:
        RowError: A row holds something else; rows are numbered from the first row of the first part.
    """
    start = 0
    pool, conductor = ThreadPoolExecutor(_THREADS), ThreadPoolExecutor(1)
    decode = partial(pixels_of, shape=shape, pool=pool, as_rgb=as_rgb)
    try:
        started = (conductor.submit(decode, column) for column in _read_ahead(pool, parts, prod(shape)))
        for result in _one_ahead(started):
            with row_errors(RowError, start):
                block = result.result()
            start += len(block)
            yield block
            del block, result
    finally:
        conductor.shutdown(cancel_futures=True)
        pool.shutdown(cancel_futures=True)
        # Arrow keeps what it freed, over 100 MB after volumes at 64 voxels, for reads that will not come.
        pa.default_memory_pool().release_unused()


def _one_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """Yield each item after the next one was made, so that it is decoded while the caller uses this one."""
    pending: deque[_Item] = deque()
    for item in items:
        pending.append(item)
        if len(pending) > 1:
            yield pending.popleft()
    yield from pending


def _read_ahead(pool: Executor, parts: Iterable[Part], row_bytes: int) -> Iterator[Any]:
    """Yield the columns of the parts in order, reading ahead as far as `_AHEAD_BYTES` allows."""
    pending: deque[tuple[int, Future[Any]]] = deque()
    waiting = 0
    for rows, read in parts:
        pending.append((rows, pool.submit(read)))
        waiting += rows
        while len(pending) > 1 and waiting * row_bytes > _AHEAD_BYTES:
            waiting -= pending[0][0]
            yield pending.popleft()[1].result()
    while pending:
        yield pending.popleft()[1].result()


def pixels_of(column: Any, shape: tuple[int, ...], pool: Executor, *, as_rgb: bool = False) -> UInt8Array:
    """Decode an image column.

    Args:
        column: Arrow array or chunked array of structs with the field ``bytes``, or of nested lists.
        shape: Shape of every row, as for `decoded`.
        pool: Threads that decode the images.
        as_rgb: As for `decoded`.

    Returns:
        uint8 of shape ``(n, *shape)``; volumes are read-only.

    Raises:
        RowError: A row holds something else.
    """
    column = _whole(column)
    if pa.types.is_list(column.type):
        return volumes_of(column, shape)
    files = _files_of(column)
    out = np.empty((len(column), *shape), np.uint8)
    step = max(1, min(_TASK_ROWS, _TASK_BYTES // prod(shape)))
    cuts = range(0, len(column), step)
    decode = partial(_decode_into, as_rgb=as_rgb)
    tasks = [pool.submit(decode, files.slice(start, step), out[start : start + step]) for start in cuts]
    for start, task in zip(cuts, tasks, strict=True):
        with row_errors(RowError, start):
            task.result()
    return out


def _whole(column: Any) -> Any:
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _files_of(column: Any) -> Any:
    """The encoded files of a struct column; raises a `RowError` if one is missing."""
    fields = {field.name: field.type for field in column.type} if pa.types.is_struct(column.type) else {}
    if fields.get("bytes") != pa.binary():
        raise RowError(0, f"{column.type}, not an image")
    files = column.field("bytes")
    for array, what in ((column, "no image"), (files, "a link to a file, not the image itself")):
        if array.null_count:
            raise RowError(_first_null(array), what)
    return files


def encoded(column: Any) -> list[bytes]:
    """The images of a column as stored, without decoding.

    Args:
        column: Arrow array or chunked array of structs with the field ``bytes``.

    Raises:
        RowError: It holds something else, or a row has no bytes.
    """
    files: list[bytes] = _files_of(_whole(column)).to_pylist()
    return files


def _decode_into(files: Any, out: UInt8Array, *, as_rgb: bool) -> None:
    """Decode an Arrow array of files into the rows of an array."""
    _, ends, content = files.buffers()
    edges = np.frombuffer(ends, np.int32)[files.offset : files.offset + len(files) + 1].tolist()
    data = np.frombuffer(content or b"", np.uint8)
    for row, (start, stop) in enumerate(pairwise(edges)):
        try:
            decode_image(data[start:stop], out[row], as_rgb=as_rgb)
        except ValueError as error:
            raise RowError(row, str(error)) from None


def decode_image(file: UInt8Array, out: UInt8Array, *, as_rgb: bool = False) -> None:
    """Decode one PNG or lossless WebP file.

    Args:
        file: Its bytes, uint8 of shape ``(n,)``.
        out: Receives the pixels: uint8 of shape ``(H, W)`` or ``(H, W, 3)``, contiguous.
        as_rgb: Accept a gray image for ``(H, W, 3)``, and repeat its values as red, green and blue.

    Raises:
        ValueError: It is not such a file, has another shape, or is damaged.
    """
    decode, shape = _header(file)
    if as_rgb and out.shape == (*shape, 3):
        gray = np.empty(shape, np.uint8)
        decode_image(file, gray)
        out[:] = gray[..., None]
        return
    if shape != out.shape:
        raise ValueError(f"an image of shape {shape}, not {out.shape}")
    try:
        decode(file, out=out)
    except (ValueError, RuntimeError) as error:  # the codecs raise RuntimeErrors
        raise ValueError(f"an unreadable image ({first_line(error)})") from None


def image_shape(file: UInt8Array) -> tuple[int, ...]:
    """Shape of the image in a PNG or lossless WebP file, from its header.

    Args:
        file: Its bytes, uint8 of shape ``(n,)``.

    Returns:
        ``(H, W)`` or ``(H, W, channels)``.

    Raises:
        ValueError: It is not such a file.
    """
    return _header(file)[1]


def row_shape(column: Any) -> tuple[int, ...]:
    """Shape of the first row of an image column, without decoding it.

    Args:
        column: As for `pixels_of`, with at least one row.

    Returns:
        ``(H, W)`` or ``(H, W, channels)`` from the header of a file, or the lengths of nested lists.

    Raises:
        RowError: It holds something else.
    """
    values = _whole(column).slice(0, 1)
    if not pa.types.is_list(values.type):
        (file,) = encoded(values)
        try:
            return image_shape(np.frombuffer(file, np.uint8))
        except ValueError as error:
            raise RowError(0, str(error)) from None
    shape = []
    while pa.types.is_list(values.type) and len(values):
        shape.append(int(_lengths_of(values)[0]))
        values = _elements_of(values)
    return tuple(shape)


def _header(file: UInt8Array) -> tuple[Callable[..., Any], tuple[int, ...]]:
    """The decoder of a file, and the shape of its image."""
    head = file[:_HEAD_BYTES].tobytes()
    if len(head) == _HEAD_BYTES:
        *start, width, height, depth, color = _PNG_HEAD.unpack_from(head)
        if tuple(start) == _PNG_START:
            if depth != 8 or color not in _PNG_CHANNELS:
                kind = "palette" if color == 3 else "color"
                raise ValueError(f"a {kind} PNG of {depth} bits, not one of 8-bit gray or RGB")
            return decode_png, (height, width, *_PNG_CHANNELS[color])
        *start, sides = _WEBP_HEAD.unpack_from(head)
        if tuple(start) == _WEBP_START:
            width, height, alpha = (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1, sides >> 28 & 1
            return imagecodecs.webp_decode, (height, width, 3 + alpha)
    raise ValueError("an unreadable image (neither PNG nor lossless WebP)")


def volumes_of(column: Any, shape: tuple[int, ...]) -> UInt8Array:
    """The voxels of a column of nested lists, without a copy.

    Args:
        column: Arrow array of lists of lists of lists of uint8.
        shape: Shape of every row, ``(D, H, W)``.

    Returns:
        uint8 of shape ``(n, D, H, W)``, read-only.

    Raises:
        RowError: A row holds something else.
    """
    values, rows_of_level = column, 1
    for width in shape:
        if not pa.types.is_list(values.type):
            raise RowError(0, f"{column.type}, not a volume of shape {shape}")
        wrong = np.flatnonzero(_lengths_of(values) != width)
        if wrong.size:
            raise RowError(int(wrong[0]) // rows_of_level, f"a volume that is not of shape {shape}")
        values, rows_of_level = _elements_of(values), rows_of_level * width
    if values.type != pa.uint8():
        raise RowError(0, f"voxels of {values.type}, not uint8")
    if values.null_count:
        raise RowError(_first_null(values) // rows_of_level, "a volume with missing voxels")
    return np.asarray(np.from_dlpack(values), np.uint8).reshape(len(column), *shape)


def labels_of(column: Any, classes: int, *, multi_label: bool) -> NDArray[Any]:
    """The labels of a column.

    Args:
        column: Arrow array or chunked array of class ids, or of lists of the findings present.
        classes: Number of classes or findings.
        multi_label: The column holds lists.

    Returns:
        int64 of shape ``(N,)`` with class ids, or uint8 of shape ``(N, classes)`` with 0 and 1.

    Raises:
        RowError: A row holds something else.
    """
    column = _whole(column)
    if pa.types.is_list(column.type) != multi_label:
        raise RowError(0, f"a label of {column.type}")
    if column.null_count:
        raise RowError(_first_null(column), "no label")
    values = _elements_of(column) if multi_label else column
    if not pa.types.is_integer(values.type):
        raise RowError(0, f"a label of {column.type}")
    rows = np.repeat(np.arange(len(column)), _lengths_of(column)) if multi_label else np.arange(len(column))
    if values.null_count:
        raise RowError(int(rows[_first_null(values)]), "a missing label")
    ids = np.from_dlpack(values).astype(np.int64)
    wrong = np.flatnonzero((ids < 0) | (ids >= classes))
    if wrong.size:
        raise RowError(int(rows[wrong[0]]), f"a label outside 0 to {classes - 1}")
    if not multi_label:
        return ids
    hot = np.zeros((len(column), classes), np.uint8)
    hot[rows, ids] = 1
    return hot


# Arrow's kernels and `to_numpy` could do this, but their first call imports pandas, which takes 0.3 s.


def _lengths_of(lists: Any) -> NDArray[np.int32]:
    """Lengths of the lists of an Arrow array, -1 for those that are null."""
    lengths: NDArray[np.int32] = np.diff(np.from_dlpack(lists.offsets))
    if lists.null_count:
        lengths[_first_null(lists)] = -1
    return lengths


def _elements_of(lists: Any) -> Any:
    """The concatenated elements of the lists of an Arrow array; no list may be null."""
    ends = np.from_dlpack(lists.offsets)
    return lists.values.slice(int(ends[0]), int(ends[-1] - ends[0]))


def _first_null(array: Any) -> int:
    return next(index for index, value in enumerate(array) if not value.is_valid)
