"""State of the cells of a benchmark on disk: their progress, their locks, and why they failed.

A cell's folder contains the output of its run, its recipe ``cell.yaml``, the output of its process ``log.txt``, the
one-line reason of a failure ``failed.txt``, and the lock ``cell.lock``. A cell that has not been started has no
folder; ``MATRIX.cells.txt`` lists all cells of a matrix that was run, one name per line.
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
from medmnist_hf.training.benchmark.matrix import MAX_CELLS, BenchmarkRun, replace_options
from medmnist_hf.training.recipe import RECIPE_NAME, differences, make_recipe
from medmnist_hf.training.results import RESULTS_NAME, DataRecord, read_results
from medmnist_hf.training.run_folder import LOCK_NAME as RUN_LOCK

CONFIG_NAME: Final = "cell.yaml"
LOG_NAME: Final = "log.txt"
FAILED_NAME: Final = "failed.txt"
LOCK_NAME: Final = "cell.lock"
PLAN_SUFFIX: Final = ".cells.txt"
"""Suffix of the file with the names of a matrix's cells."""

RESUME: Final = "run the same command again to resume it"
"""Hint for a run that was interrupted."""

_PAUSE: Final = 0.05
_TRIES: Final = 3
_LONGEST_NOTE: Final = 400
_PLAN_BYTES: Final = MAX_CELLS * 256
_CELL_NAME: Final = re.compile(r"[a-z0-9]{1,40}-[0-9]{1,4}-[A-Za-z0-9_.-]{0,60}-[a-z-]{1,40}-[0-9a-f]{8}")
"""Matches the names that `medmnist_hf.training.recipe.run_name` returns."""
_NO_PLAN: Final = "remove it, or name the matrix"


class State(StrEnum):
    """Progress of a cell."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Status:
    """A cell's state, and a one-line reason or hint; may be empty."""

    state: State
    note: str = ""


def status_of(cell: BenchmarkRun, out: Path) -> Status:
    """Determine the status of a cell.

    Args:
        cell: The cell.
        out: The benchmark's folder.

    Raises:
        TrainingError: Its file of results is damaged.
        MedMNISTError: The file system has no locks.
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
    """List the started cells in a benchmark's folder, sorted by name, without the file of the matrix.

    Args:
        out: The benchmark's folder.

    Raises:
        TrainingError: The recipe of a cell cannot be read.
    """
    paths = sorted(out.glob(f"*/{CONFIG_NAME}"))
    return tuple(BenchmarkRun(path.parent.name, make_recipe({}, config=path)) for path in paths)


def runs_without_results(out: Path) -> dict[str, Status]:
    """Find running and interrupted runs of ``finetune`` and ``automl`` below a folder; for cells see `status_of`.

    Args:
        out: The folder.

    Returns:
        Folder of each run, relative to `out` -> its status.
    """
    runs = {path.parent for path in out.rglob(RECIPE_NAME)}
    outermost = sorted(run for run in runs if runs.isdisjoint(run.parents))
    excluding = (RESULTS_NAME, CONFIG_NAME)
    unfinished = (run for run in outermost if not any((run / name).exists() for name in excluding))
    return {run.relative_to(out).as_posix(): _status_of_run(run) for run in unfinished}


def _status_of_run(run: Path) -> Status:
    """Running while a process holds the lock of the run's folder; a lock that cannot be opened counts as free."""
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
    """Write the names of a matrix's cells to the benchmark's folder, replacing those of an earlier version.

    Args:
        cells: All cells of the matrix.
        matrix: File of the matrix; the written file has the same stem.
        out: The benchmark's folder; created if missing.

    Raises:
        OSError: The folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / f"{matrix.stem}{PLAN_SUFFIX}", "".join(f"{cell.name}\n" for cell in cells))


def pending_in(out: Path) -> tuple[str, ...]:
    """Names of the cells that `note_cells` wrote and that have not been started, each once.

    Raises:
        TrainingError: A file cannot be read, or contains anything other than names of cells.
    """
    names: dict[str, None] = {}
    for path in sorted(out.glob(f"*{PLAN_SUFFIX}")):
        try:
            cell_names = read_document(path, _PLAN_BYTES).decode("ascii").split()
        except OSError as error:
            raise TrainingError(cannot_read(path, error, _NO_PLAN)) from None
        except UnicodeDecodeError:
            raise TrainingError(f"cannot read {path} (it is not text): {_NO_PLAN}") from None
        if len(cell_names) > MAX_CELLS:
            raise TrainingError(f"{path} has more than {MAX_CELLS:,} cells, the limit of a matrix: {_NO_PLAN}")
        if not all(map(_CELL_NAME.fullmatch, cell_names)):
            raise TrainingError(f"{path} has lines that are not names of cells: {_NO_PLAN}")
        names |= dict.fromkeys(cell_names)
    files = (CONFIG_NAME, RESULTS_NAME)
    return tuple(name for name in names if not any((out / name / file).exists() for file in files))


def is_done(cell: BenchmarkRun, folder: Path) -> bool:
    """Whether a cell's folder has complete results of all seeds of its recipe.

    Raises:
        TrainingError: The file of results is damaged.
    """
    path = folder / RESULTS_NAME
    if not path.is_file():
        return False
    result = read_results(path)
    whole = {seed.seed for seed in result.seeds if not seed.facts.partial}
    return not differences(result.recipe, cell.recipe) and set(cell.recipe.seeds) <= whole


def is_stale(cell: BenchmarkRun, folder: Path) -> bool:
    """Whether the build that a finished cell read has been replaced by a build of other data.

    Also False if this cannot be determined: for data on the Hub, and for a build that no longer exists.

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
    return DataRecord.of(config).identity != read_results(folder / RESULTS_NAME).data.identity


def lock_of(folder: Path) -> int | None:
    """Acquire the lock of a cell's folder.

    Returns:
        The file descriptor. A child process may inherit it; the lock is held until all copies are closed. None if
        another process holds the lock, on this machine or on another one with the same disk.

    Raises:
        MedMNISTError: The file system has no locks.
    """
    path = folder / LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    for _ in range(_TRIES):  # `status_of` in another process holds the lock for a moment
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


def reason_of(log: Path, code: int, values: Iterable[object] = ()) -> str:
    """Why the process of a cell failed, in one line: its error message or the last line of its output.

    Args:
        log: File with its output.
        code: Its exit code, negative if it was ended by a signal.
        values: Values of the cell, see `replace_options`.
    """
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    own = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if own:
        return replace_options(own[-1], values)[:_LONGEST_NOTE]
    if code < 0:
        memory = ", possibly because memory ran out" if code == -signal.SIGKILL else ""
        return f"ended by {signal.Signals(-code).name}{memory}: see {LOG_NAME}"
    last = f" ({lines[-1][:_LONGEST_NOTE]})" if lines else ""
    return f"ended with exit code {code} and no results{last}: see {LOG_NAME}"
