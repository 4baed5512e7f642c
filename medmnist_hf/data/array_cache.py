"""Decoded splits on disk: one folder each, written whole by one process and mapped into memory by all."""

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
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

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
    sync_folder,
)
from medmnist_hf.typed_json import Count, Name, Sha256, encode
from medmnist_hf.typed_json import decode as decode_json

LAYOUT: Final = 2
"""Of what lies in an entry, and of what its pixels and labels mean: part of every key."""

_IMAGES, _LABELS, _INFO = "images.npy", "labels.npy", "info.json"
_FILES: Final = (_IMAGES, _LABELS, _INFO)
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_UNFINISHED: Final = re.compile(r"\.([0-9a-f]{64})\.[0-9a-f]{8}\.tmp")
_LOCK: Final = ".{}.lock"
_MARGIN: Final = 1 << 20
"""What an entry may take beyond its pixels and labels, in bytes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spec:
    """What an entry must be.

    Attributes:
        key: 64 hex digits that stand for the content, `LAYOUT` included.
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
        split: Name of the split; empty where it is not known.
        size: Edge length in pixels or voxels.
        shape: Shape of the images.
        bytes: Bytes on disk.
        created: When it was written, ISO 8601 in UTC.
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
"""Gives the images in blocks and the labels; called when they are not in the cache."""


@dataclass(frozen=True, slots=True)
class _Info:
    """What an entry says of itself.

    Attributes:
        layout: `LAYOUT` of when it was written.
        spec: What it holds.
        files: Name -> bytes of the arrays.
        labels_sha256: SHA-256 of the file of labels, which is read whole anyway.
        created: When it was written, ISO 8601 in UTC.
    """

    layout: int
    spec: Spec
    files: dict[str, Count]
    labels_sha256: Sha256
    created: Name


class _Unfit(Exception):
    """An entry is there and is not what it must be."""


def fetch(spec: Spec, decode: Decode, cache_dir: str | Path | None = None) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Open an entry; where there is none, or none that fits, let one process write it while the others wait.

    Args:
        spec: What the entry must be.
        decode: Decodes what is to be kept.
        cache_dir: Folder of the cache; made when needed.

    Returns:
        The images, mapped from the file, and the labels, in memory. What is written to either is seen by this process
        alone and never by the file.

    Raises:
        MedMNISTError: The folder has no room or cannot be written to, and nothing is left of the entry then; or an
            entry that is there cannot be opened, for lack of memory or of file descriptors, and is kept.
    """
    root = cache_root(cache_dir)
    with contextlib.suppress(_Unfit):
        return _opened(root / spec.key, spec)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with sole_process(root / _LOCK.format(spec.key), f"decoding {spec}"):
            if (root / spec.key).exists():
                try:
                    return _opened(root / spec.key, spec)
                except _Unfit as error:
                    _log.warning("%s is not what it must be (%s): decoding %s again", root / spec.key, error, spec)
                    _discard(root / spec.key)
            _remove_unfinished(root, spec.key)
            if shutil.disk_usage(root).free < spec.bytes + _MARGIN:
                raise _no_room(root, spec, "too little space", cache_dir)
            return _write(root, spec, decode)
    except OSError as error:
        raise _no_room(root, spec, error.strerror or str(error), cache_dir) from None


def is_kept(spec: Spec, cache_dir: str | Path | None = None) -> bool:
    """Whether `fetch` finds an entry and has nothing to decode; raises a `MedMNISTError` if it cannot be opened."""
    with contextlib.suppress(_Unfit):
        _opened(cache_root(cache_dir) / spec.key, spec)
        return True
    return False


def cache_root(cache_dir: str | Path | None = None) -> Path:
    """Folder of the cache: the one named, or that below the home of the Hugging Face libraries."""
    if cache_dir is not None:
        return expand_user(cache_dir)
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "medmnist-hf" / "arrays"


def cache_info(cache_dir: str | Path | None = None, subset: str | None = None) -> list[CacheEntry]:
    """What is in the cache, by name, size and split.

    Args:
        cache_dir: Folder of the cache; None is the one below `HF_HOME`.
        subset: List only what bears this name, in any letter case; None lists all.

    Raises:
        CatalogError: `subset` is neither in the cache nor in the catalogue.
        MedMNISTError: The folder cannot be read.
    """
    entries = [entry for folder in _folders(cache_root(cache_dir)) if (entry := _entry_of(folder))]
    if subset is not None:
        entries = [entry for entry in entries if entry.name.lower() == subset.lower()]
        if not entries:
            catalog.subset(subset)
    return sorted(entries, key=lambda entry: (entry.name, entry.size, entry.split, entry.created))


def clear_cache(cache_dir: str | Path | None = None, subset: str | None = None) -> int:
    """Remove entries, and what killed writers left; arrays that are in use stay readable until they are let go.

    Args:
        cache_dir: Folder of the cache; None is the one below `HF_HOME`. Nothing else in it is touched.
        subset: Remove only what bears this name, in any letter case; None removes all, damaged entries too.

    Returns:
        Bytes freed.

    Raises:
        CatalogError: `subset` is neither in the cache nor in the catalogue.
        MedMNISTError: The folder cannot be read or changed.
    """
    root = cache_root(cache_dir)
    folders = _folders(root) if subset is None else [entry.path for entry in cache_info(cache_dir, subset)]
    try:
        return sum(map(_discard, folders)) + (_remove_unfinished(root) if root.is_dir() else 0)
    except OSError as error:
        raise MedMNISTError(f"cannot clear {root} ({error.strerror}): check its permissions") from None


def _opened(folder: Path, spec: Spec) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """The arrays of an entry, which is as it was written and what the spec says.

    Raises:
        _Unfit: It is something else, or not there.
        MedMNISTError: It cannot be opened, which says nothing of what it is.
    """
    try:
        info = _read_info(folder)
        if (info.layout, info.spec) != (LAYOUT, spec):
            raise _Unfit(f"{_INFO} describes something else")
        for name, size in info.files.items():
            if (folder / name).stat().st_size != size:
                raise _Unfit(f"{name} is not of {size} bytes")
        images = _mapped(folder / _IMAGES)
        content = read_document(folder / _LABELS, info.files[_LABELS])
        if hashlib.sha256(content).hexdigest() != info.labels_sha256:
            raise _Unfit(f"{_LABELS} is not as it was written")
        labels: NDArray[Any] = npy.read_array(io.BytesIO(content), allow_pickle=False)
    except (
        FileNotFoundError,
        NotADirectoryError,
        IsADirectoryError,
        UnfitFileError,
        EOFError,
        KeyError,
        ValueError,
    ) as error:
        raise _Unfit(first_line(error)) from None
    except (OSError, MemoryError) as error:
        raise MedMNISTError(
            f"cannot open {folder} ({first_line(error)}): {spec} is kept there, close other programs and try again, "
            "or pass cache=False"
        ) from None
    for array, dtype, shape in (
        (images, np.dtype(np.uint8), spec.shape),
        (labels, spec.label_dtype, spec.label_shape),
    ):
        if (array.dtype, array.shape) != (dtype, shape) or not array.flags.c_contiguous:
            raise _Unfit(f"it holds {array.dtype} {array.shape}, not {dtype} {shape}")
    return images, labels


def _mapped(path: Path) -> NDArray[np.uint8]:
    """An array of the file's pages, shared with all who read it; a page that is written to becomes the writer's own.

    Not read-only, since torch would warn of that, and a tensor over it that is written to would end the process.
    """
    try:
        return npy.open_memmap(path, mode="c")
    except OSError as error:
        # A system that sets memory aside for all that could be written has not enough of it.
        if error.errno != errno.ENOMEM:
            raise
        return npy.open_memmap(path, mode="r")


def _write(root: Path, spec: Spec, decode: Decode) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Write an entry; its arrays, opened before it bears its name, when nobody else can remove it."""
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
        with _synced(temporary / _INFO) as file:
            file.write((json.dumps(encode(info), indent=2) + "\n").encode())
        try:
            arrays = _opened(temporary, spec)
        except _Unfit as error:
            raise MedMNISTError(
                f"cannot keep {spec} in {root} ({error}): check the disk, or pass cache=False"
            ) from None
        temporary.rename(root / spec.key)
    except BaseException:
        _remove(temporary)
        raise
    sync_folder(root)
    return arrays


def _write_npy(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], blocks: Iterator[NDArray[Any]]) -> None:
    # Through the file and not through a mapping: a full disk is an error then, not the end of the process, and pages
    # that wait for the disk are not part of its memory.
    with _synced(path) as file:
        npy.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).data)


@contextlib.contextmanager
def _synced(path: Path) -> Iterator[BinaryIO]:
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _no_room(root: Path, spec: Spec, why: str, cache_dir: str | Path | None) -> MedMNISTError:
    # Commands read the arrays too: only who has named a folder can name another one.
    remedy = "set HF_HOME to" if cache_dir is None else "pass as cache_dir"
    with contextlib.suppress(OSError):
        why += f"; {shutil.disk_usage(root).free / 1e6:,.0f} MB are free"
    return MedMNISTError(
        f"cannot keep {spec} in {root}, which takes {spec.bytes / 1e6:,.1f} MB ({why}): "
        f"{remedy} a folder with room that can be written to"
    )


def _read_info(folder: Path) -> _Info:
    info: _Info = decode_json(parse_json(read_document(folder / _INFO)), _Info)
    return info


def _folders(root: Path) -> list[Path]:
    """The folders in the cache that bear a key for a name and hold nothing but files of an entry."""
    try:
        return [path for path in root.iterdir() if _KEY.fullmatch(path.name) and _is_ours(path)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise MedMNISTError(cannot_read(root, error, "check the path")) from None


def _is_ours(path: Path) -> bool:
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
    """Take an entry away in one step, then remove it; bytes freed."""
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return 0
    return _remove(aside)


def _remove(folder: Path) -> int:
    if folder.is_symlink():  # what it points to is not ours
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
    """Remove what writers left that live no more: they would hold their lock; `own` names the lock we hold."""
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
