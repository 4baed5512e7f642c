"""Run one task as a process: its output goes to its log, and its end is marked in the folder of the tasks."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from io import BufferedWriter
from pathlib import Path
from typing import Final

from medmnist_hf.errors import one_line
from medmnist_hf.jobs.tasks import BEAT, Task, TaskFolder

_PYTHON: Final = "python"
_STOPPED: Final = (130, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)
"""Exit codes of a process that was asked to end, which is not a failure."""
_GRACE: Final = 20.0
"""Seconds for a process to end when asked, before it is killed."""
_PAUSE: Final = 0.5
_SET_DEATH_SIGNAL: Final = 1
"""PR_SET_PDEATHSIG of Linux, see prctl(2)."""
_LONGEST_NOTE: Final = 400
_LOG_END: Final = 64 << 10
"""Bytes at the end of a log that are searched for the reason of a failure."""


def run_task(folder: TaskFolder, rank: int, task: Task, environment: Mapping[str, str], stop: threading.Event) -> bool:
    """Run a task, unless it is done.

    Args:
        folder: Folder of the tasks.
        rank: Rank of the task.
        task: The task.
        environment: Environment of its process.
        stop: Once set, the process is ended, and the task is marked as interrupted.

    Returns:
        Whether the task is done.

    Raises:
        OSError: The folder cannot be written.
    """
    if folder.is_complete(rank):
        return True
    folder.begin(rank)
    try:
        reason = _run(folder, task, environment, lambda: folder.touch(rank), stop)
        if reason is None:
            folder.interrupt(rank)
        elif reason:
            folder.fail(rank, reason)
        else:
            folder.complete(rank)
    except BaseException:
        folder.interrupt(rank)
        raise
    return reason == ""


def _run(
    folder: TaskFolder, task: Task, environment: Mapping[str, str], touch: Callable[[], None], stop: threading.Event
) -> str | None:
    """Run a task's process; return why it failed, empty if it did not, None if it was interrupted."""
    log = folder.log_of(task)
    with contextlib.ExitStack() as files:
        output, result = (
            files.enter_context(_create(path)) if path else None for path in (log, folder.result_of(task))
        )
        try:
            child = subprocess.Popen(
                _argv(task),
                stdin=subprocess.DEVNULL,
                stdout=result or output,
                stderr=output,
                env=dict(environment),
                cwd=task.cwd if task.cwd and Path(task.cwd).is_dir() else None,
                start_new_session=True,  # so that all its processes can be ended together
                preexec_fn=_prepare(os.getpid()),  # noqa: PLW1509 - it only makes system calls
            )
        except OSError as error:
            return one_line(f"cannot start {task.command[0]} ({error.strerror})")
    code = _wait(child, touch, stop)
    if code in _STOPPED:
        return None
    return reason_of(log, code) if code else ""


def _create(path: Path) -> BufferedWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def _argv(task: Task) -> list[str]:
    program, *arguments = task.command
    return [sys.executable if program == _PYTHON else program, *arguments]


def _wait(child: "subprocess.Popen[bytes]", touch: Callable[[], None], stop: threading.Event) -> int:
    """Wait for a process; if `stop` is set or this thread is interrupted, end it. Ends all that it started."""
    touched, code = time.monotonic(), None
    try:
        while not stop.is_set():
            try:
                code = child.wait(_PAUSE)
                break
            except subprocess.TimeoutExpired:
                if time.monotonic() - touched > BEAT:
                    touch()
                    touched = time.monotonic()
    finally:
        if code is None:
            _end(child)
        with contextlib.suppress(OSError):  # nothing is left, or on macOS only a zombie
            os.killpg(child.pid, signal.SIGKILL)
    return -signal.SIGTERM if code is None else code


def _end(child: "subprocess.Popen[bytes]") -> None:
    for number, seconds in ((signal.SIGINT, _GRACE), (signal.SIGTERM, _GRACE), (signal.SIGKILL, None)):
        try:
            os.killpg(child.pid, number)
            child.wait(seconds)
        except ProcessLookupError:
            child.wait()
        except subprocess.TimeoutExpired:
            continue
        return


def _prepare(parent: int) -> Callable[[], None]:
    """Return what a child calls first: it can be asked to end, and Linux ends it when its parent dies by SIGKILL."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # a shell or the end of a job may have set them to be ignored
            signal.signal(number, signal.SIG_DFL)
        if prctl is not None:
            prctl(_SET_DEATH_SIGNAL, signal.SIGTERM)
            if os.getppid() != parent:  # it died before the call
                os._exit(128 + signal.SIGTERM)

    return prepare


def reason_of(log: Path, code: int) -> str:
    """Why a process failed, in one line: its error message or the last line of its output.

    Args:
        log: File with its output.
        code: Its exit code, negative if it was ended by a signal.
    """
    if code < 0:
        memory = ", possibly because memory ran out" if code == -signal.SIGKILL else ""
        return f"ended by {_name(-code)}{memory}: see {log.name}"
    try:
        with log.open("rb") as output:
            output.seek(max(0, output.seek(0, os.SEEK_END) - _LOG_END))
            text = output.read().decode("utf-8", "replace")
    except FileNotFoundError:  # the task removed it
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    own = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if own:
        return one_line(own[-1])[:_LONGEST_NOTE]
    last = f" ({one_line(lines[-1])[:_LONGEST_NOTE]})" if lines else ""
    return f"ended with exit code {code}{last}: see {log.name}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
