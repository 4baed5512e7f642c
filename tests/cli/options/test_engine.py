"""The way in which commands hand tasks to an engine: what they print, and how they end."""

from pathlib import Path

import pytest
import typer

from medmnist_hf.cli.options.engine import EngineChoice, run_on
from medmnist_hf.errors import JobError
from medmnist_hf.jobs.settings import Settings
from medmnist_hf.jobs.tasks import State, Task, TaskFolder
from tests.fixtures.tasks import shell


def tasks_in(path: Path) -> list[Task]:
    """Three tasks; the second one fails until a file exists."""
    return [shell("a", "true"), shell("b", f"test -e {path}/luck"), shell("c", f"touch {path}/c")]


def test_the_choice_of_the_command_line_overrides_its_file(tmp_path: Path) -> None:
    config = tmp_path / "engine.yaml"
    config.write_text("workers: 4\nmemory_gb: 2\n")
    engine = EngineChoice("local", workers=2, config=config).open()
    assert engine.name == "local" and engine.settings == Settings(workers=2, memory_gb=2)
    with pytest.raises(JobError, match="unknown engine 'laptop'"):
        EngineChoice("laptop").open()


def test_a_run_prints_what_ends_and_names_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, tasks = tmp_path / ".jobs", tasks_in(tmp_path)
    with pytest.raises(typer.Exit) as ended:
        run_on(EngineChoice("local"), path, tasks, describe=lambda folder, task: f"{task.name} in {folder.path.name}")
    assert ended.value.exit_code == 1
    out, error = capsys.readouterr()
    assert out.splitlines()[0].startswith("[1/3] a: a in .jobs") and "[2/3] b: failed: ended with exit code 1" in out
    assert error.splitlines() == [
        f"error: failed: b: ended with exit code 1: see b.txt (output: {path}/logs/b.txt)",
        "error: not done: 1 of 3 tasks; fix what is named above, then run the same command again",
    ]

    (tmp_path / "luck").touch()
    statuses = run_on(EngineChoice("local"), path, tasks)
    assert {status.state for status in statuses.values()} == {State.DONE}
    assert capsys.readouterr() == ("2 of 3 are done already\n[3/3] b: done\n", "")


def test_a_long_list_of_failures_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [Task.of(f"t{number}", "/no/such/program") for number in range(60)]
    with pytest.raises(typer.Exit):
        run_on(EngineChoice("local", workers=4), tmp_path, tasks)
    *_, more, last = lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 52 and more == "error: and 10 more: --dry-run lists them all"
    assert last == "error: not done: 60 of 60 tasks; fix what is named above, then run the same command again"


def test_a_dry_run_shows_the_states_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, tasks = tmp_path / ".jobs", tasks_in(tmp_path)
    choice = EngineChoice("local", workers=2)
    assert run_on(choice, path, tasks, dry_run=True) == {}
    first, second, third, counted, resources = capsys.readouterr().out.splitlines()
    assert first == "waiting     a: /bin/sh -c true" and "b: /bin/sh -c 'test -e " in second and "touch" in third
    assert counted == "tasks: 3 waiting" and resources.startswith("local: 3 tasks, 2 at a time, each with ")
    assert list(tmp_path.iterdir()) == []

    with pytest.raises(typer.Exit):
        run_on(choice, path, tasks)
    folder = TaskFolder(path)
    folder.begin(2)
    (path / "completions" / "00002").unlink()
    capsys.readouterr()
    before = sorted(path.rglob("*"))
    run_on(choice, path, tasks, is_done=lambda task: None, dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == [
        "done        a: /bin/sh -c true",
        "failed      b: ended with exit code 1: see b.txt",
        f"            its output is in {path}/logs/b.txt",
        lines[3],
        f"            its output is in {path}/logs/c.txt",
        "tasks: 1 done, 1 running, 1 failed",
    ]
    assert lines[3].startswith("running     c: on ") and lines[-1].startswith("local: 1 task,")
    assert sorted(path.rglob("*")) == before


def test_a_check_that_is_repeated_is_shown_as_waiting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, tasks = tmp_path / ".jobs", [shell("a", f"echo >> {tmp_path}/ran")]
    for _ in range(2):
        run_on(EngineChoice("local"), path, tasks, repeat=True)
    assert (tmp_path / "ran").read_text() == "\n\n"
    run_on(EngineChoice("local"), path, tasks, repeat=True, dry_run=True)
    assert "tasks: 1 waiting" in capsys.readouterr().out


def test_only_an_engine_that_keeps_the_tasks_can_be_left(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="tasks of local end with this command"):
        run_on(EngineChoice("local", wait=False), tmp_path / ".jobs", tasks_in(tmp_path))
