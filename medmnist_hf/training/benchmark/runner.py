"""Run the cells of a benchmark in parallel processes, which may share the benchmark's folder with other runners.

The process of a cell inherits the lock of the cell. No one else runs the cell until the process ends, even if the
benchmark that started it was killed.
"""

import math
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from medmnist_hf.files import write_atomically
from medmnist_hf.training.benchmark.matrix import BenchmarkRun
from medmnist_hf.training.benchmark.status import (
    CONFIG_NAME,
    FAILED_NAME,
    LOG_NAME,
    State,
    is_done,
    lock_of,
    reason_of,
    status_of,
)
from medmnist_hf.training.results import RESULTS_NAME, RunResult, read_results

Command = Callable[[BenchmarkRun, Path], list[str]]
"""Function that returns the command to run a cell, given the cell and its folder, which contains ``cell.yaml``."""

_PAUSE: Final = 0.05
_GRACE: Final = 20.0
_STOPPED: Final = (130, -signal.SIGINT, -signal.SIGTERM)


def run_cells(
    cells: Sequence[BenchmarkRun],
    out: Path,
    command: Command,
    *,
    jobs: int = 1,
    keep_going: bool = True,
    report: Callable[[str], None] = print,
) -> None:
    """Run the cells that are neither done nor running elsewhere; failed cells are tried again.

    A failure is recorded and does not stop the other cells; see `medmnist_hf.training.benchmark.status.status_of`.

    Args:
        cells: The cells.
        out: The benchmark's folder; created if missing.
        command: Returns the command that runs a cell.
        jobs: Number of processes at a time.
        keep_going: Start further cells after a failure.
        report: Called with one line whenever a cell starts or ends.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed. All processes have been ended; the same call resumes.
        TrainingError: A file of results is damaged.
        OSError: The folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    session = _Session(cells, out, command, jobs, report)
    try:
        session.run(keep_going)
    finally:
        session.stop()


@dataclass(slots=True, eq=False)
class _Process:
    cell: BenchmarkRun
    child: subprocess.Popen[bytes]
    lock: int
    begun: float


@dataclass(slots=True, eq=False)
class _Session:
    """One call of `run_cells`."""

    cells: Sequence[BenchmarkRun]
    out: Path
    command: Command
    jobs: int
    report: Callable[[str], None]
    ended: int = 0
    seconds: list[float] = field(default_factory=list)
    running: list[_Process] = field(default_factory=list)
    waiting: deque[BenchmarkRun] = field(default_factory=deque)

    def run(self, keep_going: bool) -> None:
        states = {cell.name: status_of(cell, self.out).state for cell in self.cells}
        self.waiting.extend(cell for cell in self.cells if states[cell.name] is not State.DONE)
        self.ended = len(self.cells) - len(self.waiting)
        if self.ended:
            self.report(f"{self.ended} of {len(self.cells)} cells are done already")
        rechecked = set()
        while self.waiting or self.running:
            while self.waiting and len(self.running) < self.jobs:
                cell = self.waiting.popleft()
                lock = self._claim(cell)
                if lock is not None:
                    self._take(cell, lock, tried_before=states[cell.name] is State.FAILED)
                elif cell.name not in rechecked:  # the other process may end in the meantime
                    rechecked.add(cell.name)
                    self.waiting.append(cell)
                else:
                    self.report(f"{cell.name}: left to another process")
            for process in self._ended():
                if not self._close(process) and not keep_going:
                    self.waiting.clear()

    def stop(self) -> None:
        """Terminate the running processes."""
        for process in self.running:
            process.child.terminate()
        until = time.monotonic() + _GRACE
        for process in self.running:
            try:
                process.child.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.child.kill()
                process.child.wait()
            os.close(process.lock)
        self.running.clear()

    def _claim(self, cell: BenchmarkRun) -> int | None:
        folder = self.out / cell.name
        folder.mkdir(exist_ok=True)
        return lock_of(folder)

    def _take(self, cell: BenchmarkRun, lock: int, *, tried_before: bool) -> None:
        """Start a cell, unless another process has run it in the meantime."""
        folder = self.out / cell.name
        failed = folder / FAILED_NAME
        if is_done(cell, folder) or (failed.exists() and not tried_before):
            self.ended += 1
            self.report(f"{self._count()} {cell.name}: another process ran it")
            os.close(lock)
            return
        try:
            failed.unlink(missing_ok=True)
            write_atomically(folder / CONFIG_NAME, cell.recipe.to_yaml())
            with (folder / LOG_NAME).open("wb") as log:
                child = subprocess.Popen(
                    self.command(cell, folder),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[lock],
                    env=self._environment(),
                )
        except BaseException:
            os.close(lock)
            raise
        self.running.append(_Process(cell, child, lock, time.monotonic()))
        self.report(f"{self._count()} {cell.name}: started")

    def _environment(self) -> dict[str, str]:
        """Environment of a cell; parallel cells share the cores."""
        if self.jobs == 1:
            return dict(os.environ)
        return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // self.jobs))} | os.environ

    def _ended(self) -> Iterator[_Process]:
        """Wait briefly, then yield the processes that have ended."""
        time.sleep(_PAUSE if self.running else 0)
        for process in list(self.running):
            if process.child.poll() is not None:
                yield process

    def _close(self, process: _Process) -> bool:
        """Record how a process ended, and return whether its cell is done."""
        cell, folder = process.cell, self.out / process.cell.name
        seconds = time.monotonic() - process.begun
        done = process.child.returncode == 0 and is_done(cell, folder)
        note = ""
        if not done and process.child.returncode not in _STOPPED:
            note = reason_of(folder / LOG_NAME, process.child.returncode, asdict(cell.recipe).values())
            write_atomically(folder / FAILED_NAME, note + "\n")
        self.running.remove(process)
        os.close(process.lock)
        self.ended += 1
        if done:
            self.seconds.append(seconds)
            scores = _scores(read_results(folder / RESULTS_NAME))
            self.report(f"{self._count()} {cell.name}: {scores} in {_duration(seconds)}{self._left()}")
        else:
            self.report(f"{self._count()} {cell.name}: {f'failed: {note}' if note else 'stopped'}{self._left()}")
        return done

    def _count(self) -> str:
        return f"[{self.ended}/{len(self.cells)}]"

    def _left(self) -> str:
        """Estimated remaining time, from the mean time of the finished cells; empty if unknown."""
        rest = len(self.waiting) + len(self.running)
        if not rest or not self.seconds:
            return ""
        mean = sum(self.seconds) / len(self.seconds)
        return f"; about {_duration(mean * max(1.0, rest / self.jobs))} left"


def _scores(result: RunResult) -> str:
    """AUC and ACC on test, or on validation if test was not scored."""
    split, means = ("test", result.test) if result.test else ("validation", result.validation)
    auc, acc = ("unknown" if math.isnan(score.mean) else f"{score.mean:.3f}" for score in (means.auc, means.acc))
    return result.provenance.mark(f"{split} AUC {auc} and ACC {acc}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
