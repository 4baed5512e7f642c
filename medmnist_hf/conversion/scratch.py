"""Private folders on a disk of one machine, for files that are not needed once a build is complete."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from medmnist_hf.errors import SourceError, cannot_write
from medmnist_hf.files import expand_user, name_missing_locks

SCRATCH_VARIABLE: Final = "MEDMNIST_SCRATCH"
AUTO: Final = "auto"
JOB_VARIABLES: Final = ("SLURM_TMPDIR", "TMPDIR")
"""Variables in which schedulers name a folder on the disk of the node, removed with the job; the first that is set."""

_PREFIX: Final = "medmnist-hf-scratch-"
_LOCK: Final = ".lock"


def scratch_folder(text: str | None) -> Path | None:
    """The folder that ``--scratch`` names on this machine; None for none.

    Args:
        text: A folder, or ``auto`` for the first of `JOB_VARIABLES` that is set; None for the variable
            ``MEDMNIST_SCRATCH``.

    Raises:
        SourceError: No variable is set, or there is no such folder.
    """
    text = text or os.environ.get(SCRATCH_VARIABLE)
    if not text:
        return None
    name = next(filter(None, map(os.environ.get, JOB_VARIABLES)), None) if text == AUTO else text
    if name is None:
        raise SourceError(f"--scratch auto needs {' or '.join(JOB_VARIABLES)}, which are not set: name a folder")
    folder = expand_user(name)
    if not folder.is_dir():
        raise SourceError(f"no folder {folder} for --scratch: create it, or name another one")
    return folder


@contextlib.contextmanager
def private_folder(scratch: Path) -> Iterator[Path]:
    """Create a folder in `scratch`, and remove it at the end, with those that killed processes left there.

    Raises:
        SourceError: The folder cannot be created.
        MedMNISTError: The file system has no locks.
    """
    with contextlib.ExitStack() as stack:
        try:
            _remove_leftovers(scratch)
            # The folder is created after its lock is held, so a folder whose lock is free belongs to no process.
            descriptor, lock_name = tempfile.mkstemp(_LOCK, _PREFIX, scratch)
            os.close(descriptor)
            lock_path = Path(lock_name)
            with name_missing_locks(lock_path):
                stack.enter_context(FileLock(lock_path))
            stack.callback(lock_path.unlink, missing_ok=True)
            folder = _folder_of(lock_path)
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise SourceError(cannot_write(scratch, error, "name another folder with --scratch")) from None
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def _folder_of(lock_path: Path) -> Path:
    return lock_path.with_name(lock_path.name.removesuffix(_LOCK))


def _remove_leftovers(scratch: Path) -> None:
    """Remove folders of this user whose process has ended."""
    for lock_path in scratch.glob(f"{_PREFIX}*{_LOCK}"):
        folder = _folder_of(lock_path)
        with contextlib.suppress(FileNotFoundError):  # another process removes it
            if folder.lstat().st_uid != os.getuid():
                continue
            with name_missing_locks(lock_path), contextlib.suppress(Timeout), FileLock(lock_path, blocking=False):
                shutil.rmtree(folder, ignore_errors=True)
                lock_path.unlink(missing_ok=True)
