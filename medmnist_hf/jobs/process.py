"""Run one task as a process: its output goes to its log, and its end is marked in the folder of the tasks."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
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
    log = folder.log_of(task)
    log.parent.mkdir(parents=True, exist_ok=True)
    folder.begin(rank)
    code = None
    try:
        with log.open("wb") as output:
            try:
                child = subprocess.Popen(
                    _argv(task),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=dict(environment),
                    start_new_session=True,  # so that all its processes can be ended together
                    # It makes one system call and no allocation, so other threads cannot block it.
                    preexec_fn=_end_with(os.getpid()) if sys.platform == "linux" else None,  # noqa: PLW1509
                )
            except OSError as error:
                folder.fail(rank, one_line(f"cannot start {task.command[0]} ({error.strerror})"))
                return False
        code = _wait(child, lambda: folder.touch(rank), stop)
    finally:
        if code is None or code in _STOPPED:
            folder.interrupt(rank)
    if code == 0:
        folder.complete(rank)
    elif code not in _STOPPED:
        folder.fail(rank, reason_of(log, code))
    return code == 0


def _argv(task: Task) -> list[str]:
    program, *arguments = task.command
    return [sys.executable if program == _PYTHON else program, *arguments]


def _wait(child: "subprocess.Popen[bytes]", touch: Callable[[], None], stop: threading.Event) -> int:
    """Wait for a process; if `stop` is set or this thread is interrupted, end it with all that it started."""
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


def _end_with(parent: int) -> Callable[[], None]:
    """Return what a child calls to be ended by Linux when its parent dies, even by SIGKILL."""
    prctl = ctypes.CDLL(None).prctl

    def prepare() -> None:
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
    with log.open("rb") as output:
        output.seek(max(0, output.seek(0, os.SEEK_END) - _LOG_END))
        text = output.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    own = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if own:
        return one_line(own[-1])[:_LONGEST_NOTE]
    if code < 0:
        memory = ", possibly because memory ran out" if code == -signal.SIGKILL else ""
        return f"ended by {signal.Signals(-code).name}{memory}: see {log.name}"
    last = f" ({one_line(lines[-1])[:_LONGEST_NOTE]})" if lines else ""
    return f"ended with exit code {code}{last}: see {log.name}"
