"""Files that are written whole or not at all, by one process at a time, and known by their digest."""

import contextlib
import errno
import hashlib
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_log = logging.getLogger(__name__)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a file in one step: a reader sees the old content or the new, also after a kill.

    Args:
        path: Where the file goes; its folder must exist.
        content: Bytes as they are, or text in UTF-8 with the line ends it has.

    Raises:
        OSError: The file cannot be written. Nothing new is left then.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
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


@contextlib.contextmanager
def sole_process(lock_path: Path, doing: str) -> Iterator[None]:
    """Hold a lock file; where another process holds it, say so and wait.

    Args:
        lock_path: The lock file, made when needed in a folder that exists; it stays.
        doing: What the other process must be doing, for the message.

    Raises:
        OSError: The lock file cannot be written.
    """
    lock = FileLock(lock_path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        _log.warning("another process is %s: waiting for it", doing)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
