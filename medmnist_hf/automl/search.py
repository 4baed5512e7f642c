"""One search of an engine in a process of its own, from arrays to scores, kept within its budget whatever it does.

The folder of a search holds what ``adapters/job.py`` says, the log of the process, and the seconds that it has taken.
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
"""How long a search may go on after its budget: so many seconds or that share of the budget, whichever is more."""

PATIENCE: Final = 60.0
"""Seconds that a search has to end by itself once it is told to."""

_NOTE_EVERY: Final = 2.0
_LONGEST: Final = 400
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Problem:
    """What is to be searched for.

    Attributes:
        task: The task, e.g. ``multi-class``.
        classes: Number K of classes or findings.
        inputs: What ``x`` is: ``pixels``, ``features`` or ``images``, see ``adapters/job.py``.
        x: ``train``, ``validation`` and ``test`` -> inputs.
        y: ``train`` and ``validation`` -> labels.
        seconds: The budget.
        seed: The seed.
        options: What else the engine is told.
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
class Found:
    """What a search came to.

    Attributes:
        scores: ``validation`` and ``test`` -> probabilities, float64 of shape (N, K).
        facts: What the engine tells, and ``search_seconds``.
        partial: How the search was broken off; empty if it came to its end.
        stopped: It was broken off by Ctrl-C.
        earlier_seconds: Seconds of the search that earlier processes took.
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
    tell: Callable[[str], None] = lambda line: None,
    *,
    grace: tuple[float, float] = GRACE,
    patience: float = PATIENCE,
) -> Found:
    """Run a search to its end, or to that of its budget and some grace, or to Ctrl-C; what it has then is kept.

    SIGTERM, by which schedulers end a program, is taken as Ctrl-C meanwhile. In the folder of a search that was broken
    off, an engine that can goes on with what is left of the budget; others start anew.

    Args:
        engine: The engine.
        python: The interpreter to run it in, see `medmnist_hf.automl.environments.interpreter`.
        folder: Where it works; made where it is missing.
        problem: What to search for.
        tell: Called with each line that the engine prints, from another thread.
        grace: See `GRACE`.
        patience: See `PATIENCE`.

    Raises:
        TrainingError: The search has left no scores, or none that can be used.
        KeyboardInterrupt: Ctrl-C before there were any.
    """
    folder.mkdir(parents=True, exist_ok=True)
    best, before = folder / BEST_NAME, _spent(folder)
    if not (engine.resumes and best.exists()):
        before = 0.0
        shutil.rmtree(folder / STATE_NAME, ignore_errors=True)
        for name in (BEST_NAME, SPENT_NAME):
            (folder / name).unlink(missing_ok=True)
    left = problem.seconds - before
    if left <= 0:
        return replace(_found(engine, best, problem, before), earlier_seconds=before)
    try:
        _write_job(folder, problem, left)
        child = _Child(engine, python, folder, before, tell)
        with _sigterm_as_ctrl_c():
            end = child.run(left + max(grace[0], grace[1] * problem.seconds), patience)
    finally:
        for path in folder.glob("[xy]_*.npy"):
            path.unlink()
    if not best.exists():
        if end.stopped:
            raise KeyboardInterrupt
        raise TrainingError(f"{engine.title}: {end.error or f'{end.how} and left no model: see {folder / LOG_NAME}'}")
    partial = "" if end.whole else end.how + (f" ({end.error})" if end.error else "")
    found = _found(engine, best, problem, _spent(folder), partial, end.stopped)
    return replace(found, earlier_seconds=before)


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # others may set no handler
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def cores() -> int:
    """Processor cores that a search may use: those of this process, or fewer where ``OMP_NUM_THREADS`` says so."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(mine, int(wanted)) if wanted.isdecimal() and int(wanted) else mine


@dataclass(frozen=True, slots=True)
class _End:
    """How a process ended.

    Attributes:
        whole: It came to its end by itself, and without a fault.
        how: How it ended, in words.
        error: The fault that it told of; empty for none.
        stopped: By Ctrl-C.
    """

    whole: bool
    how: str
    error: str
    stopped: bool


@dataclass(slots=True, eq=False)
class _Child:
    """The process of a search."""

    engine: Engine
    python: Path
    folder: Path
    before: float
    tell: Callable[[str], None]
    begun: float = 0.0
    error: str = ""
    last: str = ""

    def run(self, seconds: float, patience: float) -> _End:
        """Start it and wait for its end; after so many seconds, or on Ctrl-C, it is told to end, and then made to."""
        self.begun = time.monotonic()
        with subprocess.Popen(
            [self.python, self.engine.adapter, self.folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches it through us alone, and what it starts can be ended with it
            env=environment(self.python),
        ) as child:
            reader = threading.Thread(target=self._read, args=(child,), daemon=True)
            late = stopped = False
            try:
                reader.start()
                late = not self._wait(child, self.begun + seconds)
                if late:
                    self._end(child, signal.SIGTERM, patience)
            except KeyboardInterrupt:
                stopped = True
                self._end(child, signal.SIGINT, patience)
            finally:
                _kill(child)
                if reader.is_alive():
                    reader.join(patience)
                self._note()
        how, whole = self._how(child.returncode, late, stopped), not (child.returncode or late or stopped)
        return _End(whole, how, self.error, stopped)

    def _wait(self, child: subprocess.Popen[str], until: float) -> bool:
        """Whether it has ended in time; its seconds are noted meanwhile."""
        while (left := until - time.monotonic()) > 0:
            try:
                child.wait(min(left, _NOTE_EVERY))
            except subprocess.TimeoutExpired:
                self._note()
            else:
                return True
        return child.poll() is not None

    def _end(self, child: subprocess.Popen[str], by: signal.Signals, patience: float) -> None:
        """Ask it to end and give it time to leave the best it has; a Ctrl-C then ends it at once."""
        try:
            child.send_signal(by)
            child.wait(patience)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            _kill(child)

    def _note(self) -> None:
        write_atomically(self.folder / SPENT_NAME, f"{self.before + time.monotonic() - self.begun:.2f}\n")

    def _read(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        with (self.folder / LOG_NAME).open("w", encoding="utf-8") as log:
            for line in child.stdout:
                log.write(line)
                log.flush()
                text = line.strip()[:_LONGEST]
                if text.startswith("error: "):
                    self.error = text.removeprefix("error: ")
                elif text:
                    self.last = text
                    self.tell(text)

    def _how(self, code: int, late: bool, stopped: bool) -> str:
        after = f"after {time.monotonic() - self.begun:.0f} s"
        if stopped:
            return f"stopped {after}"
        if late:
            return f"ended {after}, long past its budget"
        if code < 0:
            memory = ", as a system does that has no memory left" if code == -signal.SIGKILL else ""
            return f"killed by {signal.Signals(-code).name} {after}{memory}"
        last = f" ({self.last})" if code and self.last and not self.error else ""
        return f"ended with exit code {code} {after}{last}"


def _kill(child: subprocess.Popen[str]) -> None:
    """End a process at once, and all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses for a group of zombies
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _write_job(folder: Path, problem: Problem, seconds: float) -> None:
    for split, values in problem.x.items():
        save_array(folder / f"x_{split}.npy", values)
    for split, labels in problem.y.items():
        save_array(folder / f"y_{split}.npy", labels)
    told = {
        "task": problem.task,
        "classes": problem.classes,
        "inputs": problem.inputs,
        "seconds": seconds,
        "seed": problem.seed,
        "cores": cores(),
        "options": dict(problem.options),
        "parent": os.getpid(),
    }
    write_atomically(folder / JOB_NAME, json.dumps(told, indent=2) + "\n")


def save_array(path: Path, values: npt.NDArray[Any]) -> None:
    """Write an array as `numpy.save` does, which says nothing where a disk gets full with its last bytes.

    Raises:
        OSError: It cannot be written whole.
    """
    with path.open("wb") as file:
        # numpy hands its bytes to anything with a `write`, but to a file of Python by C.
        npy.write_array(SimpleNamespace(write=file.write), values, allow_pickle=False)


def _spent(folder: Path) -> float:
    """Seconds that the search in a folder has taken so far."""
    try:
        return float((folder / SPENT_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0


def _found(  # noqa: PLR0917
    engine: Engine, best: Path, problem: Problem, seconds: float, partial: str = "", stopped: bool = False
) -> Found:
    """What a search left, checked."""
    try:
        with np.load(best, allow_pickle=False) as left:
            facts = decode(parse_json(str(left["found"])), dict[str, Any])
            scores = {split: np.asarray(left[split], np.float64) for split in SCORED}
    except DAMAGES as error:
        best.unlink()  # nothing can go on from it
        raise TrainingError(f"{engine.title} left a damaged {best} ({error}): run the same command again") from None
    for split, values in scores.items():
        shape = len(problem.x[split]), problem.classes
        if values.shape != shape:
            raise TrainingError(f"{engine.title} left scores of {split} of shape {values.shape}: {shape} was due")
        if not np.isfinite(values).all():
            raise TrainingError(
                f"{engine.title} left a model whose scores of {split} are not finite: try another seed"
            )
        if not np.all((values >= -_ROUNDING) & (values <= 1 + _ROUNDING)):
            raise TrainingError(f"{engine.title} left scores of {split} that are no probabilities")
        np.clip(values, 0, 1, out=values)
    return Found(scores, facts | {"search_seconds": seconds}, partial, stopped)
