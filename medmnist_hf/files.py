"""Safe file access: read only regular files of limited size, write atomically, hash, and lock."""

import contextlib
import errno
import hashlib
import logging
import os
import random
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from medmnist_hf.errors import MedMNISTError, SourceError, first_line

DOCUMENT_BYTES: Final = 16 << 20
"""Largest document that is read into memory, in bytes; the manifest of a build with 60,000 shards has 13 MB."""

_NO_LOCKS: Final = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
"""Error numbers with which a file system without locks, such as some network disks, refuses one."""

_log = logging.getLogger(__name__)


class UnfitFileError(OSError):
    """A path does not name a regular file, or the file exceeds the limit for its kind, so reading might never end."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(why)
        self.filename, self.strerror = str(path), why

    def __str__(self) -> str:
        return str(self.strerror)


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading.

    Raises:
        UnfitFileError: The path is a folder, a FIFO, a socket or a device.
        OSError: The file cannot be opened.
    """
    # Without O_NONBLOCK, opening a FIFO waits for a writer. For a regular file the flag has no effect.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnfitFileError(path, _NOT_REGULAR)
    return os.fdopen(descriptor, "rb")


def regular_size(path: Path) -> int:
    """Return the size of a regular file in bytes; errors as in `open_regular`."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnfitFileError(path, _NOT_REGULAR)
    return status.st_size


def read_document(path: Path, limit: int = DOCUMENT_BYTES) -> bytes:
    """Return the content of a small file that may come from anywhere.

    Args:
        path: The file.
        limit: Largest size accepted, in bytes.

    Raises:
        UnfitFileError: The file is not regular, or larger than the limit.
        OSError: The file cannot be read.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise UnfitFileError(path, f"it has more than {limit:,} bytes")
    return content


_NOT_REGULAR: Final = "it is not a regular file"


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a file in one step: even if the process is killed, readers see the old content or the new.

    Args:
        path: The file to write; its folder must exist.
        content: Bytes, or text that is encoded as UTF-8; line ends are kept.

    Raises:
        OSError: The file cannot be written; the error holds the path. No new file is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the first error says more
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # the error has the temporary name, or none if a write failed
        raise
    sync_folder(path.parent)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a regular file as 64 hex digits; errors as in `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make renames within a folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; the rename itself has succeeded.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)


class BusyError(MedMNISTError):
    """Another process holds a lock."""


@contextlib.contextmanager
def sole_process(lock_path: Path, doing: str, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file; if another process holds it, log that and wait. A lock ends with its process.

    Args:
        lock_path: The lock file in an existing folder; created if missing, and never deleted.
        doing: What the other process is doing, for the message.
        wait: Wait for the other process.

    Raises:
        BusyError: Another process holds the lock and `wait` is false.
        MedMNISTError: The file system has no locks.
        OSError: The lock file cannot be written.
    """
    lock = FileLock(lock_path)
    with name_missing_locks(lock_path):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if not wait:
                raise BusyError(f"another process is {doing}: wait until it ends, then run again") from None
            _log.warning("another process is %s: waiting for it", doing)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True, slots=True)
class Slots:
    """Lock files that limit how many processes, on any number of machines, do something at a time.

    Attributes:
        folder: Folder of the lock files on a disk that the processes share; created if missing.
        count: Number of processes at a time. If processes differ in it, the largest number holds.
    """

    folder: Path
    count: int

    @contextlib.contextmanager
    def hold(self, doing: str) -> Iterator[None]:
        """Hold a slot; if all are held, log that and wait. A slot ends with its process.

        Args:
            doing: What each process does, for the log: "downloading".

        Raises:
            MedMNISTError: The file system has no locks.
            OSError: A lock file cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        said = False
        while (lock := self._free()) is None:
            if not said:
                _log.warning("others are %s (at most %d at a time): waiting for one of them", doing, self.count)
                said = True
            time.sleep(random.uniform(0.5, 1.5) * _SLOT_PAUSE)
        try:
            yield
        finally:
            lock.release()

    def _free(self) -> FileLock | None:
        """Lock the first slot that is free; None if there is none."""
        for index in range(self.count):
            path = self.folder / f"{index}.lock"
            lock = FileLock(path)
            with name_missing_locks(path), contextlib.suppress(Timeout):
                lock.acquire(blocking=False)
                return lock
        return None


_SLOT_PAUSE: Final = 1.0
"""Seconds between two looks for a free slot."""


@contextlib.contextmanager
def name_missing_locks(lock_path: Path) -> Iterator[None]:
    """Raise a `MedMNISTError` if the file system has no locks; other errors are not changed."""
    try:
        yield
    except NotImplementedError as error:  # raised by filelock < 3.20
        raise _no_locks(lock_path, error) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise _no_locks(lock_path, error) from None


def _no_locks(lock_path: Path, error: Exception) -> MedMNISTError:
    return MedMNISTError(
        f"cannot lock {lock_path} ({first_line(error)}): use a folder on a file system that has file locks"
    )


def expand_user(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` or ``~user`` replaced by the home folder.

    Raises:
        SourceError: The user does not exist.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise SourceError(f"cannot find the home folder in {path}: give the full path") from None
