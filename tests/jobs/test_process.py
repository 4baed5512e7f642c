"""A task's process: its log, its marks, its heartbeat, and how it ends with all that it started."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from medmnist_hf.jobs import process
from medmnist_hf.jobs.process import reason_of, run_task
from medmnist_hf.jobs.tasks import State, Status, Task, TaskFolder
from tests.fixtures.paths import ROOT
from tests.fixtures.tasks import python, shell, wait_for


def run(tmp_path: Path, task: Task, stop: threading.Event | None = None) -> tuple[bool, Status]:
    folder = TaskFolder(tmp_path)
    folder.write([task], lambda task: None)
    done = run_task(folder, 0, task, os.environ | {"MARK": "seen"}, stop or threading.Event())
    return done, folder.statuses()[task.name]


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.strip().startswith("Z")


def pid_in(path: Path) -> int:
    wait_for(lambda: path.exists() and path.read_text().strip())
    return int(path.read_text())


def stop_once_started(stop: threading.Event, path: Path) -> None:
    pid_in(path)
    stop.set()


def test_both_streams_go_to_the_log_and_the_environment_is_used(tmp_path: Path) -> None:
    task = python("a", "import os, sys; print(os.environ['MARK'], flush=True); print('2', file=sys.stderr)")
    assert run(tmp_path, task) == (True, Status(State.DONE))
    assert (tmp_path / "logs" / "a.txt").read_text() == "seen\n2\n"


def test_a_result_is_apart_from_the_log(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import sys; print('rows'); print('50 %', file=sys.stderr)")
    task = Task.with_result("a", *command)
    for _ in range(2):  # a second run replaces both
        assert run(tmp_path, task) == (True, Status(State.DONE))
        (tmp_path / "completions" / "00000").unlink()
    folder = TaskFolder(tmp_path)
    result = folder.result_of(task)
    assert result == tmp_path / "results" / "a.txt" and result.read_text() == "rows\n"
    assert folder.log_of(task).read_text() == "50 %\n"
    assert folder.result_of(Task.of("b", *command)) is None


def test_nothing_waits_for_input(tmp_path: Path) -> None:
    assert run(tmp_path, shell("a", "cat"))[0]


def test_a_task_that_is_done_is_not_run(tmp_path: Path) -> None:
    folder, task = TaskFolder(tmp_path), shell("a", "false")
    folder.write([task], lambda task: True)
    assert run_task(folder, 0, task, {}, threading.Event())
    assert not (tmp_path / "logs" / "a.txt").exists()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'error: no luck'; echo bye; exit 1", "no luck"),
        ("echo hello; echo; exit 3", "ended with exit code 3 (hello): see a.txt"),
        ("exit 3", "ended with exit code 3: see a.txt"),
        ("rm logs/a.txt; exit 3", "ended with exit code 3: see a.txt"),
        ("echo 'error: harmless'; kill -9 $$", "ended by SIGKILL, possibly because memory ran out: see a.txt"),
        ("kill -SEGV $$", "ended by SIGSEGV: see a.txt"),
    ],
)
def test_a_failure_has_its_reason_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(tmp_path, shell("a", script)) == (False, Status(State.FAILED, reason))


def test_the_reason_is_short_and_found_in_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "a.txt"
    log.write_bytes(b"x" * 300_000 + b"\n\xff\r10 %\r\x1b[1merror in red\n")
    assert reason_of(log, 1) == "ended with exit code 1 (\\x1b[1merror in red): see a.txt"
    log.write_text("error: " + "y" * 5_000 + "\n")
    assert reason_of(log, 1) == "y" * 400
    assert reason_of(log, -50) == "ended by signal 50: see a.txt"  # a real-time signal of Linux, which has no name


def test_a_program_that_does_not_exist_is_a_failure(tmp_path: Path) -> None:
    done, status = run(tmp_path, Task.of("a", "/no/such/program"))
    assert (done, status) == (False, Status(State.FAILED, "cannot start /no/such/program (No such file or directory)"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_task_that_was_asked_to_end_is_interrupted(tmp_path: Path, number: int) -> None:
    assert run(tmp_path, shell("a", f"kill -{int(number)} $$"))[1].state is State.INTERRUPTED
    assert run(tmp_path, shell("a", f"exit {128 + number}"))[1].state is State.INTERRUPTED


def test_the_heartbeat_goes_on_while_a_task_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "BEAT", 0.05)
    monkeypatch.setattr(process, "_PAUSE", 0.02)
    marker = tmp_path / "running" / "00000"
    assert run(tmp_path, shell("a", f"touch -t 202001010000 {marker}; sleep 0.3; cp -p {marker} {tmp_path}/beat"))[0]
    assert (tmp_path / "beat").stat().st_mtime > time.time() - 60


def test_stop_ends_a_task_that_can_clean_up_and_all_that_it_started(tmp_path: Path) -> None:
    code = """
import pathlib, subprocess, sys, time
child = subprocess.Popen(["sleep", "100"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
try:
    time.sleep(100)
except KeyboardInterrupt:
    print("cleaned up")
    raise
"""
    (tmp_path / "task.py").write_text(code)
    task = Task.of("a", "python", str(tmp_path / "task.py"), str(tmp_path / "pid"))
    stop = threading.Event()
    threading.Thread(target=stop_once_started, args=[stop, tmp_path / "pid"]).start()
    done, status = run(tmp_path, task, stop)
    assert not done and status.state is State.INTERRUPTED
    assert "cleaned up" in (tmp_path / "logs" / "a.txt").read_text()
    wait_for(lambda: not alive(pid_in(tmp_path / "pid")))


def test_stop_ends_a_task_that_is_deaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_GRACE", 0.1)
    stop = threading.Event()
    task = shell("a", f"trap '' INT TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done")
    threading.Thread(target=stop_once_started, args=[stop, tmp_path / "pid"]).start()
    assert run(tmp_path, task, stop)[1].state is State.INTERRUPTED
    assert not alive(pid_in(tmp_path / "pid"))


@pytest.mark.parametrize("end", ["kill -9 $$", "exit 0", "exit 1"])
def test_what_a_task_leaves_running_is_ended(tmp_path: Path, end: str) -> None:
    run(tmp_path, shell("a", f"sleep 100 & echo $! > {tmp_path}/pid; {end}"))
    wait_for(lambda: not alive(pid_in(tmp_path / "pid")))


def test_a_task_can_be_interrupted_where_the_caller_cannot(tmp_path: Path) -> None:
    """As below ``nohup``, or where a shell starts it in the background; its children inherit that."""
    code = (
        "import pathlib, signal, sys, threading;"
        "[signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)];"
        "from medmnist_hf.jobs.process import run_task;"
        "from medmnist_hf.jobs.tasks import Task, TaskFolder;"
        "folder = TaskFolder(pathlib.Path(sys.argv[1])); task = Task.of('a', 'sleep', '100');"
        "folder.write([task], lambda task: None); stop = threading.Event();"
        "threading.Timer(0.2, stop.set).start(); run_task(folder, 0, task, {}, stop)"
    )
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=ROOT)
    assert time.monotonic() - begun < process._GRACE / 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can end the children of a process that dies")
def test_a_task_ends_with_the_process_that_waits_for_it(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, threading; from medmnist_hf.jobs.process import run_task;"
        "from medmnist_hf.jobs.tasks import Task, TaskFolder; folder = TaskFolder(pathlib.Path(sys.argv[1]));"
        "task = Task.of('a', '/bin/sh', '-c', 'echo $$ > ' + sys.argv[1] + '/pid; exec sleep 100');"
        "folder.write([task], lambda task: None);"
        "run_task(folder, 0, task, {'PATH': '/bin:/usr/bin'}, threading.Event())"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    child = pid_in(tmp_path / "pid")
    assert alive(child)
    parent.kill()
    parent.wait()
    wait_for(lambda: not alive(child))
    assert TaskFolder(tmp_path).statuses()["a"].state is State.RUNNING  # until its heartbeat is missed


def test_a_task_whose_end_cannot_be_written_is_interrupted(tmp_path: Path) -> None:
    """As on a full disk: it is run again."""
    with pytest.raises(OSError, match="failures"):
        run(tmp_path, shell("a", f"rm -r {tmp_path}/failures; touch {tmp_path}/failures; exit 1"))
    (tmp_path / "failures").unlink()
    assert TaskFolder(tmp_path).statuses()["a"].state is State.INTERRUPTED
