"""``medmnist-hf submit``: an entry from a run or from files, and its check."""

import json
from pathlib import Path

import pytest

from tests.fixtures.commands import Command, command
from tests.fixtures.entries import edit, leave_entry, predict


@pytest.fixture
def submit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return command("submit", capsys, monkeypatch)


def test_a_good_entry_and_one_with_faults(submit: Command, real_data: Path) -> None:
    leave_entry(Path("mine"), real_data)
    done = submit("check", "mine", "--root", real_data)
    assert (done.returncode, done.stderr) == (0, "") and "every claim is what the files give" in done.stdout
    edit(Path("mine"), "auc: ", "auc: 0.999 # ")
    edit(Path("mine"), "acc: ", "acc: 0.999 # ")
    failed = submit("check", "mine", "--root", real_data, "--json")
    facts = json.loads(failed.stdout)
    assert failed.returncode == 1 and not facts["accepted"]
    assert [f"error: {fault}" for fault in facts["faults"]] == failed.stderr.splitlines()
    assert len(facts["faults"]) == 2


def test_an_entry_of_files(submit: Command, real_data: Path) -> None:
    path = predict(Path("files"), real_data)
    done = submit("init", "mine", path, "--root", real_data)
    assert done.returncode == 0 and "wrote mine/entry.yaml and 1 prediction files\nfill in method, " in done.stdout
    refused = submit("check", "mine", "--root", real_data)
    assert refused.returncode == 1 and refused.stderr.startswith("error: mine/entry.yaml is not valid: method is ''")
    empty = submit("init", "empty")
    assert "put prediction files into empty/seed-0" in empty.stdout
    both = submit("init", "both", path, "--run", "runs/a")
    assert both.returncode == 1 and both.stderr == "error: give prediction files or --run, not both\n"


def test_a_group_without_a_command_shows_its_commands(submit: Command) -> None:
    done = submit()
    assert done.returncode == 2 and "init" in done.stderr and "check" in done.stderr
