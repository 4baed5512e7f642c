"""Run the tasks of a folder on an engine until all have ended; the same call does the rest later."""

import importlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from medmnist_hf.errors import JobError, counted
from medmnist_hf.extras import suggest_install
from medmnist_hf.files import BusyError, sole_process
from medmnist_hf.jobs.engine import Engine
from medmnist_hf.jobs.settings import Settings
from medmnist_hf.jobs.tasks import SLURM_JOBS_NAME, State, Status, Task, TaskFolder

ENGINES: Final = {
    "local": ("medmnist_hf.jobs.local", "LocalEngine", None),
    "slurm": ("medmnist_hf.jobs.slurm", "SlurmEngine", "jobs"),
    "ray": ("medmnist_hf.jobs.ray", "RayEngine", "ray"),
    "hf-jobs": ("medmnist_hf.jobs.hf_jobs", "HfJobsEngine", None),
}
"""Name -> module, class, and the extra that it needs."""

LOCK_NAME: Final = "submit.lock"

Report = Callable[[str], None]


def open_engine(name: str, settings: Settings) -> Engine:
    """Open an engine by its name.

    Raises:
        JobError: The name is unknown.
        MissingModuleError: Its packages are not installed.
    """
    if name not in ENGINES:
        raise JobError(f"unknown engine {name!r}: choose from {', '.join(ENGINES)}")
    module, member, extra = ENGINES[name]
    with suggest_install(extra):
        opened: Engine = getattr(importlib.import_module(module), member)(settings)
    return opened


def check_engine(engine: Engine, *, wait: bool) -> None:
    """Check that an engine can be used as wanted; writes nothing.

    Raises:
        JobError: It cannot, or its tasks would end with this process although nothing waits for them.
    """
    if not wait and not engine.detaches:
        raise JobError(f"tasks of {engine.name} end with this command: leave out --no-wait")
    engine.check()


def run_tasks(
    folder: TaskFolder,
    tasks: Sequence[Task],
    engine: Engine,
    *,
    is_done: Callable[[Task], bool | None] = lambda task: None,
    is_selected: Callable[[Task], bool] = lambda task: True,
    keep_going: bool = True,
    repeat: bool = False,
    wait: bool = True,
    describe: Callable[[Task], str] = lambda task: "done",
    explain: Callable[[Task, str], str] = lambda task, reason: reason,
    report: Report = print,
) -> dict[str, Status]:
    """Run tasks that are not done, failed ones again, and wait until all have ended.

    Args:
        folder: Their folder; created if missing.
        tasks: All tasks.
        engine: Engine to run them on.
        is_done: Whether the result of a task exists; None if only the marker of an earlier run can say so.
        is_selected: Whether to run a task.
        keep_going: Run further tasks after a failure.
        repeat: If the folder holds exactly these tasks and all are marked as done, run them again.
        wait: Wait for the tasks; otherwise return once they are submitted.
        describe: Describes the result of a task that was just done.
        explain: Rewrites the reason of a failure for the user.
        report: Called with a line whenever a task ends.

    Returns:
        Status of each task, by name.

    Raises:
        JobError: The tasks of the folder are already running, or the engine cannot run them.
        KeyboardInterrupt: Ctrl-C was pressed, or SIGTERM received. Running tasks have been ended; those that are done
            stay so.
        OSError: The folder cannot be written.
    """
    check_engine(engine, wait=wait)
    if not engine.sees_results:
        is_done, describe = _unknown, partial(_describe_fetched, describe)
    folder.path.mkdir(parents=True, exist_ok=True)
    with _sole_submission(folder), _stopped_by_sigterm():
        if running := still_running(folder, engine):
            raise JobError(f"{running} is still running tasks of {folder.path}: wait until it ends, or cancel it")
        folder.write(tasks, is_done, repeat=repeat)
        selected = {rank for rank, task in enumerate(tasks) if is_selected(task)}
        watch = _Watch(folder, tasks, selected, describe, explain, report)
        ranks = sorted(selected - watch.done)
        watch.begin(ranks)
        try:
            if ranks:
                engine.start(folder, tasks, ranks)
            if wait:
                _wait(engine, watch, ranks, keep_going)
        except BaseException:
            _stop(engine, folder)
            raise
        if wait:
            engine.forget(folder)
            folder.interrupt_running()
            watch.look()
        statuses = folder.statuses(tasks)
        never = sum(statuses[tasks[rank].name].state is State.WAITING for rank in ranks)
        if wait and keep_going and never and (logs := engine.job_logs(folder)):
            report(f"not started: {never:,} of {counted(len(ranks), 'task')}; what their jobs said is in {logs}")
        return statuses


def still_running(folder: TaskFolder, engine: Engine) -> str:
    """Say what still runs tasks of a folder, on this engine or on Slurm; empty for nothing."""
    if engine.name != "slurm" and (folder.path / SLURM_JOBS_NAME).exists():
        return open_engine("slurm", engine.settings).still_running(folder)
    return engine.still_running(folder)


def _unknown(task: Task) -> None:
    """Only its marker says whether a task is done."""


def _describe_fetched(describe: Callable[[Task], str], task: Task) -> str:
    """Describe a task from the file of its result, the only one that a distant engine fetches."""
    return describe(task) if task.result else "done"


def _stop(engine: Engine, folder: TaskFolder) -> None:
    try:
        engine.stop()
    finally:
        engine.forget(folder)
        folder.interrupt_running()


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Handle SIGTERM, with which schedulers end a program, like Ctrl-C; only the main thread can receive it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _sole_submission(folder: TaskFolder) -> Iterator[None]:
    try:
        with sole_process(folder.path / LOCK_NAME, f"running tasks of {folder.path}", wait=False):
            yield
    except BusyError as error:
        raise JobError(error) from None


def _wait(engine: Engine, watch: "_Watch", ranks: Sequence[int], keep_going: bool) -> None:
    wanted = set(ranks)
    while not wanted <= watch.done | watch.failed and engine.is_active():
        watch.look()
        if watch.failed and not keep_going:
            engine.stop()
            return
        time.sleep(engine.pause)


@dataclass(slots=True)
class _Watch:
    """Reports selected tasks that end."""

    folder: TaskFolder
    tasks: Sequence[Task]
    selected: Set[int]
    describe: Callable[[Task], str]
    explain: Callable[[Task, str], str]
    report: Report
    begun: float = field(default_factory=time.monotonic)
    done: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    first: int = 0

    def __post_init__(self) -> None:
        done, _ = self.folder.ended()
        self.done = done & self.selected
        self.first = len(self.done)

    def begin(self, ranks: Sequence[int]) -> None:
        """Forget earlier failures of the tasks that will run."""
        if self.first:
            self.report(f"{self.first:,} of {len(self.selected):,} are done already")
        self.folder.retry(ranks)

    def look(self) -> None:
        """Report what has ended since the last look."""
        done, failed = (ranks & self.selected for ranks in self.folder.ended())
        for rank in sorted(done - self.done):
            self.done.add(rank)
            self._report(rank, self.describe(self.tasks[rank]))
        for rank in sorted(failed - self.failed - self.done):
            self.failed.add(rank)
            self._report(rank, f"failed: {self.explain(self.tasks[rank], self.folder.reason(rank))}")

    def _report(self, rank: int, text: str) -> None:
        ended = len(self.done) + len(self.failed)
        self.report(f"[{ended}/{len(self.selected)}] {self.tasks[rank].name}: {text}{self._left()}")

    def _left(self) -> str:
        """Estimated remaining time, from the pace so far; empty if unknown or nothing is left."""
        rest, ended = len(self.selected) - len(self.done) - len(self.failed), len(self.done) - self.first
        if not rest or not ended:
            return ""
        return f"; about {duration((time.monotonic() - self.begun) / ended * rest)} left"


def duration(seconds: float) -> str:
    """Describe a duration, e.g. ``80 s``, ``3 min`` or ``1.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def unfinished(statuses: dict[str, Status], folder: TaskFolder) -> list[str]:
    """Describe the tasks that are not done, a line each, with the file of their output if they were started."""
    logs = {task.name: folder.log_of(task) for task in folder.read()}
    return [
        f"{status.state}: {name}"
        + (f": {status.note}" if status.note else "")
        + (f" (output: {logs[name]})" if status.state is not State.WAITING else "")
        for name, status in statuses.items()
        if status.state is not State.DONE
    ]
