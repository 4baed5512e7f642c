"""Tasks in a folder: their list, and for each of them whether it is done, running, failed, interrupted or waiting.

The folder is the only state: any engine can continue what another one left. It holds::

    tasks.json             the tasks, in order; the index of a task is its rank
    completions/00003      the task of rank 3 is done
    failures/00003         it failed; the file holds one line with the reason
    running/00003          it is running, and touched regularly; the file names the machine
    logs/NAME.txt          the output of a task, unless the task names another file
    results/NAME.txt       the standard output of a task that has a result

The names of the files of `completions` are those of datatrove, whose executors skip completed ranks.
"""

import contextlib
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from medmnist_hf.errors import UNPRINTABLE, JobError, cannot_read, shorten
from medmnist_hf.files import read_document, write_atomically
from medmnist_hf.typed_json import Pattern, decode_versioned, encode

JOBS_DIR: Final = ".jobs"
"""Folder of the tasks and their states, within the folder that a command writes to."""

TASKS_NAME: Final = "tasks.json"
COMPLETIONS: Final = "completions"
FAILURES: Final = "failures"
RUNNING: Final = "running"
LOGS: Final = "logs"
RESULTS: Final = "results"

SLURM_JOBS_NAME: Final = "slurm_jobs.json"
"""In the folder of the tasks, the ids of the jobs of Slurm that run them, even when nothing waits for them."""

BEAT: Final = 10.0
"""Seconds between touches of the file of a running task."""

STALE: Final = 60.0
"""Seconds without a touch after which a task counts as interrupted."""

RESUME: Final = "run the same command again to resume it"
"""Hint for a task that was interrupted."""

_FORMAT: Final = 1
_LIST_BYTES: Final = 256 << 20
"""Largest list that is read; 10,000 tasks have some 3 MB."""
_LONGEST_REASON: Final = 2000

_NAME: Final = Pattern(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,199}", "a name of letters, digits and _ . @ -")
TaskName = Annotated[str, _NAME]


class State(StrEnum):
    """Progress of a task."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Status:
    """A task's state, and a one-line reason or hint; may be empty."""

    state: State
    note: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """One command that can be run any number of times with the same result.

    Attributes:
        name: Unique name, which is also a file name.
        command: Program and arguments; the program ``python`` is the interpreter that runs the engine. Paths are
            absolute, since another machine may run it.
        log: File of its output, relative to the folder of the tasks.
        result: File of its standard output, relative to the folder of the tasks; empty if that is part of the log.
        cwd: Folder in which it runs on machines that have it, for relative paths in files that it reads; may be empty.

    Raises:
        JobError: There is no command, or its list could not be read again.
    """

    name: TaskName
    command: tuple[str, ...]
    log: str
    result: str = ""
    cwd: str = ""

    def __post_init__(self) -> None:
        if not self.command or not self.command[0]:
            raise JobError(f"task {shorten(self.name)} has no command")
        texts = (self.name, *self.command, self.log, self.result, self.cwd)
        if bad := [text for text in texts if UNPRINTABLE.search(text)]:
            raise JobError(f"task {shorten(self.name)} holds control characters: {shorten(bad[0])}")
        if not _NAME.admits(self.name):
            raise JobError(f"a task is named {shorten(self.name)}, must be {_NAME}")

    @classmethod
    def of(cls, name: str, *command: str) -> "Task":
        """Create a task with its log in the folder of the tasks."""
        return cls(name, command, f"{LOGS}/{name}.txt")

    @classmethod
    def with_result(cls, name: str, *command: str) -> "Task":
        """Create a task whose standard output is its result, apart from its log."""
        return cls(name, command, f"{LOGS}/{name}.txt", f"{RESULTS}/{name}.txt")


@dataclass(frozen=True, slots=True)
class _Tasks:
    """Content of ``tasks.json``."""

    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        if len({task.name for task in self.tasks}) < len(self.tasks):
            names = [task.name for task in self.tasks]
            raise JobError(f"two tasks are named {next(name for name in names if names.count(name) > 1)}")


@dataclass(frozen=True, slots=True)
class TaskFolder:
    """A folder of tasks.

    Attributes:
        path: Path of the folder; it may not exist yet.
    """

    path: Path

    @property
    def title(self) -> str:
        """Name of the folder; if that is `JOBS_DIR`, of the folder that it is in."""
        return self.path.parent.name if self.path.name == JOBS_DIR else self.path.name

    def read(self) -> tuple[Task, ...]:
        """Read the list of tasks; empty if there is none.

        Raises:
            JobError: The list is damaged.
        """
        path = self.path / TASKS_NAME
        try:
            listed: _Tasks = decode_versioned(read_document(path, _LIST_BYTES), _Tasks, _FORMAT)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, JobError) as error:
            raise JobError(cannot_read(path, error, f"remove {self.path}, then run again")) from None
        return listed.tasks

    def write(self, tasks: Sequence[Task], is_done: Callable[[Task], bool | None], *, repeat: bool = False) -> None:
        """Write a list of tasks, and mark as completed those that are done.

        If the folder holds exactly these tasks, failures and interruptions of earlier runs are kept until the task is
        run again. If it holds others, completed tasks that are equal stay completed.

        Args:
            tasks: The tasks, with different names.
            is_done: Whether the result of a task exists; None if only the marker of an earlier run can say so.
            repeat: If the folder holds exactly these tasks, and all are marked as completed, remove the marks, so
                that they run again.

        Raises:
            JobError: The existing list is damaged, or two tasks have the same name.
            OSError: The folder cannot be written.
        """
        listed, earlier = _Tasks(tuple(tasks)), self.read()
        statuses = self._expected(tasks, earlier, is_done, repeat)
        self.make_folders()
        if listed.tasks != earlier:
            for kind in (COMPLETIONS, FAILURES, RUNNING):
                self._clear(kind)
            text = json.dumps({"format": _FORMAT} | encode(listed), indent=1)
            write_atomically(self.path / TASKS_NAME, f"{text}\n")
        done, failed, running = (self._ranks(kind) for kind in (COMPLETIONS, FAILURES, RUNNING))
        for rank, task in enumerate(tasks):  # only what differs: each call is slow on a network disk
            status = statuses[task.name]
            if status.state is State.DONE:
                if rank not in done or rank in failed or rank in running:
                    self.complete(rank)
                continue
            if rank in done:
                self._marker(COMPLETIONS, rank).unlink(missing_ok=True)
            if status.state is State.FAILED and rank not in failed:
                self.fail(rank, status.note)
            elif status.state in {State.INTERRUPTED, State.RUNNING} and rank not in running:
                self.begin(rank)
                self.interrupt(rank)

    def make_folders(self) -> None:
        """Create the folders of the marks, which a bucket does not keep while they are empty."""
        for kind in (COMPLETIONS, FAILURES, RUNNING, LOGS):
            (self.path / kind).mkdir(parents=True, exist_ok=True)

    def expected(
        self, tasks: Sequence[Task], is_done: Callable[[Task], bool | None], *, repeat: bool = False
    ) -> dict[str, Status]:
        """Determine the status that each of some tasks will have once `write` has listed them; writes nothing.

        Raises:
            JobError: The existing list is damaged.
        """
        return self._expected(tasks, self.read(), is_done, repeat)

    def _expected(
        self, tasks: Sequence[Task], earlier: Sequence[Task], is_done: Callable[[Task], bool | None], repeat: bool
    ) -> dict[str, Status]:
        equal, marked = set(earlier), self.statuses(earlier)
        if repeat and tuple(tasks) == earlier and all(status.state is State.DONE for status in marked.values()):
            equal.clear()
        statuses = {}
        for task in tasks:
            status = marked[task.name] if task in equal else _WAITING
            done = is_done(task)
            if done:
                status = Status(State.DONE)
            elif done is False and status.state is State.DONE:
                status = _WAITING
            statuses[task.name] = status
        return statuses

    def statuses(self, tasks: Sequence[Task] | None = None) -> dict[str, Status]:
        """Determine the status of every task, by name, in order.

        Args:
            tasks: The tasks of the folder; read if None, which takes a second for 10,000.

        Raises:
            JobError: The list is damaged.
        """
        done, failed, running = (self._ranks(kind) for kind in (COMPLETIONS, FAILURES, RUNNING))
        return {
            task.name: self._status(rank, rank in done, rank in failed, rank in running)
            for rank, task in enumerate(self.read() if tasks is None else tasks)
        }

    def _status(self, rank: int, done: bool, failed: bool, running: bool) -> Status:
        if done:
            return Status(State.DONE)
        if failed:  # also if it is marked as running still: the mark of a failure is removed before a task runs
            return Status(State.FAILED, self.reason(rank))
        if running:
            with contextlib.suppress(OSError):
                path = self._marker(RUNNING, rank)
                if time.time() - path.stat().st_mtime < STALE:
                    return Status(State.RUNNING, f"on {_text(path)}")
                return Status(State.INTERRUPTED, RESUME)
        return _WAITING

    def is_complete(self, rank: int) -> bool:
        """Whether a task is marked as done."""
        return self._marker(COMPLETIONS, rank).exists()

    def begin(self, rank: int) -> None:
        """Mark a task as running on this machine."""
        self._marker(FAILURES, rank).unlink(missing_ok=True)
        write_atomically(self._marker(RUNNING, rank), platform.node())

    def touch(self, rank: int) -> None:
        """Show that a running task still runs."""
        with contextlib.suppress(OSError):  # such as a disk that is away for a moment
            os.utime(self._marker(RUNNING, rank))

    def interrupt(self, rank: int) -> None:
        """Mark a running task as interrupted."""
        with contextlib.suppress(OSError):
            os.utime(self._marker(RUNNING, rank), (0, 0))

    def complete(self, rank: int) -> None:
        """Mark a task as done."""
        self._marker(FAILURES, rank).unlink(missing_ok=True)
        self._marker(COMPLETIONS, rank).touch()
        self._marker(RUNNING, rank).unlink(missing_ok=True)

    def fail(self, rank: int, reason: str) -> None:
        """Mark a task as failed, for a reason of one line."""
        write_atomically(self._marker(FAILURES, rank), reason[:_LONGEST_REASON])
        self._marker(RUNNING, rank).unlink(missing_ok=True)

    def retry(self, ranks: Iterable[int]) -> None:
        """Remove the marks of failures and interruptions of tasks that will run."""
        for kind in (FAILURES, RUNNING):
            for rank in self._ranks(kind).intersection(ranks):
                self._marker(kind, rank).unlink(missing_ok=True)

    def interrupt_running(self) -> None:
        """Mark all tasks that are marked as running as interrupted: what ran them has ended."""
        for rank in self._ranks(RUNNING):
            self.interrupt(rank)

    def reason(self, rank: int) -> str:
        """Why a task failed, in one line; empty if it did not."""
        try:
            return _text(self._marker(FAILURES, rank))
        except OSError:
            return ""

    def ended(self) -> tuple[set[int], set[int]]:
        """Ranks that are done, and ranks that failed."""
        return self._ranks(COMPLETIONS), self._ranks(FAILURES)

    def log_of(self, task: Task) -> Path:
        """File of a task's output."""
        return Path(os.path.normpath(self.path / task.log))

    def result_of(self, task: Task) -> Path | None:
        """File of a task's standard output; None if that is part of the log."""
        return Path(os.path.normpath(self.path / task.result)) if task.result else None

    def _marker(self, kind: str, rank: int) -> Path:
        return self.path / kind / f"{rank:05d}"

    def _ranks(self, kind: str) -> set[int]:
        try:
            names = os.listdir(self.path / kind)  # noqa: PTH208 - a path for each of 10,000 markers takes long
        except FileNotFoundError:
            return set()
        return {int(name) for name in names if name.isdecimal()}

    def _clear(self, kind: str) -> None:
        for rank in self._ranks(kind):
            self._marker(kind, rank).unlink(missing_ok=True)


_WAITING: Final = Status(State.WAITING)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()


def unique_names(names: Sequence[str]) -> list[str]:
    """Names of tasks; repeated ones get a number."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return unique


def count(statuses: Iterable[Status]) -> str:
    """Describe how many tasks are in each state, e.g. ``3 done, 1 failed``; states without tasks are left out."""
    numbers = dict.fromkeys(State, 0)
    for status in statuses:
        numbers[status.state] += 1
    return ", ".join(f"{number:,} {state}" for state, number in numbers.items() if number)
