"""Members of an NPZ file as streams, whose sizes are checked before any memory is allocated for them.

``numpy.load`` inflates a whole member and trusts its header; this reader does neither. It only accepts plain ``.npy``
arrays: a header that asks for pickle is refused, not executed.
"""

import ast
import struct
import threading
import zipfile
from collections import Counter
from collections.abc import Collection
from contextlib import closing
from math import prod
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np
from zlib_ng import zlib_ng

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import NPZ_SPLITS, Subset, Task
from medmnist_hf.errors import ReadError, first_line
from medmnist_hf.files import open_regular

_PARSER: Final = threading.Lock()
"""Held while a header is parsed: before Python 3.11.8 and 3.12.2, threads that parse got a SystemError (gh-106905)."""

_CHUNK: Final = 256 * 1024
_LOCAL_HEADER: Final = struct.Struct("<4s5H3L2H")
_ENCRYPTED: Final = 0x1
_MAX_HEADER: Final = 64 * 1024
_DEFLATE_RATIO: Final = 1032
"""Largest compression ratio of deflate (RFC 1951: 258 bytes for two bits)."""

_MAX_NDIM: Final = 4
_MAX_EDGE: Final = 1 << 40
"""Longer than any array that fits on a disk, yet small enough to multiply and to print."""

_LABEL_ROWS: Final = 1 << 16
"""Number of label rows that are read at a time."""

# The stubs of zlib-ng declare its exception class as an instance.
_INFLATE_ERROR = cast(type[Exception], zlib_ng.error)


class MemberStream:
    """The inflated bytes of one zip member, in order; `finish` checks its CRC."""

    def __init__(self, path: Path, info: zipfile.ZipInfo) -> None:
        self._where = f"{path}: member {info.filename}"
        self._info = info
        self._left = info.compress_size
        self._pending = b""
        self._crc = 0
        try:
            self._file: BinaryIO = open_regular(path)
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
        except (OSError, ValueError, OverflowError):  # the directory gives an offset outside the file
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
        """Read exactly `count` bytes; raises a `ReadError` if the member ends earlier."""
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
        """Check that nothing follows and that the CRC matches the zip directory."""
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
        """Close the file; the stream can no longer be read."""
        self._file.close()

    def _damaged(self, why: str) -> ReadError:
        return ReadError(f"{self._where} is damaged ({why}): fetch the file again")


def _read_header(stream: MemberStream, where: str) -> tuple[np.dtype[np.generic], tuple[int, ...], int]:
    """Dtype, shape and length in bytes of a ``.npy`` header, format 1, 2 or 3 (numpy NEP 1)."""
    magic = stream.read(8)
    if magic[:6] != b"\x93NUMPY":
        raise ReadError(f"{where} is not a .npy array: fetch the file again")
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
    except (
        ValueError,
        SyntaxError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        MemoryError,
    ):
        raise ReadError(f"{where} has an unreadable .npy header: fetch the file again") from None
    if len(shape) > _MAX_NDIM:
        raise ReadError(f"{where} has {len(shape)} dimensions, more than {_MAX_NDIM}: is this a MedMNIST file?")
    if dtype.hasobject:
        raise ReadError(f"{where} is pickled, which is never loaded: fetch the official file, it holds plain integers")
    if fortran and len(shape) > 1:
        raise ReadError(f"{where} is in Fortran order: save it again with numpy.ascontiguousarray")
    return dtype, shape, 8 + width + length


def _parse_header(text: bytes) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    with _PARSER:
        table = ast.literal_eval(text.decode("utf-8").strip())
    if set(table) != {"descr", "fortran_order", "shape"}:
        raise ValueError
    shape = table["shape"]
    if not isinstance(shape, tuple) or not all(type(edge) is int and 0 <= edge < _MAX_EDGE for edge in shape):
        raise ValueError
    if not isinstance(table["fortran_order"], bool):
        raise TypeError
    return shape, table["fortran_order"], np.lib.format.descr_to_dtype(table["descr"])


class NpzMembers:
    """Some members of an NPZ file, looked up once in its zip directory; each stream has its own file handle.

    Attributes:
        path: The NPZ file.
    """

    def __init__(self, path: Path, names: Collection[str]) -> None:
        """Read the zip directory.

        Args:
            path: The NPZ file.
            names: Names of the members to read, with their suffix ``.npy``.

        Raises:
            ReadError: It is not a complete NPZ file, or a member is missing, occurs twice, or has an impossible
                size in the directory.
        """
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
            archive_bytes = path.stat().st_size
        except OSError as error:
            raise ReadError(f"{path} cannot be opened ({first_line(error)}): check the path") from None
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
            raise ReadError(f"{path} is not a complete NPZ file ({first_line(error)}): fetch it again") from None
        counts = Counter(info.filename for info in infos)
        self._infos = {info.filename: info for info in infos if info.filename in names}
        for name in names:
            if not counts[name]:
                raise ReadError(f"{self.where(name)} is missing: is this a MedMNIST file?")
            if counts[name] > 1:
                raise ReadError(f"{self.where(name)} occurs {counts[name]} times: fetch the file again")
            self._check_entry(self._infos[name], archive_bytes)

    def where(self, name: str) -> str:
        """Name of a member in errors."""
        return f"{self.path}: member {name}"

    def _check_entry(self, info: zipfile.ZipInfo, archive_bytes: int) -> None:
        where, method = self.where(info.filename), info.compress_type
        if info.flag_bits & _ENCRYPTED:
            raise ReadError(f"{where} is encrypted: official files are not, fetch the file again")
        if method not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise ReadError(f"{where} uses zip method {method}: save it with numpy.savez_compressed")
        ratio = _DEFLATE_RATIO if method == zipfile.ZIP_DEFLATED else 1
        if info.compress_size > archive_bytes or info.file_size > ratio * info.compress_size:
            raise ReadError(f"{where} claims {info.file_size} bytes, more than it can hold: fetch the file again")

    def open(self, name: str) -> tuple[MemberStream, np.dtype[np.generic], tuple[int, ...]]:
        """Open a member's stream at its first value; also return dtype and shape.

        Raises:
            ReadError: It is not a plain array, or its length differs from the directory.
        """
        info = self._infos[name]
        stream = MemberStream(self.path, info)
        try:
            dtype, shape, offset = _read_header(stream, self.where(name))
            expected = offset + prod(shape) * dtype.itemsize
            if info.file_size != expected:
                raise ReadError(
                    f"{self.where(name)} holds {info.file_size} bytes where its header asks for {expected}: "
                    "fetch the file again"
                )
        except BaseException:
            stream.close()
            raise
        return stream, dtype, shape

    def labels(self, split: str, subset: Subset, rows: int | None = None) -> UInt8Array:
        """The labels of a split, read in blocks and checked against the subset.

        Args:
            split: ``train``, ``validation`` or ``test``; its member is one of `names`.
            subset: The subset that the file claims to hold.
            rows: Number of rows of the split; if None, that of the member.

        Returns:
            uint8 of shape (N, 1) with class ids, or (N, L) with 0 and 1 for the multi-label task, as in the official
            file, whatever integer type this file uses.

        Raises:
            ReadError: The labels are not integers, have another shape or range, or the member is damaged.
        """
        name = f"{NPZ_SPLITS[split]}_labels.npy"
        where, multi_label = self.where(name), subset.task is Task.MULTI_LABEL
        width, top = (len(subset.labels), 1) if multi_label else (1, len(subset.labels) - 1)
        stream, dtype, shape = self.open(name)
        with closing(stream):
            if dtype.kind not in "ui":
                raise ReadError(f"{where} is {dtype_name(dtype)}, not an integer type: is this a MedMNIST file?")
            length = rows if rows is not None or not shape else shape[0]
            if not length or shape not in {(length, width), (length,) if width == 1 else (length, width)}:
                images = f"{rows} images need ({rows}, {width})" if rows is not None else f"(N, {width}) is needed"
                raise ReadError(f"{where} has shape {shape} where {images}: fetch the file again")
            labels = _allocate((length, width), where)
            # Raised after the CRC check, which distinguishes a damaged file from another subset.
            first_bad: tuple[int, int] | None = None
            for start in range(0, length, _LABEL_ROWS):
                count = min(_LABEL_ROWS, length - start)
                block = np.frombuffer(stream.read(count * width * dtype.itemsize), dtype)
                bad = np.flatnonzero((block < 0) | (block > top))
                if bad.size and first_bad is None:
                    first_bad = int(block[bad[0]]), start + int(bad[0]) // width
                labels[start : start + count] = block.reshape(count, width)
            stream.finish()
        if first_bad is not None:
            raise ReadError(
                f"{where} has the label {first_bad[0]} in row {first_bad[1]}, but {subset.flag} has 0 to {top}: "
                "is it another subset?"
            )
        return labels


def _allocate(shape: tuple[int, int], where: str) -> UInt8Array:
    try:
        return np.empty(shape, np.uint8)
    except MemoryError:
        raise ReadError(f"{where} takes {prod(shape) / 1e6:,.0f} MB of memory, more than is free: free some") from None


def dtype_name(dtype: np.dtype[np.generic]) -> str:
    """Name of a dtype in errors; field names are left out, since the file's author chose them, at any length."""
    return dtype.name if dtype.fields is None else "a structured type"
