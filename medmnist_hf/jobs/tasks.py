"""Tasks in a folder: their list, and for each of them whether it is done, running, failed, interrupted or waiting.

The folder is the only state: any engine can continue what another one left. It holds::

    tasks.json             the tasks, in order; the index of a task is its rank
    completions/00003      the task of rank 3 is done
    failures/00003         it failed; the file holds one line with the reason
    running/00003          it is running, and touched regularly; the file names the machine
    logs/NAME.txt          the output of a task, unless the task names another file

The names of the files of `completions` are those of datatrove, whose executors skip completed ranks.
"""

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from medmnist_hf.errors import JobError, cannot_read
from medmnist_hf.files import read_document, write_atomically
from medmnist_hf.typed_json import Pattern, decode_versioned, encode

JOBS_DIR: Final = ".jobs"
"""Folder of the tasks and their states, within the folder that a command writes to."""

TASKS_NAME: Final = "tasks.json"
COMPLETIONS: Final = "completions"
FAILURES: Final = "failures"
RUNNING: Final = "running"
LOGS: Final = "logs"

BEAT: Final = 10.0
"""Seconds between touches of the file of a running task."""

STALE: Final = 60.0
"""Seconds without a touch after which a task counts as interrupted."""

RESUME: Final = "run the same command again to resume it"
"""Hint for a task that was interrupted."""

_FORMAT: Final = 1
_LONGEST_REASON: Final = 2000

TaskName = Annotated[str, Pattern(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,199}", "a name of letters, digits and _ . @ -")]


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
    """

    name: TaskName
    command: tuple[str, ...]
    log: str

    @classmethod
    def of(cls, name: str, *command: str) -> "Task":
        """Create a task with its log in the folder of the tasks."""
        return cls(name, command, f"{LOGS}/{name}.txt")


@dataclass(frozen=True, slots=True)
class _Tasks:
    """Content of ``tasks.json``."""

    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class TaskFolder:
    """A folder of tasks.

    Attributes:
        path: Path of the folder; it may not exist yet.
    """

    path: Path

    def read(self) -> tuple[Task, ...]:
        """Read the list of tasks; empty if there is none.

        Raises:
            JobError: The list is damaged.
        """
        path = self.path / TASKS_NAME
        try:
            listed: _Tasks = decode_versioned(read_document(path), _Tasks, _FORMAT)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            raise JobError(cannot_read(path, error, f"remove {self.path}, then run again")) from None
        return listed.tasks

    def write(self, tasks: Sequence[Task], is_done: Callable[[Task], bool | None]) -> None:
        """Write a list of tasks, and mark as completed those that are done.

        If the folder holds exactly these tasks, failures and interruptions of earlier runs are kept until the task is
        run again. If it holds others, completed tasks that are equal stay completed.

        Args:
            tasks: The tasks, with different names.
            is_done: Whether the result of a task exists; None if only the marker of an earlier run can say so.

        Raises:
            JobError: The existing list is damaged.
            OSError: The folder cannot be written.
        """
        earlier = self.read()
        statuses = self.expected(tasks, is_done)
        if tuple(tasks) != earlier:
            for kind in (COMPLETIONS, FAILURES, RUNNING):
                self._clear(kind)
        for kind in (COMPLETIONS, FAILURES, RUNNING, LOGS):
            (self.path / kind).mkdir(parents=True, exist_ok=True)
        listed = {"format": _FORMAT} | encode(_Tasks(tuple(tasks)))
        write_atomically(self.path / TASKS_NAME, json.dumps(listed, indent=1) + "\n")
        for rank, task in enumerate(tasks):
            status = statuses[task.name]
            if status.state is State.DONE:
                self.complete(rank)
                continue
            self._marker(COMPLETIONS, rank).unlink(missing_ok=True)
            if status.state is State.FAILED:
                self.fail(rank, status.note)
            elif status.state is State.INTERRUPTED:
                self.begin(rank)
                self.interrupt(rank)

    def expected(self, tasks: Sequence[Task], is_done: Callable[[Task], bool | None]) -> dict[str, Status]:
        """Determine the status that each of some tasks will have once `write` has listed them; writes nothing.

        Raises:
            JobError: The existing list is damaged.
        """
        equal, earlier = set(self.read()), self.statuses()
        statuses = {}
        for task in tasks:
            status = earlier[task.name] if task in equal else _WAITING
            done = is_done(task)
            if done:
                status = Status(State.DONE)
            elif done is False and status.state is State.DONE:
                status = _WAITING
            statuses[task.name] = status
        return statuses

    def statuses(self) -> dict[str, Status]:
        """Determine the status of every task, by name, in order.

        Raises:
            JobError: The list is damaged.
        """
        done, failed, running = (self._ranks(kind) for kind in (COMPLETIONS, FAILURES, RUNNING))
        return {
            task.name: self._status(rank, rank in done, rank in failed, rank in running)
            for rank, task in enumerate(self.read())
        }

    def _status(self, rank: int, done: bool, failed: bool, running: bool) -> Status:
        if done:
            return Status(State.DONE)
        if running:
            with contextlib.suppress(OSError):
                path = self._marker(RUNNING, rank)
                if time.time() - path.stat().st_mtime < STALE:
                    return Status(State.RUNNING, f"on {_text(path)}")
                return Status(State.INTERRUPTED, RESUME)
        if failed:
            return Status(State.FAILED, self.reason(rank))
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
        for rank in ranks:
            self._marker(FAILURES, rank).unlink(missing_ok=True)
            self._marker(RUNNING, rank).unlink(missing_ok=True)

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

    def _marker(self, kind: str, rank: int) -> Path:
        return self.path / kind / f"{rank:05d}"

    def _ranks(self, kind: str) -> set[int]:
        try:
            names = [path.name for path in (self.path / kind).iterdir()]
        except FileNotFoundError:
            return set()
        return {int(name) for name in names if name.isdecimal()}

    def _clear(self, kind: str) -> None:
        for rank in self._ranks(kind):
            self._marker(kind, rank).unlink(missing_ok=True)


_WAITING: Final = Status(State.WAITING)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()


def count(statuses: Iterable[Status]) -> str:
    """Describe how many tasks are in each state, e.g. ``3 done, 1 failed``; states without tasks are left out."""
    numbers = dict.fromkeys(State, 0)
    for status in statuses:
        numbers[status.state] += 1
    return ", ".join(f"{number:,} {state}" for state, number in numbers.items() if number)
