"""Files: read if they are regular and of a sensible size, written whole or not at all, known by their digest."""

import contextlib
import errno
import hashlib
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from medmnist_hf.errors import MedMNISTError, SourceError, first_line

DOCUMENT_BYTES: Final = 16 << 20
"""Bytes of the largest document that is read whole: the manifest of a build in 60,000 shards has 13 MB."""

_NO_LOCKS: Final = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
"""What a file system without locks, such as some network disks, says when a lock is asked for."""

_log = logging.getLogger(__name__)


class UnfitFileError(OSError):
    """A path names no regular file, or one that is larger than its kind may be: reading it could be without end."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(why)
        self.filename, self.strerror = str(path), why

    def __str__(self) -> str:
        return str(self.strerror)


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading.

    Raises:
        UnfitFileError: It is a folder, a FIFO, a socket or a device.
        OSError: It cannot be opened.
    """
    # Without O_NONBLOCK, opening a FIFO waits for a writer; a regular file is read as without it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnfitFileError(path, _NOT_REGULAR)
    return os.fdopen(descriptor, "rb")


def regular_size(path: Path) -> int:
    """Size of a regular file in bytes, for readers that open it themselves; errors as in `open_regular`."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise UnfitFileError(path, _NOT_REGULAR)
    return found.st_size


def read_document(path: Path, limit: int = DOCUMENT_BYTES) -> bytes:
    """The content of a small file from anywhere.

    Args:
        path: The file.
        limit: Bytes that it may have.

    Raises:
        UnfitFileError: It is no regular file, or larger.
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise UnfitFileError(path, f"it has more than {limit:,} bytes")
    return content


_NOT_REGULAR: Final = "it is not a regular file"


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a file in one step: a reader sees the old content or the new, also after a kill.

    Args:
        path: Where the file goes; its folder must exist.
        content: Bytes as they are, or text in UTF-8 with the line ends it has.

    Raises:
        OSError: The file cannot be written; it has the path. Nothing new is left then.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # of which the first says more
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # that of the temporary file says nothing, and a write gives none
        raise
    sync_folder(path.parent)


def sha256_of(path: Path) -> str:
    """SHA-256 of a regular file, 64 hex digits; errors as in `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make renames within a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems know no sync of a folder; the rename itself has succeeded.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)


class BusyError(MedMNISTError):
    """Another process holds a lock."""


@contextlib.contextmanager
def sole_process(lock_path: Path, doing: str, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file; where another process holds it, say so and wait. A lock ends with its process.

    Args:
        lock_path: The lock file, made when needed in a folder that exists; it stays.
        doing: What the other process must be doing, for the message.
        wait: Wait for the other process.

    Raises:
        BusyError: Another process holds it, and is not waited for.
        MedMNISTError: The file system has no locks.
        OSError: The lock file cannot be written.
    """
    lock = FileLock(lock_path)
    with name_missing_locks(lock_path):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if not wait:
                raise BusyError(f"another process is {doing}: wait for its end, then run the same again") from None
            _log.warning("another process is %s: waiting for it", doing)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def name_missing_locks(lock_path: Path) -> Iterator[None]:
    """Raise a `MedMNISTError` where a lock cannot be taken as the file system has none; other errors pass."""
    try:
        yield
    except NotImplementedError as error:  # by filelock before release 3.20
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
    """A path with a home in place of ``~`` or ``~user``.

    Raises:
        SourceError: There is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise SourceError(f"cannot tell whose home {path} is in: give the whole path") from None
