"""Rows of an official NPZ file as a stream: members found by name, checked before use, never a whole split in memory.

``numpy.load`` inflates a whole member (13.5 GB for the train split of PathMNIST at 224); this reader holds one block.
Only the plain ``.npy`` layout is understood: a header that asks for pickle is refused, not executed.
"""

import ast
import struct
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np
from zlib_ng import zlib_ng

from medmnist_hf.array_types import Int64Array, UInt8Array
from medmnist_hf.catalog import NPZ_SPLITS, SplitCounts, Subset, Task
from medmnist_hf.errors import ReadError, first_line

_CHUNK: Final = 256 * 1024
_LOCAL_HEADER: Final = struct.Struct("<4s5H3L2H")
_ENCRYPTED: Final = 0x1
_MAX_HEADER: Final = 64 * 1024
_DEFLATE_RATIO: Final = 1032
"""Bytes that one deflated byte can stand for at most (RFC 1951: 258 bytes for two bits)."""

# The stubs of zlib-ng declare its exception class as an instance.
_INFLATE_ERROR = cast(type[Exception], zlib_ng.error)


class _MemberStream:
    """The inflated bytes of one zip member, in order, with its CRC checked at the end."""

    def __init__(self, path: Path, info: zipfile.ZipInfo) -> None:
        self._where = f"{path}: member {info.filename}"
        self._info = info
        self._left = info.compress_size
        self._pending = b""
        self._crc = 0
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise ReadError(f"{path} cannot be opened ({first_line(error)}): check the path") from None
        try:
            self._seek()
        except BaseException:
            self._file.close()
            raise
        # Negative window bits: a zip member is a raw deflate stream.
        self._inflate = zlib_ng.decompressobj(-15) if info.compress_type == zipfile.ZIP_DEFLATED else None

    def _seek(self) -> None:
        try:
            self._file.seek(self._info.header_offset)
            header = self._file.read(_LOCAL_HEADER.size)
        except (OSError, ValueError, OverflowError):  # the directory places it before or far beyond the file
            header = b""
        if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
            raise ReadError(f"{self._where} has no valid header: the file is damaged, fetch it again")
        name_length, extra_length = _LOCAL_HEADER.unpack(header)[-2:]
        self._file.seek(name_length + extra_length, 1)

    def _next(self, limit: int) -> bytes:
        if self._inflate is None:
            data = self._file.read(min(limit, self._left))
            self._left -= len(data)
            return data
        while not self._inflate.eof:
            raw = self._pending or self._file.read(min(_CHUNK, self._left))
            if not self._pending:
                self._left -= len(raw)
            data = self._inflate.decompress(raw, limit)
            self._pending = self._inflate.unconsumed_tail
            if data:
                return bytes(data)
            if not raw:
                break
        return b""

    def read(self, count: int) -> bytearray:
        """Exactly `count` bytes; raises `ReadError` if the member ends before."""
        buffer = bytearray(count)
        view, filled = memoryview(buffer), 0
        while filled < count:
            try:
                data = self._next(min(count - filled, 1 << 24))
            except _INFLATE_ERROR as error:
                raise self._damaged(str(error)) from None
            if not data:
                raise ReadError(f"{self._where} ends {count - filled} bytes too early: fetch the file again")
            view[filled : filled + len(data)] = data
            filled += len(data)
        self._crc = zlib_ng.crc32(buffer, self._crc)
        return buffer

    def finish(self) -> None:
        """Check that nothing follows and that the CRC is the one the zip directory states."""
        try:
            surplus = self._next(1)
        except _INFLATE_ERROR as error:
            raise self._damaged(str(error)) from None
        if surplus:
            raise ReadError(f"{self._where} is longer than its array: fetch the file again")
        if self._crc != self._info.CRC:
            raise ReadError(
                f"{self._where} fails its CRC ({self._crc:08x}, not {self._info.CRC:08x}): fetch the file again"
            )

    def close(self) -> None:
        self._file.close()

    def _damaged(self, why: str) -> ReadError:
        return ReadError(f"{self._where} is damaged ({why}): fetch the file again")


def _read_header(stream: _MemberStream, where: str) -> tuple[np.dtype[np.generic], tuple[int, ...], int]:
    """Dtype, shape and length in bytes of a ``.npy`` header, format 1, 2 or 3 (numpy NEP 1)."""
    magic = stream.read(8)
    if magic[:6] != b"\x93NUMPY":
        raise ReadError(f"{where} is no .npy array: fetch the file again")
    version = (magic[6], magic[7])
    if version not in {(1, 0), (2, 0), (3, 0)}:
        raise ReadError(f"{where} has the unknown .npy format {version[0]}.{version[1]}: save it with numpy.savez")
    width = 2 if version == (1, 0) else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > _MAX_HEADER:
        raise ReadError(f"{where} claims a header of {length} bytes: fetch the file again")
    text = bytes(stream.read(length))
    try:
        shape, fortran, dtype = _parse_header(text)
    except (ValueError, SyntaxError, TypeError, LookupError, AttributeError, RecursionError, MemoryError):
        raise ReadError(f"{where} has an unreadable .npy header: fetch the file again") from None
    if dtype.hasobject:
        raise ReadError(f"{where} is pickled, which is never loaded: fetch the official file, it holds plain integers")
    if fortran and len(shape) > 1:
        raise ReadError(f"{where} is in Fortran order: save it again with numpy.ascontiguousarray")
    return dtype, shape, 8 + width + length


def _parse_header(text: bytes) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    table = ast.literal_eval(text.decode("utf-8").strip())
    if set(table) != {"descr", "fortran_order", "shape"}:
        raise ValueError
    shape = table["shape"]
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError
    if not isinstance(table["fortran_order"], bool):
        raise TypeError
    return shape, table["fortran_order"], np.lib.format.descr_to_dtype(table["descr"])


class NpzReader:
    """The six arrays of one official NPZ file, checked against the catalogue when it is opened.

    Opening reads the zip directory, the array headers and the labels; pixels are read by `images` alone.
    Several splits may be streamed at once: each stream has a file handle of its own.

    Args:
        path: The NPZ file.
        subset: What it claims to hold.
        size: In which size.
        counts: Rows that each split must have; None takes what the file has.

    Raises:
        ReadError: The file is damaged, or is not this subset in this size; the message names file and member.
    """

    def __init__(self, path: Path, subset: Subset, size: int, counts: SplitCounts | None) -> None:
        self.path = path
        self._subset = subset
        self._image_shape = subset.file(size).image_shape
        self._members = self._directory()
        self._labels: dict[str, Int64Array] = {}
        for split in NPZ_SPLITS:
            rows = self._check_images(split, counts)
            self._labels[split] = self._read_labels(split, rows)

    def _where(self, member: str) -> str:
        return f"{self.path}: member {member}"

    def _directory(self) -> dict[str, zipfile.ZipInfo]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                infos = archive.infolist()
            archive_bytes = self.path.stat().st_size
        except OSError as error:
            raise ReadError(f"{self.path} cannot be opened ({first_line(error)}): check the path") from None
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
            raise ReadError(f"{self.path} is no complete NPZ file ({error}): fetch it again") from None
        names = Counter(info.filename for info in infos)
        members = {info.filename: info for info in infos}
        for prefix in NPZ_SPLITS.values():
            for name in (f"{prefix}_images.npy", f"{prefix}_labels.npy"):
                if not names[name]:
                    raise ReadError(f"{self._where(name)} is missing: is this a MedMNIST file?")
                if names[name] > 1:
                    raise ReadError(f"{self._where(name)} is there {names[name]} times: fetch the file again")
                self._check_entry(members[name], archive_bytes)
        return members

    def _check_entry(self, info: zipfile.ZipInfo, archive_bytes: int) -> None:
        where, method = self._where(info.filename), info.compress_type
        if info.flag_bits & _ENCRYPTED:
            raise ReadError(f"{where} is encrypted: official files are not, fetch the file again")
        if method not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise ReadError(f"{where} uses zip method {method}: save it with numpy.savez_compressed")
        ratio = _DEFLATE_RATIO if method == zipfile.ZIP_DEFLATED else 1
        if info.compress_size > archive_bytes or info.file_size > ratio * info.compress_size:
            raise ReadError(f"{where} claims {info.file_size} bytes, more than it can hold: fetch the file again")

    def _open(self, name: str) -> tuple[_MemberStream, np.dtype[np.generic], tuple[int, ...]]:
        """A member's stream standing at its first value, with dtype and shape; its length is checked."""
        info = self._members[name]
        stream = _MemberStream(self.path, info)
        try:
            dtype, shape, offset = _read_header(stream, self._where(name))
            expected = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
            if info.file_size != expected:
                raise ReadError(
                    f"{self._where(name)} holds {info.file_size} bytes where its header asks for {expected}: "
                    "fetch the file again"
                )
        except BaseException:
            stream.close()
            raise
        return stream, dtype, shape

    def _check_images(self, split: str, counts: SplitCounts | None) -> int:
        name = f"{NPZ_SPLITS[split]}_images.npy"
        stream, dtype, shape = self._open(name)
        stream.close()
        if dtype != np.uint8:
            raise ReadError(f"{self._where(name)} is {dtype}, not uint8: is this a MedMNIST file?")
        if shape[1:] != self._image_shape or not shape:
            row = "x".join(map(str, self._image_shape))
            raise ReadError(
                f"{self._where(name)} has shape {shape}, but {self._subset.flag} at size {self._image_shape[0]} "
                f"has rows of {row}: is it another subset or size?"
            )
        if not shape[0]:
            raise ReadError(f"{self._where(name)} has no rows: fetch the file again")
        if counts is not None and shape[0] != counts[split]:
            raise ReadError(
                f"{self._where(name)} has {shape[0]} rows where the catalogue has {counts[split]}: "
                "fetch the official file, or pass --allow-unverified to take it as it is"
            )
        return shape[0]

    def _read_labels(self, split: str, rows: int) -> Int64Array:
        name = f"{NPZ_SPLITS[split]}_labels.npy"
        where = self._where(name)
        stream, dtype, shape = self._open(name)
        with closing(stream):
            multi_label = self._subset.task is Task.MULTI_LABEL
            width = len(self._subset.labels) if multi_label else 1
            if dtype.kind not in "ui":
                raise ReadError(f"{where} is {dtype}, not an integer type: is this a MedMNIST file?")
            if shape not in {(rows, width), (rows,) if width == 1 else (rows, width)}:
                raise ReadError(
                    f"{where} has shape {shape} where {rows} images need ({rows}, {width}): fetch the file again"
                )
            raw = np.frombuffer(stream.read(rows * width * dtype.itemsize), dtype)
            stream.finish()
        top = 1 if multi_label else len(self._subset.labels) - 1
        bad = np.flatnonzero((raw < 0) | (raw > top))
        if bad.size:
            raise ReadError(
                f"{where} has the label {raw[bad[0]]} in row {bad[0] // width}, but {self._subset.flag} has "
                f"0 to {top}: is it another subset?"
            )
        labels = raw.astype(np.int64).reshape(rows, width)
        return labels if multi_label else labels[:, 0]

    def rows(self, split: str) -> int:
        """Number of rows of a split."""
        return len(self._labels[split])

    def labels(self, split: str) -> Int64Array:
        """Labels of a split: class ids of shape ``(N,)``, or multi-hot ``(N, L)`` for the multi-label task."""
        return self._labels[split]

    def images(self, split: str, block_rows: Iterable[int]) -> Iterator[UInt8Array]:
        """Stream the pixels of a split in row order.

        Args:
            split: ``train``, ``validation`` or ``test``.
            block_rows: How many rows each yielded block holds. Where they add up to all rows of the split, the
                member's end and CRC are checked too, before the last block is yielded.

        Yields:
            uint8 arrays of shape ``(n, *image_shape)``, each owning its memory.

        Raises:
            ReadError: The member is truncated, damaged, or fails its CRC.
        """
        stream, _, _ = self._open(f"{NPZ_SPLITS[split]}_images.npy")
        left = self.rows(split)
        row_bytes = int(np.prod(self._image_shape))
        with closing(stream):
            for rows in block_rows:
                left -= rows
                block = np.frombuffer(stream.read(rows * row_bytes), np.uint8).reshape(rows, *self._image_shape)
                if not left:
                    stream.finish()
                yield block
