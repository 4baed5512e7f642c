"""``medmnist-hf submit``: an entry from a run or from files, and its check."""

import json
from pathlib import Path

import pytest

from tests.fixtures.commands import Command, command
from tests.fixtures.entries import edit, leave_entry, predict
from tests.fixtures.hub.server import HubServer


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
    assert done.returncode == 0 and "wrote mine/entry.yaml and 1 prediction file\nfill in method, " in done.stdout
    refused = submit("check", "mine", "--root", real_data)
    assert refused.returncode == 1 and refused.stderr.startswith("error: mine/entry.yaml is not valid: method is ''")
    empty = submit("init", "empty")
    assert "put prediction files into empty/seed-0" in empty.stdout
    both = submit("init", "both", path, "--run", "runs/a")
    assert both.returncode == 1 and both.stderr == "error: give prediction files or --run, not both\n"


def test_the_real_file_makes_an_entry(submit: Command, real_data: Path) -> None:
    (path,) = (real_data.parent / "predictions").glob("*.csv")
    submit("init", "resnet18-224", path, "--root", real_data)
    known = {"image_size": 224, "resize": "other", "pretraining": "none", "adaptation": "scratch", "labels": "all"}
    for name, value in (known | {"method": "ResNet-18 (224)", "selected_on": "validation"}).items():
        edit(Path("resnet18-224"), f"{name}: ''", f"{name}: {value}")
    done = submit("check", "resnet18-224", "--root", real_data)
    (line,) = (line.split() for line in done.stdout.splitlines() if line.startswith("breastmnist"))
    assert line == [
        "breastmnist",
        "0.9129",
        "0.9129",
        "0.8462",
        "0.8462",
        "official",
        *["1", "of", "8"],
        *["1", "of", "8"],
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_a_pull_request_is_opened_reviewed_and_ranked(
    submit: Command,
    hub: HubServer,
    real_data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token.secret)
    where = ("--root", real_data, "--repo-id", "org/medmnist-leaderboard")
    leave_entry(Path("mine"), real_data)
    nowhere = submit("check", "mine", *where)
    assert nowhere.returncode == 1 and "cannot read org/medmnist-leaderboard" in nowhere.stderr
    shown = submit("push", "mine", *where)
    assert shown.stdout.endswith("nothing was changed: pass --yes to open a pull request\n") and not hub.store.repos
    assert "new      entries/mine/results.jsonl" in shown.stdout and "new      README.md" in shown.stdout
    done = submit("push", "mine", *where, "--yes", "--message", "My first entry")
    assert "org/medmnist-leaderboard: pull request " in done.stdout and "all files checked" in done.stdout
    (request,) = hub.store.repos["dataset", "org/medmnist-leaderboard"].discussions.values()
    assert request.title == "My first entry"
    reviewed = submit("check", *where, "--pr", "1")
    assert reviewed.returncode == 0 and reviewed.stdout.startswith("mine: Net (2 seeds, ")
    hub.api().merge_pull_request("org/medmnist-leaderboard", 1, repo_type="dataset")
    leave_entry(Path("copy"), real_data, method="Copy")
    for refused in (submit("check", "copy", *where), submit("push", "copy", *where, "--yes")):
        assert refused.returncode == 1 and refused.stderr.count("error: ") == 2
        assert "the same predictions as seed 0 of the entry mine (Net), which was accepted before" in refused.stderr
    rank = command("leaderboard", capsys, monkeypatch)
    for place in ("org/medmnist-leaderboard", "mine"):
        board = rank("breastmnist", "--entries", place, "--root", real_data)
        assert "  Net  (entries/mine)" in board.stdout and board.stderr == ""
        facts = json.loads(rank("breastmnist", "--entries", place, "--root", real_data, "--json").stdout)
        (row,) = (row["published"] for row in facts["rows"] if row["published"]["source"] == "entries")
        assert (row["locator"], row["seeds"]) == ("entries/mine", 2) and len(facts["rows"]) == 8
    edit(Path("mine"), "auc: ", "auc: 0.5 #")
    board = rank("breastmnist", "--entries", "mine", "--data", real_data / "breastmnist.npz")
    assert "note: the entry mine is left out: entry.yaml: results.breastmnist.auc claims 0.5" in board.stdout


def test_a_dry_run_without_a_connection_shows_the_files(
    submit: Command, real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    leave_entry(Path("mine"), real_data)
    shown = submit("push", "mine", "--root", real_data, "--repo-id", "org/medmnist-leaderboard")
    assert (shown.returncode, shown.stdout.splitlines()[-1]) == (0, "nothing was changed")
    assert "\nentries/mine/results.jsonl " in shown.stdout and "\nentries/mine/entry.yaml " in shown.stdout
    assert shown.stderr.startswith("warning: not compared with org/medmnist-leaderboard and the entries ")
    edit(Path("mine"), "auc: ", "auc: 0.999 # ")
    refused = submit("push", "mine", "--root", real_data, "--dry-run")
    assert refused.returncode == 1 and "results.breastmnist.auc claims 0.999" in refused.stderr


@pytest.mark.parametrize("options", [(), ("mine", "--repo-id", "org/x", "--pr", "1"), ("--pr", "1")])
def test_a_check_is_of_a_folder_or_of_a_pull_request(options: tuple[str, ...], submit: Command) -> None:
    done = submit("check", *options)
    assert done.returncode == 1 and done.stderr == "error: give the folder of an entry, or --repo-id with --pr\n"


def test_a_group_without_a_command_shows_its_commands(submit: Command) -> None:
    done = submit()
    assert done.returncode == 2 and "init" in done.stderr and "check" in done.stderr
