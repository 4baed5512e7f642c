"""Running the cells of a benchmark, one process each, several at a time, beside others who do the same.

The process of a cell inherits its lock: while it lives, nobody else runs the cell, even when what started it is gone.
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
"""Called with a cell and its folder, which holds its ``cell.yaml``, gives the command that runs it."""

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
    tell: Callable[[str], None] = print,
) -> None:
    """Run the cells that are not done and that nobody else runs; what failed before is tried again.

    A cell that fails is noted and the others go on; ask `medmnist_hf.training.benchmark.status.status_of` what came
    of each.

    Args:
        cells: The cells.
        out: The benchmark's folder; made where it is missing.
        command: What runs a cell.
        jobs: Processes at a time.
        keep_going: Start further cells after one failed.
        tell: Called with a line for each cell that starts and ends.

    Raises:
        KeyboardInterrupt: Ctrl-C; all processes were ended, and the same call goes on.
        TrainingError: A file of results is damaged.
        OSError: The folder cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    session = _Session(cells, out, command, jobs, tell)
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
    tell: Callable[[str], None]
    ended: int = 0
    seconds: list[float] = field(default_factory=list)
    running: list[_Process] = field(default_factory=list)
    waiting: deque[BenchmarkRun] = field(default_factory=deque)

    def run(self, keep_going: bool) -> None:
        states = {cell.name: status_of(cell, self.out).state for cell in self.cells}
        self.waiting.extend(cell for cell in self.cells if states[cell.name] is not State.DONE)
        self.ended = len(self.cells) - len(self.waiting)
        if self.ended:
            self.tell(f"{self.ended} of {len(self.cells)} cells are done already")
        looked_again = set()
        while self.waiting or self.running:
            while self.waiting and len(self.running) < self.jobs:
                cell = self.waiting.popleft()
                lock = self._claim(cell)
                if lock is not None:
                    self._take(cell, lock, tried_before=states[cell.name] is State.FAILED)
                elif cell.name not in looked_again:  # by the end its other process may have ended too
                    looked_again.add(cell.name)
                    self.waiting.append(cell)
                else:
                    self.tell(f"{cell.name}: left to another process")
            for process in self._ended():
                if not self._close(process) and not keep_going:
                    self.waiting.clear()

    def stop(self) -> None:
        """End what still runs."""
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
        """Start a cell, unless another process has run it meanwhile."""
        folder = self.out / cell.name
        failed = folder / FAILED_NAME
        if is_done(cell, folder) or (failed.exists() and not tried_before):
            self.ended += 1
            self.tell(f"{self._count()} {cell.name}: another process ran it")
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
        self.tell(f"{self._count()} {cell.name}: started")

    def _environment(self) -> dict[str, str]:
        """That of this process; several cells at a time share its cores."""
        if self.jobs == 1:
            return dict(os.environ)
        return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // self.jobs))} | os.environ

    def _ended(self) -> Iterator[_Process]:
        """Processes that have ended by now, waiting a little for one."""
        time.sleep(_PAUSE if self.running else 0)
        for process in list(self.running):
            if process.child.poll() is not None:
                yield process

    def _close(self, process: _Process) -> bool:
        """Note how a process ended; whether its cell is done."""
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
            told = _scores(read_results(folder / RESULTS_NAME))
            self.tell(f"{self._count()} {cell.name}: {told} in {_duration(seconds)}{self._left()}")
        else:
            self.tell(f"{self._count()} {cell.name}: {f'failed: {note}' if note else 'stopped'}{self._left()}")
        return done

    def _count(self) -> str:
        return f"[{self.ended}/{len(self.cells)}]"

    def _left(self) -> str:
        """How long the rest will take if its cells take as long as those done so far."""
        rest = len(self.waiting) + len(self.running)
        if not rest or not self.seconds:
            return ""
        mean = sum(self.seconds) / len(self.seconds)
        return f"; about {_duration(mean * max(1.0, rest / self.jobs))} left"


def _scores(result: RunResult) -> str:
    """AUC and ACC on test, or on validation where test was not scored."""
    split, means = ("test", result.test) if result.test else ("validation", result.validation)
    auc, acc = ("unknown" if math.isnan(one.mean) else f"{one.mean:.3f}" for one in (means.auc, means.acc))
    return result.provenance.mark(f"{split} AUC {auc} and ACC {acc}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
