"""Cache of decoded splits: one folder per split, written by one process and mapped into memory by all readers."""

import contextlib
import datetime
import errno
import hashlib
import io
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from medmnist_hf import catalog
from medmnist_hf.documents import parse_json
from medmnist_hf.errors import MedMNISTError, cannot_read, first_line
from medmnist_hf.files import (
    BusyError,
    UnfitFileError,
    expand_user,
    read_document,
    sha256_of,
    sole_process,
)
from medmnist_hf.typed_json import Count, Name, Sha256, encode
from medmnist_hf.typed_json import decode as decode_json

LAYOUT: Final = 2
"""Version of an entry's files and of the meaning of its pixels and labels; part of every key."""

VARIABLE: Final = "MEDMNIST_ARRAYS"
"""Environment variable with the folder of the cache, such as one on a disk of each machine of a cluster."""

_IMAGES, _LABELS, _INFO = "images.npy", "labels.npy", "info.json"
_FILES: Final = (_IMAGES, _LABELS, _INFO)
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_UNFINISHED: Final = re.compile(r"\.([0-9a-f]{64})\.[0-9a-f]{8}\.tmp")
_LOCK: Final = ".{}.lock"
_MARGIN: Final = 1 << 20
"""Bytes allowed for an entry in addition to its pixels and labels."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spec:
    """Expected content of an entry.

    Attributes:
        key: 64 hex digits that identify the content, `LAYOUT` included.
        name: Name of the data set, e.g. ``pathmnist``.
        split: Name of the split; may be empty.
        shape: Shape of the images, uint8: ``(N, H, W)``, ``(N, H, W, 3)`` or ``(N, D, H, W)``.
        label_shape: Shape of the labels: ``(N,)`` or ``(N, L)``.
    """

    key: str
    name: str
    split: str
    shape: tuple[int, ...]
    label_shape: tuple[int, ...]

    @property
    def label_dtype(self) -> np.dtype[Any]:
        """int64 for class ids, float32 for multi-hot rows."""
        return np.dtype(np.int64 if len(self.label_shape) == 1 else np.float32)

    @property
    def bytes(self) -> int:
        """Bytes of pixels and labels."""
        return prod(self.shape) + prod(self.label_shape) * self.label_dtype.itemsize

    @property
    def size(self) -> int:
        """Edge length in pixels or voxels."""
        return self.shape[1]

    def __str__(self) -> str:
        return f"{self.name} {self.split} at size {self.size}"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One split in the cache.

    Attributes:
        name: Name of the data set.
        split: Name of the split; empty if unknown.
        size: Edge length in pixels or voxels.
        shape: Shape of the images.
        bytes: Bytes on disk.
        created: Time of writing, ISO 8601 in UTC.
        path: Its folder.
    """

    name: str
    split: str
    size: int
    shape: tuple[int, ...]
    bytes: int
    created: str
    path: Path


Decode = Callable[[], tuple[Iterator[NDArray[np.uint8]], NDArray[Any]]]
"""Returns the images in blocks, and the labels; called if they are not in the cache."""


@dataclass(frozen=True, slots=True)
class _Info:
    """Content of an entry's ``info.json``.

    Attributes:
        layout: `LAYOUT` at the time of writing.
        spec: Content of the entry.
        files: File name -> size in bytes, of the arrays.
        labels_sha256: SHA-256 of the labels file, which is read completely anyway.
        created: Time of writing, ISO 8601 in UTC.
    """

    layout: int
    spec: Spec
    files: dict[str, Count]
    labels_sha256: Sha256
    created: Name


class _Unfit(Exception):
    """An entry is missing, or does not match its spec."""


_FAULTS = (FileNotFoundError, NotADirectoryError, IsADirectoryError, UnfitFileError, EOFError, KeyError, ValueError)


def fetch(spec: Spec, decode: Decode, cache_dir: str | Path | None = None) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Open an entry. If it is missing or unfit, one process writes it while the others wait.

    Args:
        spec: Expected content of the entry.
        decode: Decodes the split.
        cache_dir: Folder of the cache; created if needed.

    Returns:
        The images, mapped from the file, and the labels, in memory. Writing to either changes this process's copy,
        never the file.

    Raises:
        MedMNISTError: The folder is full or not writable, in which case nothing is left of the entry; or an existing
            entry cannot be opened, for lack of memory or of file descriptors, and is kept.
    """
    root = cache_root(cache_dir)
    with contextlib.suppress(_Unfit):
        return _open_entry(root / spec.key, spec)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with sole_process(root / _LOCK.format(spec.key), f"decoding {spec}"):
            if (root / spec.key).exists():
                try:
                    return _open_entry(root / spec.key, spec)
                except _Unfit as error:
                    _log.warning("the cache entry %s is unfit (%s): decoding %s again", root / spec.key, error, spec)
                    _discard(root / spec.key)
            _remove_unfinished(root, spec.key)
            if shutil.disk_usage(root).free < spec.bytes + _MARGIN:
                raise _no_room(root, spec, "too little space", cache_dir)
            return _write(root, spec, decode)
    except OSError as error:
        raise _no_room(root, spec, error.strerror or str(error), cache_dir) from None


def is_kept(spec: Spec, cache_dir: str | Path | None = None) -> bool:
    """Whether `fetch` would find the entry; raises a `MedMNISTError` if it exists and cannot be opened."""
    with contextlib.suppress(_Unfit):
        _open_entry(cache_root(cache_dir) / spec.key, spec)
        return True
    return False


def cache_root(cache_dir: str | Path | None = None) -> Path:
    """Folder of the cache: `cache_dir`, that of ``MEDMNIST_ARRAYS``, or ``medmnist-hf/arrays`` in ``HF_HOME``."""
    if cache_dir is not None:
        return expand_user(cache_dir)
    if folder := os.environ.get(VARIABLE):
        return expand_user(folder)
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "medmnist-hf" / "arrays"


def cache_info(cache_dir: str | Path | None = None, subset: str | None = None) -> list[CacheEntry]:
    """List the entries of the cache, ordered by name, size and split.

    Args:
        cache_dir: Folder of the cache, see `cache_root`.
        subset: Only list entries of this name, in any letter case; all if None.

    Raises:
        CatalogError: `subset` is neither in the cache nor in the catalog.
        MedMNISTError: The folder cannot be read.
    """
    entries = [entry for folder in _folders(cache_root(cache_dir)) if (entry := _entry_of(folder))]
    if subset is not None:
        entries = [entry for entry in entries if entry.name.lower() == subset.lower()]
        if not entries:
            catalog.subset(subset)
    return sorted(entries, key=lambda entry: (entry.name, entry.size, entry.split, entry.created))


def clear_cache(cache_dir: str | Path | None = None, subset: str | None = None) -> int:
    """Remove entries, and what killed writers left behind. Arrays in use stay readable until they are released.

    Args:
        cache_dir: Folder of the cache, see `cache_root`. Other files in it are not touched.
        subset: Only remove entries of this name, in any letter case; if None all, damaged entries included.

    Returns:
        Bytes freed.

    Raises:
        CatalogError: `subset` is neither in the cache nor in the catalog.
        MedMNISTError: The folder cannot be read or changed.
    """
    root = cache_root(cache_dir)
    folders = _folders(root) if subset is None else [entry.path for entry in cache_info(cache_dir, subset)]
    try:
        return sum(map(_discard, folders)) + (_remove_unfinished(root) if root.is_dir() else 0)
    except OSError as error:
        raise MedMNISTError(f"cannot clear {root} ({error.strerror}): check its permissions") from None


def _open_entry(folder: Path, spec: Spec) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Open the arrays of an entry, after checking that it is undamaged and matches the spec.

    Raises:
        _Unfit: It is missing, damaged or does not match.
        MedMNISTError: It cannot be opened, so its content is unknown.
    """
    try:
        info = _read_info(folder)
        if (info.layout, info.spec) != (LAYOUT, spec):
            raise _Unfit(f"{_INFO} describes other content")
        for name, size in info.files.items():
            if (folder / name).stat().st_size != size:
                raise _Unfit(f"{name} does not have {size} bytes")
        images = _mapped(folder / _IMAGES)
        content = read_document(folder / _LABELS, info.files[_LABELS])
        if hashlib.sha256(content).hexdigest() != info.labels_sha256:
            raise _Unfit(f"{_LABELS} was changed")
        labels: NDArray[Any] = npy.read_array(io.BytesIO(content), allow_pickle=False)
    except _FAULTS as error:
        raise _Unfit(first_line(error)) from None
    except (OSError, MemoryError) as error:
        raise MedMNISTError(
            f"cannot open {folder} ({first_line(error)}): {spec} is cached there, close other programs and try "
            "again, or pass cache=False"
        ) from None
    expected = [(images, np.dtype(np.uint8), spec.shape), (labels, spec.label_dtype, spec.label_shape)]
    for array, dtype, shape in expected:
        if (array.dtype, array.shape) != (dtype, shape) or not array.flags.c_contiguous:
            raise _Unfit(f"it holds {array.dtype} {array.shape}, not {dtype} {shape}")
    return images, labels


def _mapped(path: Path) -> NDArray[np.uint8]:
    """Map an array copy-on-write: readers share the pages, and a write copies the page for the writer.

    A read-only mapping would make torch warn, and writing to a tensor over it would crash the process.
    """
    try:
        return npy.open_memmap(path, mode="c")
    except OSError as error:
        # Without memory overcommit, a copy-on-write mapping reserves memory for every page.
        if error.errno != errno.ENOMEM:
            raise
        return npy.open_memmap(path, mode="r")


def _write(root: Path, spec: Spec, decode: Decode) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Write an entry and return its arrays, opened before the final rename, while no other process can remove it."""
    temporary = root / f".{spec.key}.{secrets.token_hex(4)}.tmp"
    temporary.mkdir()
    try:
        images, labels = decode()
        _write_npy(temporary / _IMAGES, np.dtype(np.uint8), spec.shape, images)
        _write_npy(temporary / _LABELS, spec.label_dtype, spec.label_shape, iter([labels]))
        info = _Info(
            layout=LAYOUT,
            spec=spec,
            files={name: (temporary / name).stat().st_size for name in (_IMAGES, _LABELS)},
            labels_sha256=sha256_of(temporary / _LABELS),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        (temporary / _INFO).write_text(json.dumps(encode(info), indent=2) + "\n", "utf-8")
        with ThreadPoolExecutor(len(_FILES)) as disk:
            list(disk.map(_sync, (temporary / name for name in _FILES)))
        try:
            arrays = _open_entry(temporary, spec)
        except _Unfit as error:
            raise MedMNISTError(
                f"cannot cache {spec} in {root} ({error}): check the disk, or pass cache=False"
            ) from None
        temporary.rename(root / spec.key)
    except BaseException:
        _remove(temporary)
        raise
    # The folder is not synced: if a power failure undoes the rename, the split is decoded again.
    if isinstance(arrays[0], np.memmap):
        arrays[0].filename = str(root / spec.key / _IMAGES)  # it was opened under its temporary name
    return arrays


def _write_npy(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], blocks: Iterator[NDArray[Any]]) -> None:
    # Write through the file, not a mapping: a full disk then raises an error instead of killing the process, and pages
    # waiting for the disk do not count as its memory. The disk works while the next blocks are decoded.
    with path.open("xb") as file, ThreadPoolExecutor(1) as disk:
        npy.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
        syncs: list[Future[None]] = []
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).data)
            if not syncs or syncs[-1].done():
                syncs.append(disk.submit(os.fsync, file.fileno()))
        for sync in syncs:
            sync.result()


def _sync(path: Path) -> None:
    """Write what the system still holds of a file to the disk, so that a rename never comes before the content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _no_room(root: Path, spec: Spec, why: str, cache_dir: str | Path | None) -> MedMNISTError:
    # Commands have no cache_dir option, so only suggest it to callers that passed it.
    remedy = f"set {VARIABLE} to" if cache_dir is None else "pass as cache_dir"
    with contextlib.suppress(OSError):
        why += f"; {shutil.disk_usage(root).free / 1e6:,.0f} MB are free"
    return MedMNISTError(
        f"cannot cache {spec} in {root}, which takes {spec.bytes / 1e6:,.1f} MB ({why}): "
        f"{remedy} a writable folder with enough space"
    )


def _read_info(folder: Path) -> _Info:
    info: _Info = decode_json(parse_json(read_document(folder / _INFO)), _Info)
    return info


def _folders(root: Path) -> list[Path]:
    """The folders in the cache that are named by a key and hold only files of an entry."""
    try:
        return [path for path in root.iterdir() if _KEY.fullmatch(path.name) and _is_entry(path)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise MedMNISTError(cannot_read(root, error, "check the path")) from None


def _is_entry(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and {each.name for each in path.iterdir()} <= set(_FILES)


def _entry_of(folder: Path) -> CacheEntry | None:
    try:
        info = _read_info(folder)
        size = sum((folder / name).stat().st_size for name in _FILES)
        spec = info.spec
        return CacheEntry(spec.name, spec.split, spec.size, spec.shape, size, info.created, folder)
    except (OSError, ValueError, IndexError):
        return None


def _discard(folder: Path) -> int:
    """Rename an entry out of the way atomically, then remove it; return the bytes freed."""
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return 0
    return _remove(aside)


def _remove(folder: Path) -> int:
    if folder.is_symlink():  # its target does not belong to the cache
        folder.unlink()
        return 0
    freed = 0
    for name in _FILES:
        with contextlib.suppress(FileNotFoundError):
            freed += (folder / name).lstat().st_size
            (folder / name).unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
    return freed


def _remove_unfinished(root: Path, own: str = "") -> int:
    """Remove the folders of dead writers (a live one holds its lock); `own` is the key whose lock we hold."""
    freed = 0
    for path in list(root.iterdir()):
        match = _UNFINISHED.fullmatch(path.name)
        if not match:
            continue
        if match[1] == own:
            freed += _remove(path)
            continue
        with contextlib.suppress(BusyError), sole_process(root / _LOCK.format(match[1]), "writing it", wait=False):
            freed += _remove(path)
    return freed
