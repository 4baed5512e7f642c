"""Tasks of checks and pushes: their commands, their folder, and when they run again."""

import inspect
from pathlib import Path

import pytest

from medmnist_hf.cards.render import write_card
from medmnist_hf.cli.make_data import audit, build, push, verify
from medmnist_hf.cli.make_data.tasks import OF_THE_ENGINE, absolute, folder_of_jobs, unless_continued
from medmnist_hf.jobs.tasks import Task, TaskFolder, unique_names
from tests.conftest import Phantoms
from tests.fixtures.builds import build as build_configs
from tests.fixtures.commands import command
from tests.fixtures.dists import lines_of
from tests.fixtures.hub.server import HubServer


def test_no_option_with_a_path_is_passed_on_as_it_is() -> None:
    """A path that is relative holds in one folder of one machine only; these become absolute, or arguments."""
    for verb in (build.build, verify.verify, audit.audit, push.push):
        parameters = inspect.signature(verb).parameters
        paths = {name for name, each in parameters.items() if "Path" in str(each.annotation)}
        assert paths - OF_THE_ENGINE - {"root", "out", "source_ids", "metadata", "near"} == set()
        assert {"engine", "workers", "engine_config"} <= set(parameters)


def test_a_folder_for_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    a, b = tmp_path / "a", tmp_path / "b"
    assert folder_of_jobs(None, "verify", [a, Path("a"), Path("b/../a")]) == a / ".jobs/verify"
    for roots in ([a, b], [a, None], [None], []):
        assert folder_of_jobs(None, "audit", roots) == tmp_path / ".jobs/audit"
    assert folder_of_jobs(Path("states"), "push", [a]) == tmp_path / "states"
    assert absolute("~/data") == "~/data" and absolute("x/../y") == f"{tmp_path}/y"


def test_names_of_tasks_are_unique() -> None:
    assert unique_names(["a-28", "b-28", "a-28", "a-28"]) == ["a-28", "b-28", "a-28.2", "a-28.3"]


def test_only_an_unfinished_run_of_the_same_tasks_is_continued(
    phantoms: Phantoms, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A marker of another run says that a config was equal then, not that it is now."""
    for flag in ("breastmnist", "retinamnist"):
        build_configs(phantoms, tmp_path, flag, 28)
    verify = command("verify", capsys, monkeypatch)
    folder = TaskFolder(tmp_path / ".jobs" / "verify")

    def states(*names: Path) -> list[str]:
        process = verify(*names, "--engine", "local", "--dry-run")
        return [line.split()[0] for line in lines_of(process.stdout, "") if "-28: " in line]

    assert states(tmp_path) == ["waiting", "waiting"] and not folder.path.exists()
    tasks = [
        Task.with_result(f"{flag}-28", "python", "-m", "medmnist_hf", "verify", f"{tmp_path}/{flag}/28")
        for flag in ("breastmnist", "retinamnist")
    ]
    folder.write(tasks, lambda task: None)
    folder.complete(0)
    assert states(tmp_path) == ["done", "waiting"]
    assert states(tmp_path / "breastmnist") == ["waiting"]
    folder.complete(1)
    assert states(tmp_path) == ["waiting", "waiting"]
    decide = unless_continued(folder, tasks)
    assert [decide(task) for task in tasks] == [None, None]
    assert unless_continued(folder, tasks[:1])(tasks[0]) is False


def test_a_config_on_the_hub_is_named_with_its_commit(
    hub: HubServer,
    phantoms: Phantoms,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_card(build_configs(phantoms, tmp_path / "dist", "pathmnist", 28))
    monkeypatch.setenv("HF_TOKEN", hub.token.secret)
    monkeypatch.chdir(tmp_path)
    pushed = command("push", capsys, monkeypatch)("dist", "--repo-id", "org", "--allow-synthetic", "--yes")
    assert pushed.returncode == 0, pushed.stderr
    sha = hub.store.repos["dataset", "org/pathmnist"].resolve("main").sha
    process = command("audit", capsys, monkeypatch)("org/pathmnist", "--engine", "local", "--dry-run")
    (line,) = lines_of(process.stdout, "waiting")
    assert line == (f"waiting     pathmnist-28: python -m medmnist_hf audit org/pathmnist@{sha} --size 28 --json"), (
        process.stderr
    )
    assert [path.name for path in tmp_path.iterdir()] == ["dist"]
