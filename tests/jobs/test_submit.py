"""One call runs a list of tasks, and the same call does the rest."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.errors import JobError
from medmnist_hf.extras import MissingModuleError
from medmnist_hf.jobs.local import LocalEngine
from medmnist_hf.jobs.settings import Settings
from medmnist_hf.jobs.submit import duration, open_engine, run_tasks, unfinished
from medmnist_hf.jobs.tasks import State, Status, Task, TaskFolder, count
from tests.fixtures.paths import ROOT
from tests.fixtures.tasks import shell, wait_for


def run(path: Path, tasks: Sequence[Task], workers: int = 2, **options: Any) -> tuple[dict[str, Status], list[str]]:
    """States after a run on this machine, and the lines that were reported."""
    lines: list[str] = []
    engine = LocalEngine(Settings(workers=workers))
    return run_tasks(TaskFolder(path), tasks, engine, report=lines.append, **options), lines


def appending(path: Path, name: str, end: str = "true") -> Task:
    """A task that notes that it ran."""
    return shell(name, f"echo {name} >> {path}/ran; {end}")


def ran(path: Path) -> list[str]:
    file = path / "ran"
    return sorted(file.read_text().split()) if file.exists() else []


def test_one_that_fails_does_not_keep_the_others_from_ending(tmp_path: Path) -> None:
    tasks = [appending(tmp_path, name, f"test {name} != c || test -e {tmp_path}/luck") for name in "abcdef"]
    statuses, lines = run(tmp_path, tasks)
    assert count(statuses.values()) == "5 done, 1 failed" and ran(tmp_path) == list("abcdef")
    assert [line for line in lines if "c: failed: ended with exit code 1: see c.txt" in line]
    assert sorted(line.partition("]")[0] for line in lines) == [f"[{number}/6" for number in range(1, 7)]
    assert unfinished(statuses, TaskFolder(tmp_path)) == [
        f"failed: c: ended with exit code 1: see c.txt (output: {tmp_path}/logs/c.txt)"
    ]

    (tmp_path / "luck").touch()
    statuses, lines = run(tmp_path, tasks)
    assert count(statuses.values()) == "6 done" and ran(tmp_path) == list("abccdef")
    assert lines == ["5 of 6 are done already", "[6/6] c: done"]
    assert unfinished(statuses, TaskFolder(tmp_path)) == []


def test_nothing_runs_where_all_is_done(tmp_path: Path) -> None:
    tasks = [appending(tmp_path, name) for name in "ab"]
    run(tmp_path, tasks)
    assert run(tmp_path, tasks) == (dict.fromkeys("ab", Status(State.DONE)), ["2 of 2 are done already"])
    assert run(tmp_path, [])[0] == {}
    assert ran(tmp_path) == ["a", "b"]


def test_results_that_exist_are_not_made_again(tmp_path: Path) -> None:
    tasks = [appending(tmp_path, name) for name in "abc"]
    statuses, lines = run(tmp_path, tasks, is_done=lambda task: task.name == "b", describe=lambda task: task.name * 2)
    assert count(statuses.values()) == "3 done" and ran(tmp_path) == ["a", "c"]
    assert (lines[0] == "1 of 3 are done already" and "[3/3] c: cc" in lines[1:]) or "[3/3] a: aa" in lines[1:]


def test_tasks_can_be_run_again_once_all_are_done(tmp_path: Path) -> None:
    """As for checks, which leave no result to look at; a list that is not complete is continued."""
    tasks = [appending(tmp_path, name, f"test {name} = a || test -e {tmp_path}/luck") for name in "ab"]
    run(tmp_path, tasks, repeat=True)
    (tmp_path / "luck").touch()
    run(tmp_path, tasks, repeat=True)
    assert ran(tmp_path) == ["a", "b", "b"]
    statuses, lines = run(tmp_path, tasks, repeat=True)
    assert ran(tmp_path) == ["a", "a", "b", "b", "b"]
    assert count(statuses.values()) == "2 done" and len(lines) == 2


def test_a_selection_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    tasks = [appending(tmp_path, name, f"test {name} != a") for name in "abc"]
    run(tmp_path, tasks[:1])
    selected, lines = run(tmp_path, tasks, is_selected=lambda task: task.name == "b", keep_going=False)
    assert [status.state for status in selected.values()] == [State.FAILED, State.DONE, State.WAITING]
    assert lines == ["[1/1] b: done"]


def test_without_keep_going_a_failure_ends_what_runs(tmp_path: Path) -> None:
    scripts = {"a": "exec sleep 100", "b": "sleep 0.1; exit 1", "c": "exec sleep 100", "d": "true"}
    tasks = [shell(name, script) for name, script in scripts.items()]
    statuses, _ = run(tmp_path, tasks, keep_going=False)
    first, second, _, last = [status.state for status in statuses.values()]  # the third may have begun
    assert [first, second, last] == [State.INTERRUPTED, State.FAILED, State.WAITING]


PROGRAM = """
import sys
from pathlib import Path
from medmnist_hf.jobs.local import LocalEngine
from medmnist_hf.jobs.settings import Settings
from medmnist_hf.jobs.submit import run_tasks
from medmnist_hf.jobs.tasks import TaskFolder
path = Path(sys.argv[1])
try:
    run_tasks(TaskFolder(path), TaskFolder(path / "list").read(), LocalEngine(Settings(workers=2)), report=print)
except KeyboardInterrupt:
    sys.exit(130)
"""


def submitting(path: Path, tasks: Sequence[Task]) -> "subprocess.Popen[str]":
    """Another process that runs tasks in this folder."""
    TaskFolder(path / "list").write(tasks, lambda task: None)

    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_a_process_that_ends_early_leaves_is_done_by_the_same_call(tmp_path: Path, number: int) -> None:
    tasks = [appending(tmp_path, "a")]
    tasks += [appending(tmp_path, name, f"test -e {tmp_path}/go || exec sleep 100") for name in "bc"]
    tasks += [appending(tmp_path, "d")]
    process = submitting(tmp_path, tasks)
    wait_for(lambda: ran(tmp_path) == ["a", "b", "c"])
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    assert process.returncode == (130 if number != signal.SIGKILL else -number), error
    states = [status.state for status in TaskFolder(tmp_path).statuses().values()]
    left = State.RUNNING if number == signal.SIGKILL else State.INTERRUPTED  # nobody could say so
    assert states == [State.DONE, left, left, State.WAITING]

    (tmp_path / "go").touch()
    statuses, lines = run(tmp_path, tasks)
    assert count(statuses.values()) == "4 done" and lines[0] == "1 of 4 are done already"
    assert ran(tmp_path) == ["a", "b", "b", "c", "c", "d"]


def test_two_at_once_in_one_folder_are_refused_in_one_line(tmp_path: Path) -> None:
    """Also while the tasks of the first run, which do not keep its lock."""
    tasks = [appending(tmp_path, "a", "exec sleep 100")]
    process = submitting(tmp_path, tasks)
    wait_for(lambda: ran(tmp_path) == ["a"])
    message = f"another process is running tasks of {tmp_path}: wait until it ends, then run again"
    with pytest.raises(JobError) as error:
        run(tmp_path, [shell("other", "true")])
    assert str(error.value) == message
    assert [task.name for task in TaskFolder(tmp_path).read()] == ["a"]
    process.terminate()
    process.communicate(timeout=20)


def test_a_task_that_outlives_a_killed_process_does_not_keep_its_lock(tmp_path: Path) -> None:
    deaf = shell("a", f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done")
    process = submitting(tmp_path, [deaf])
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    process.kill()
    process.communicate()
    try:
        assert count(run(tmp_path, [shell("b", "true")])[0].values()) == "1 done"
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_sigterm_is_left_as_it_was(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run(tmp_path, [shell("a", "true")])
    assert signal.getsignal(signal.SIGTERM) is before
    statuses: list[dict[str, Status]] = []
    thread = threading.Thread(target=lambda: statuses.append(run(tmp_path / "thread", [shell("a", "true")])[0]))
    thread.start()
    thread.join()
    assert statuses == [{"a": Status(State.DONE)}]


class Refusing(LocalEngine):
    """An engine that fails when asked."""

    def __init__(self, where: str) -> None:
        super().__init__(Settings())
        self.where = where
        self.ended: list[str] = []

    def check(self) -> None:
        if self.where == "check":
            raise JobError("no")

    def still_running(self, folder: TaskFolder) -> str:
        return "job 17" if self.where == "still" else ""

    def start(self, folder: TaskFolder, tasks: Sequence[Task], ranks: Sequence[int]) -> None:
        super().start(folder, tasks, ranks)
        if self.where == "start":
            raise JobError("no")

    def is_active(self) -> bool:
        if self.where == "active":
            raise JobError("no")
        return super().is_active()

    def stop(self) -> None:
        super().stop()
        self.ended.append("stop")

    def forget(self, folder: TaskFolder) -> None:
        self.ended.append("forget")


@pytest.mark.parametrize("where", ["check", "still", "start", "active", ""])
def test_an_engine_that_fails_is_stopped(tmp_path: Path, where: str) -> None:
    engine, path = Refusing(where), tmp_path / "tasks"
    task = shell("a", f"touch {tmp_path}/ran; {'exec sleep 100' if where else 'true'}")
    if where:
        with pytest.raises(JobError, match=r"^no$|^job 17 is still running .*: wait until it ends, or cancel it$"):
            run_tasks(TaskFolder(path), [task], engine, report=lambda line: None)
    else:
        run_tasks(TaskFolder(path), [task], engine, report=lambda line: None)
    assert engine.ended == {"start": ["stop", "forget"], "active": ["stop", "forget"], "": ["forget"]}.get(where, [])
    assert path.exists() == (where != "check")
    assert (path / "tasks.json").exists() == (where not in {"check", "still"})


def test_tasks_that_end_with_this_process_must_be_waited_for(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="tasks of local end with this command: leave out --no-wait"):
        run(tmp_path / "tasks", [shell("a", "true")], wait=False)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_loses_a_task_names_it(tmp_path: Path) -> None:
    """As when a node dies and is not replaced: nobody marks the task."""
    tasks = [shell("a", "true"), shell("b", "kill -9 $PPID; sleep 0.1")]
    process = submitting(tmp_path, tasks)
    process.communicate()

    class Idle(LocalEngine):
        def start(self, folder: TaskFolder, tasks: Sequence[Task], ranks: Sequence[int]) -> None:
            for rank in ranks:
                folder.begin(rank)

    statuses = run_tasks(TaskFolder(tmp_path), tasks, Idle(Settings()), report=lambda line: None)
    assert statuses["b"].state is State.INTERRUPTED


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(JobError, match="unknown engine 'spark': choose from local, slurm, ray, hf-jobs"):
        open_engine("spark", Settings())


@pytest.mark.parametrize(("name", "module", "extra"), [("slurm", "datatrove", "jobs"), ("ray", "ray", "ray")])
def test_an_engine_that_is_not_installed_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    for loaded in [each for each in sys.modules if each.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"medmnist_hf.jobs.{name}", raising=False)
    with pytest.raises(MissingModuleError, match=rf"{module}\S* is not installed: .*'medmnist-hf\[{extra}\]'"):
        open_engine(name, Settings())


def test_the_local_engine_needs_no_extra() -> None:
    code = (
        "import sys; from medmnist_hf.jobs.submit import open_engine; from medmnist_hf.jobs.settings import Settings;"
        "open_engine('local', Settings()); heavy = {'datatrove', 'ray', 'loguru', 'torch'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_folder_that_cannot_be_written_is_read_all_the_same(tmp_path: Path) -> None:
    tasks = [shell(name, f"test {name} = a") for name in "ab"]
    run(tmp_path, tasks)
    for path in (tmp_path, *(each for each in tmp_path.iterdir() if each.is_dir())):
        path.chmod(0o555)
    try:
        expected = TaskFolder(tmp_path).expected(tasks, lambda task: None)
        assert [status.state for status in expected.values()] == [State.DONE, State.FAILED]
        if os.getuid():  # root may write everywhere
            with pytest.raises(OSError, match="Permission denied"):
                run(tmp_path, [*tasks, shell("c", "true")])
    finally:
        for path in (tmp_path, *(each for each in tmp_path.iterdir() if each.is_dir())):
            path.chmod(0o755)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (80, "80 s"), (89.9, "90 s"), (180, "3 min"), (5_400, "1.5 h")]
)
def test_durations_are_described(seconds: float, text: str) -> None:
    assert duration(seconds) == text
