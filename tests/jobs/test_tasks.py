"""A folder of tasks: its list, the state of each task, and what is kept when the list changes."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medmnist_hf.errors import JobError
from medmnist_hf.jobs.tasks import STALE, State, Status, Task, TaskFolder, count
from tests.fixtures.tasks import shell

A, B, C = (shell(name, "true") for name in "abc")


def unknown(task: Task) -> None:
    """Only the markers say whether a task is done."""


def states(folder: TaskFolder) -> dict[str, State]:
    return {name: status.state for name, status in folder.statuses().items()}


@pytest.fixture
def folder(tmp_path: Path) -> TaskFolder:
    folder = TaskFolder(tmp_path / "tasks")
    folder.write([A, B, C], unknown)
    return folder


def test_a_new_list_waits_and_is_read_again(folder: TaskFolder) -> None:
    assert folder.read() == (A, B, C)
    assert states(folder) == dict.fromkeys("abc", State.WAITING)
    assert folder.log_of(A) == folder.path / "logs" / "a.txt"


def test_a_folder_that_does_not_exist_has_no_tasks(tmp_path: Path) -> None:
    folder = TaskFolder(tmp_path / "none")
    assert folder.read() == () and folder.statuses() == {} and folder.ended() == (set(), set())
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_runs_names_its_machine_until_its_heartbeat_stops(folder: TaskFolder) -> None:
    folder.begin(1)
    assert folder.statuses()["b"] == Status(State.RUNNING, f"on {os.uname().nodename}")
    marker = folder.path / "running" / "00001"
    before = time.time() - STALE - 1
    os.utime(marker, (before, before))
    assert folder.statuses()["b"].state is State.INTERRUPTED
    folder.touch(1)
    assert folder.statuses()["b"].state is State.RUNNING
    folder.interrupt(1)
    assert folder.statuses()["b"] == Status(State.INTERRUPTED, "run the same command again to resume it")


def test_a_task_fails_with_its_reason_and_is_done_after_all(folder: TaskFolder) -> None:
    folder.begin(0)
    folder.fail(0, "no luck")
    assert folder.statuses()["a"] == Status(State.FAILED, "no luck")
    assert folder.ended() == (set(), {0})
    folder.begin(0)
    assert folder.statuses()["a"].state is State.RUNNING
    folder.complete(0)
    assert folder.statuses()["a"] == Status(State.DONE)
    assert folder.ended() == ({0}, set())
    assert not list((folder.path / "running").iterdir())


def test_a_process_that_died_while_it_wrote_its_end_has_ended(folder: TaskFolder) -> None:
    """Both marks are there for a moment; the later one counts."""
    for rank in (0, 1):
        folder.begin(rank)
    (folder.path / "failures" / "00000").write_text("no luck")
    (folder.path / "completions" / "00001").touch()
    assert states(folder) == {"a": State.FAILED, "b": State.DONE, "c": State.WAITING}
    folder.write([A, B, C], unknown)
    assert states(folder) == {"a": State.FAILED, "b": State.DONE, "c": State.WAITING}
    assert [path.name for path in (folder.path / "running").iterdir()] == ["00000"]


def test_the_same_list_keeps_every_state(folder: TaskFolder) -> None:
    folder.complete(0)
    folder.fail(1, "no luck")
    folder.begin(2)
    folder.interrupt(2)
    listed = (folder.path / "tasks.json").stat().st_mtime_ns
    before = folder.statuses()
    folder.write([A, B, C], unknown)
    assert folder.statuses() == before
    assert (folder.path / "tasks.json").stat().st_mtime_ns == listed


def test_a_list_that_changes_keeps_the_tasks_that_are_equal(folder: TaskFolder) -> None:
    folder.complete(0)
    folder.fail(1, "no luck")
    folder.begin(2)
    changed = [shell("new", "true"), C, B, shell("a", "false")]
    folder.write(changed, unknown)
    assert folder.read() == tuple(changed)
    assert folder.statuses() == {
        "new": Status(State.WAITING),
        "c": Status(State.INTERRUPTED, "run the same command again to resume it"),
        "b": Status(State.FAILED, "no luck"),
        "a": Status(State.WAITING),
    }


def test_a_result_counts_more_than_a_mark(folder: TaskFolder) -> None:
    """A task whose result was removed runs again; one whose result was copied there does not."""
    folder.complete(0)
    folder.fail(1, "no luck")
    folder.write([A, B, C], lambda task: task is B)
    assert states(folder) == {"a": State.WAITING, "b": State.DONE, "c": State.WAITING}


def test_expected_is_what_write_leaves(folder: TaskFolder) -> None:
    folder.complete(0)
    folder.fail(1, "no luck")
    before = sorted(folder.path.rglob("*"))
    changed = [B, A, shell("new", "true")]
    expected = folder.expected(changed, unknown)
    assert sorted(folder.path.rglob("*")) == before
    folder.write(changed, unknown)
    assert folder.statuses() == expected
    assert list(expected) == ["b", "a", "new"]


@pytest.mark.parametrize("done", [(0, 1), (0, 1, 2)])
def test_repeat_begins_again_only_where_all_are_done(folder: TaskFolder, done: tuple[int, ...]) -> None:
    for rank in done:
        folder.complete(rank)
    assert {*folder.expected([A, B, C], unknown).values()} <= {Status(State.DONE), Status(State.WAITING)}
    folder.write([A, B, C], unknown, repeat=True)
    repeated = len(done) == 3
    assert states(folder) == dict.fromkeys("ab", State.WAITING if repeated else State.DONE) | {"c": State.WAITING}


def test_repeat_keeps_the_results_and_other_lists(folder: TaskFolder) -> None:
    for rank in range(3):
        folder.complete(rank)
    assert {status.state for status in folder.expected([A, B], unknown, repeat=True).values()} == {State.DONE}
    kept = folder.expected([A, B, C], lambda task: task is B or None, repeat=True)
    assert [status.state for status in kept.values()] == [State.WAITING, State.DONE, State.WAITING]


def list_of(name: str, *command: object) -> str:
    """A list with one task."""
    task = {"name": name, "command": command, "log": "a", "result": "", "cwd": ""}
    return json.dumps({"format": 1, "tasks": [task]})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "it is not JSON"),
        ('{"format": 2, "tasks": []}', "another format version"),
        (list_of("../a", "true"), "must be a name of letters"),
        (list_of("a"), "task 'a' has no command"),
        (list_of("a", 1), "tasks[0].command[0] is 1"),
    ],
)
def test_a_damaged_list_is_one_line_with_its_file(folder: TaskFolder, content: str, reason: str) -> None:
    (folder.path / "tasks.json").write_text(content)
    for read in (folder.read, folder.statuses, lambda: folder.write([A], unknown)):
        with pytest.raises(JobError) as error:
            read()
        message = str(error.value)
        assert message.startswith(f"cannot read {folder.path / 'tasks.json'} (") and "\n" not in message
        assert reason in message or content == "{"
        assert message.endswith(f"remove {folder.path}, then run again")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Task.of("a b", "true"), "a task is named 'a b', must be a name of letters, digits and _ . @ -"),
        (lambda: Task.of("x" * 201, "true"), "a task is named"),
        (lambda: Task.of("a"), "task 'a' has no command"),
        (lambda: Task.of("a", "true", "b\nc"), "task 'a' holds control characters: 'b\\nc'"),
    ],
)
def test_a_task_whose_list_could_not_be_read_again_is_refused(make: Callable[[], Task], message: str) -> None:
    with pytest.raises(JobError) as error:
        make()
    assert str(error.value).startswith(message)


def test_two_tasks_with_one_name_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="two tasks are named b"):
        TaskFolder(tmp_path / "tasks").write([A, B, C, B], unknown)
    assert list(tmp_path.iterdir()) == []


def test_a_log_may_be_elsewhere(tmp_path: Path) -> None:
    task = Task("a", ("true",), "../run/train.log")
    assert TaskFolder(tmp_path / "tasks").log_of(task) == tmp_path / "run" / "train.log"


def test_thousands_of_tasks_are_looked_at_quickly(tmp_path: Path) -> None:
    """Engines look at the markers at short intervals."""
    folder, ranks = TaskFolder(tmp_path), range(3_000)
    folder.write([], unknown)
    for rank in ranks:
        (tmp_path / "completions" / f"{rank:05d}").touch()
    begun = time.process_time()
    assert folder.ended() == ({*ranks}, set())
    assert time.process_time() - begun < 0.1


def test_states_are_counted() -> None:
    statuses = [Status(State.FAILED), *[Status(State.DONE)] * 1_200, Status(State.WAITING)]
    assert count(statuses) == "1,200 done, 1 failed, 1 waiting"
    assert count([]) == ""
