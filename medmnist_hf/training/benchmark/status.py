"""The cells of a benchmark on disk: how far each is, the lock of who runs it, and why it failed.

A cell's folder holds what its run leaves, and besides ``cell.yaml`` with its recipe, ``log.txt`` with what its process
said, ``failed.txt`` with the one line that it failed by, and the lock ``cell.lock``. A cell that was not started has
no folder: that it belongs to a matrix which was run is noted in ``MATRIX.cells.txt``, one name per line.
"""

import contextlib
import fcntl
import os
import re
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from medmnist_hf.data.configs import open_config
from medmnist_hf.errors import MedMNISTError, TrainingError, cannot_read
from medmnist_hf.files import BusyError, name_missing_locks, read_document, sole_process, write_atomically
from medmnist_hf.training.benchmark.matrix import MAX_CELLS, BenchmarkRun, in_matrix_words
from medmnist_hf.training.recipe import RECIPE_NAME, differences, make_recipe
from medmnist_hf.training.results import RESULTS_NAME, DataRecord, read_results
from medmnist_hf.training.run_folder import LOCK_NAME as RUN_LOCK

CONFIG_NAME: Final = "cell.yaml"
LOG_NAME: Final = "log.txt"
FAILED_NAME: Final = "failed.txt"
LOCK_NAME: Final = "cell.lock"
PLAN_SUFFIX: Final = ".cells.txt"
"""Behind the name of a matrix: the file with the names of its cells."""

RESUME: Final = "run the same command again to resume it"
"""What to do about a run that was interrupted."""

_PAUSE: Final = 0.05
_TRIES: Final = 3
_LONGEST_NOTE: Final = 400
_PLAN_BYTES: Final = MAX_CELLS * 256
_CELL_NAME: Final = re.compile(r"[a-z0-9]{1,40}-[0-9]{1,4}-[A-Za-z0-9_.-]{0,60}-[a-z-]{1,40}-[0-9a-f]{8}")
"""What `medmnist_hf.training.recipe.run_name` can give."""
_NO_PLAN: Final = "remove it, or name the matrix"


class State(StrEnum):
    """How far a cell is."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Status:
    """A cell's state, and the one line that it failed by."""

    state: State
    note: str = ""


def status_of(cell: BenchmarkRun, out: Path) -> Status:
    """How far a cell is.

    Args:
        cell: The cell.
        out: The benchmark's folder.

    Raises:
        TrainingError: Its file of results is damaged.
        MedMNISTError: Its lock cannot be tried.
    """
    folder = out / cell.name
    if is_done(cell, folder):
        return Status(State.DONE)
    if not (folder / LOCK_NAME).exists():
        return Status(State.PENDING)
    lock = lock_of(folder)
    if lock is None:
        return Status(State.RUNNING)
    os.close(lock)
    failed = folder / FAILED_NAME
    if failed.is_file():
        return Status(State.FAILED, failed.read_text(encoding="utf-8", errors="replace").strip())
    return Status(State.INTERRUPTED, RESUME)


def cells_in(out: Path) -> tuple[BenchmarkRun, ...]:
    """The cells that were started in a benchmark's folder, by name: what is known of a matrix without its file.

    Args:
        out: The benchmark's folder.

    Raises:
        TrainingError: The recipe of a cell cannot be read.
    """
    paths = sorted(out.glob(f"*/{CONFIG_NAME}"))
    return tuple(BenchmarkRun(path.parent.name, make_recipe({}, config=path)) for path in paths)


def runs_without_results(out: Path) -> dict[str, Status]:
    """Runs of ``finetune`` and ``automl`` below a folder that are running or interrupted; cells have `status_of`.

    Args:
        out: The folder.

    Returns:
        Folder of the run, below `out` -> its status.
    """
    runs = {path.parent for path in out.rglob(RECIPE_NAME)}
    outermost = sorted(run for run in runs if runs.isdisjoint(run.parents))
    known = (RESULTS_NAME, CONFIG_NAME)
    unfinished = (run for run in outermost if not any((run / name).exists() for name in known))
    return {run.relative_to(out).as_posix(): _status_of_run(run) for run in unfinished}


def _status_of_run(run: Path) -> Status:
    """Running while a process holds the lock of the run's folder, which is not tried where it cannot be written."""
    path = run / RUN_LOCK
    with contextlib.suppress(OSError):
        try:
            if path.exists():
                with sole_process(path, f"running in {run}", wait=False):
                    pass
        except BusyError:
            return Status(State.RUNNING)
    return Status(State.INTERRUPTED, RESUME)


def note_cells(cells: Sequence[BenchmarkRun], matrix: Path, out: Path) -> None:
    """Note in a benchmark's folder which cells a matrix has, in place of what an earlier matrix of its name had.

    Args:
        cells: All cells of the matrix.
        matrix: Its file, which gives the note its name.
        out: The benchmark's folder; made where it is missing.

    Raises:
        OSError: The folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / f"{matrix.stem}{PLAN_SUFFIX}", "".join(f"{cell.name}\n" for cell in cells))


def pending_in(out: Path) -> tuple[str, ...]:
    """Names of the cells that `note_cells` noted in a benchmark's folder and that were not started, each once.

    Raises:
        TrainingError: A note cannot be read, or holds something else than names of cells.
    """
    names: dict[str, None] = {}
    for path in sorted(out.glob(f"*{PLAN_SUFFIX}")):
        try:
            noted = read_document(path, _PLAN_BYTES).decode("ascii").split()
        except OSError as error:
            raise TrainingError(cannot_read(path, error, _NO_PLAN)) from None
        except UnicodeDecodeError:
            raise TrainingError(f"cannot read {path} (it is not text): {_NO_PLAN}") from None
        if len(noted) > MAX_CELLS:
            raise TrainingError(f"{path} names more than {MAX_CELLS:,} cells, which no matrix has: {_NO_PLAN}")
        if not all(map(_CELL_NAME.fullmatch, noted)):
            raise TrainingError(f"{path} holds something else than names of cells: {_NO_PLAN}")
        names |= dict.fromkeys(noted)
    files = (CONFIG_NAME, RESULTS_NAME)
    return tuple(name for name in names if not any((out / name / file).exists() for file in files))


def is_done(cell: BenchmarkRun, folder: Path) -> bool:
    """Whether a cell's folder holds results of what its recipe trains, with all its seeds, none of them partial.

    Raises:
        TrainingError: The file of results is damaged.
    """
    path = folder / RESULTS_NAME
    if not path.is_file():
        return False
    result = read_results(path)
    whole = {one.seed for one in result.seeds if not one.facts.partial}
    return not differences(result.recipe, cell.recipe) and set(cell.recipe.seeds) <= whole


def is_stale(cell: BenchmarkRun, folder: Path) -> bool:
    """Whether the build that a cell which is done has read was replaced by one of other data.

    False also where it cannot be known: for data on the Hub, and for a build that is gone.

    Raises:
        TrainingError: The file of results is damaged.
    """
    recipe = cell.recipe
    if recipe.root is None:
        return False
    try:
        config = open_config(recipe.source, recipe.size, recipe.root)
    except MedMNISTError:
        return False
    return DataRecord.of(config) != read_results(folder / RESULTS_NAME).data


def lock_of(folder: Path) -> int | None:
    """Take the lock of a cell's folder.

    Returns:
        Its descriptor, which a child process may inherit: the lock is held until all of them have closed it. None
        where another process holds the lock, on this machine or another one with the same disk.

    Raises:
        MedMNISTError: The file system has no locks.
    """
    path = folder / LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    for _ in range(_TRIES):  # who asks for a cell's status holds its lock for a moment
        try:
            with name_missing_locks(path):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        except BaseException:
            os.close(descriptor)
            raise
        else:
            return descriptor
    os.close(descriptor)
    return None


def reason_of(log: Path, code: int, given: Iterable[object] = ()) -> str:
    """Why the process of a cell failed, in one line: its own, in the words of a matrix, or the last it said.

    Args:
        log: What it said.
        code: Its exit code; that of a process ended by a signal is negative.
        given: Values of the cell, see `in_matrix_words`.
    """
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    own = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if own:
        return in_matrix_words(own[-1], given)[:_LONGEST_NOTE]
    if code < 0:
        memory = ", as a system does that has no memory left" if code == -signal.SIGKILL else ""
        return f"ended by {signal.Signals(-code).name}{memory}: see {LOG_NAME}"
    last = f" ({lines[-1][:_LONGEST_NOTE]})" if lines else ""
    return f"ended with exit code {code} and no results{last}: see {LOG_NAME}"
