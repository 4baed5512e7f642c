"""Run a search of an AutoML engine in a separate process within a time budget, from arrays to scores.

The folder of a search holds the files described in ``adapters/job.py``, the log of the process, and the seconds spent.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from medmnist_hf.automl.adapters.job import BEST_NAME, DAMAGES, JOB_NAME, STATE_NAME
from medmnist_hf.automl.engines import Engine
from medmnist_hf.automl.environments import environment
from medmnist_hf.documents import parse_json
from medmnist_hf.errors import TrainingError
from medmnist_hf.files import write_atomically
from medmnist_hf.typed_json import decode

LOG_NAME: Final = "log.txt"
SPENT_NAME: Final = "seconds.txt"
SCORED: Final = ("validation", "test")

GRACE: Final = (60.0, 0.2)
"""How long a search may exceed its budget: the larger of these seconds and this fraction of the budget."""

PATIENCE: Final = 60.0
"""Seconds that a search has to end after a signal."""

_SAVE_EVERY: Final = 2.0
_MAX_LINE: Final = 400
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Problem:
    """Data and budget of a search.

    Attributes:
        task: The task, e.g. ``multi-class``.
        classes: Number K of classes or findings.
        inputs: Kind of ``x``: ``pixels``, ``features`` or ``images``, see ``adapters/job.py``.
        x: ``train``, ``validation`` and ``test`` -> inputs.
        y: ``train`` and ``validation`` -> labels.
        seconds: Time budget.
        seed: Seed of the search.
        options: Further options of the engine.
    """

    task: str
    classes: int
    inputs: str
    x: Mapping[str, npt.NDArray[Any]]
    y: Mapping[str, npt.NDArray[np.int64]]
    seconds: float
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """Result of a search.

    Attributes:
        scores: ``validation`` and ``test`` -> probabilities, float64 of shape (N, K).
        facts: What the engine reports, and ``search_seconds``.
        partial: How the search was interrupted; empty if it was completed.
        stopped: Whether it was interrupted by Ctrl-C.
        earlier_seconds: Seconds that earlier processes spent on the search.
    """

    scores: dict[str, npt.NDArray[np.float64]]
    facts: dict[str, Any]
    partial: str = ""
    stopped: bool = False
    earlier_seconds: float = 0.0


def search(
    engine: Engine,
    python: Path,
    folder: Path,
    problem: Problem,
    on_line: Callable[[str], None] = lambda line: None,
    *,
    grace: tuple[float, float] = GRACE,
    patience: float = PATIENCE,
) -> SearchResult:
    """Run a search until it ends, exceeds its budget by the grace period, or Ctrl-C; the best model so far is kept.

    SIGTERM, with which schedulers end a program, is handled like Ctrl-C. In the folder of an interrupted search, an
    engine that can resume continues with the rest of the budget; others start anew.

    Args:
        engine: The engine.
        python: The interpreter to run it in, see `medmnist_hf.automl.environments.interpreter`.
        folder: Working folder; created if missing.
        problem: Data and budget of the search.
        on_line: Called with each line that the engine prints, from another thread.
        grace: See `GRACE`.
        patience: See `PATIENCE`.

    Raises:
        TrainingError: The search produced no scores, or invalid ones.
        KeyboardInterrupt: Ctrl-C before the first model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    best, spent = folder / BEST_NAME, _spent(folder)
    if not (engine.resumes and best.exists()):
        spent = 0.0
        shutil.rmtree(folder / STATE_NAME, ignore_errors=True)
        for name in (BEST_NAME, SPENT_NAME):
            (folder / name).unlink(missing_ok=True)
    remaining = problem.seconds - spent
    if remaining <= 0:
        return replace(_load_result(engine, best, problem, spent), earlier_seconds=spent)
    try:
        _write_job(folder, problem, remaining)
        child = _Child(engine, python, folder, spent, on_line)
        with _sigterm_as_ctrl_c():
            end = child.run(remaining + max(grace[0], grace[1] * problem.seconds), patience)
    finally:
        for path in folder.glob("[xy]_*.npy"):
            path.unlink()
    if not best.exists():
        if end.stopped:
            raise KeyboardInterrupt
        raise TrainingError(f"{engine.title}: {end.error or f'{end.how} without a model: see {folder / LOG_NAME}'}")
    partial = "" if end.complete else end.how + (f" ({end.error})" if end.error else "")
    result = _load_result(engine, best, problem, _spent(folder), partial, end.stopped)
    return replace(result, earlier_seconds=spent)


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # other threads cannot set a handler
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def cores() -> int:
    """Return the number of cores for a search: those of this process, or fewer if ``OMP_NUM_THREADS`` says so."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(limit)) if limit.isdecimal() and int(limit) else available


@dataclass(frozen=True, slots=True)
class _End:
    """How a process ended.

    Attributes:
        complete: Whether it ended on its own and without an error.
        how: Description of the end.
        error: The error that it reported; empty for none.
        stopped: Whether it was ended by Ctrl-C.
    """

    complete: bool
    how: str
    error: str
    stopped: bool


@dataclass(slots=True, eq=False)
class _Child:
    """The process of a search."""

    engine: Engine
    python: Path
    folder: Path
    earlier_seconds: float
    on_line: Callable[[str], None]
    started: float = 0.0
    error: str = ""
    last_line: str = ""

    def run(self, seconds: float, patience: float) -> _End:
        """Start the process and wait for its end; after `seconds` or on Ctrl-C, ask it to end, then kill it."""
        self.started = time.monotonic()
        with subprocess.Popen(
            [self.python, self.engine.adapter, self.folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # only we receive Ctrl-C, and its own child processes can be killed with it
            env=environment(self.python),
        ) as child:
            reader = threading.Thread(target=self._read, args=(child,), daemon=True)
            late = stopped = False
            try:
                reader.start()
                late = not self._wait(child, self.started + seconds)
                if late:
                    self._end(child, signal.SIGTERM, patience)
            except KeyboardInterrupt:
                stopped = True
                self._end(child, signal.SIGINT, patience)
            finally:
                _kill(child)
                if reader.is_alive():
                    reader.join(patience)
                self._save_seconds()
        how, complete = self._how(child.returncode, late, stopped), not (child.returncode or late or stopped)
        return _End(complete, how, self.error, stopped)

    def _wait(self, child: subprocess.Popen[str], deadline: float) -> bool:
        """Return whether the process ends before a deadline, saving its seconds meanwhile."""
        while (remaining := deadline - time.monotonic()) > 0:
            try:
                child.wait(min(remaining, _SAVE_EVERY))
            except subprocess.TimeoutExpired:
                self._save_seconds()
            else:
                return True
        return child.poll() is not None

    def _end(self, child: subprocess.Popen[str], signal_number: signal.Signals, patience: float) -> None:
        """Signal the process and give it time to publish its best model; another Ctrl-C kills it at once."""
        try:
            child.send_signal(signal_number)
            child.wait(patience)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            _kill(child)

    def _save_seconds(self) -> None:
        seconds = self.earlier_seconds + time.monotonic() - self.started
        write_atomically(self.folder / SPENT_NAME, f"{seconds:.2f}\n")

    def _read(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        with (self.folder / LOG_NAME).open("w", encoding="utf-8") as log:
            for line in child.stdout:
                log.write(line)
                log.flush()
                text = line.strip()[:_MAX_LINE]
                if text.startswith("error: "):
                    self.error = text.removeprefix("error: ")
                elif text:
                    self.last_line = text
                    self.on_line(text)

    def _how(self, code: int, late: bool, stopped: bool) -> str:
        after = f"after {time.monotonic() - self.started:.0f} s"
        if stopped:
            return f"stopped {after}"
        if late:
            return f"ended {after}, long past its budget"
        if code < 0:
            memory = ", perhaps because the system ran out of memory" if code == -signal.SIGKILL else ""
            return f"killed by {signal.Signals(-code).name} {after}{memory}"
        last_line = f" ({self.last_line})" if code and self.last_line and not self.error else ""
        return f"ended with exit code {code} {after}{last_line}"


def _kill(child: subprocess.Popen[str]) -> None:
    """Kill a process and all processes that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses if the group has only zombies
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _write_job(folder: Path, problem: Problem, seconds: float) -> None:
    for split, values in problem.x.items():
        save_array(folder / f"x_{split}.npy", values)
    for split, labels in problem.y.items():
        save_array(folder / f"y_{split}.npy", labels)
    job = {
        "task": problem.task,
        "classes": problem.classes,
        "inputs": problem.inputs,
        "seconds": seconds,
        "seed": problem.seed,
        "cores": cores(),
        "options": dict(problem.options),
        "parent": os.getpid(),
    }
    write_atomically(folder / JOB_NAME, json.dumps(job, indent=2) + "\n")


def save_array(path: Path, values: npt.NDArray[Any]) -> None:
    """Write an array like `numpy.save`, but raise an error even if only the last bytes do not fit on the disk.

    Raises:
        OSError: The array cannot be written.
    """
    with path.open("wb") as file:
        # NumPy writes to real files in C, without that check, but calls `write` of any other object.
        npy.write_array(SimpleNamespace(write=file.write), values, allow_pickle=False)


def _spent(folder: Path) -> float:
    """Return the seconds spent so far on the search in a folder."""
    try:
        return float((folder / SPENT_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0


def _load_result(  # noqa: PLR0917
    engine: Engine, best: Path, problem: Problem, seconds: float, partial: str = "", stopped: bool = False
) -> SearchResult:
    """Load and check the best scores of a search."""
    try:
        with np.load(best, allow_pickle=False) as arrays:
            facts = decode(parse_json(str(arrays["found"])), dict[str, Any])
            scores = {split: np.asarray(arrays[split], np.float64) for split in SCORED}
    except DAMAGES as error:
        best.unlink()  # a search cannot resume from it
        raise TrainingError(f"{engine.title} left a damaged {best} ({error}): run the same command again") from None
    for split, values in scores.items():
        shape = len(problem.x[split]), problem.classes
        if values.shape != shape:
            raise TrainingError(f"{engine.title} gave {split} scores of shape {values.shape}, not {shape}")
        if not np.isfinite(values).all():
            raise TrainingError(f"{engine.title} gave {split} scores that are not finite: try another seed")
        if not np.all((values >= -_ROUNDING) & (values <= 1 + _ROUNDING)):
            raise TrainingError(f"{engine.title} gave {split} scores that are not probabilities")
        np.clip(values, 0, 1, out=values)
    return SearchResult(scores, facts | {"search_seconds": seconds}, partial, stopped)
