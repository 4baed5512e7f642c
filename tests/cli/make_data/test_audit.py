"""``medmnist-hf audit``: the table, the JSON, the saved files and the exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medmnist_hf.conversion.checks.audit import audit_config
from tests.fixtures.commands import Command, command
from tests.fixtures.near import ALTERED, textures
from tests.fixtures.paths import ROOT
from tests.fixtures.planted import ROWS, Planted, bloodmnist_in_shards, first_shard


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return bloodmnist_in_shards(tmp_path)


@pytest.fixture
def audit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command("audit", capsys, monkeypatch)


def test_it_prints_a_table(small: Path, audit: Command) -> None:
    process = audit(small.parent)
    assert (process.returncode, process.stderr) == (0, "")
    lines = process.stdout.splitlines()
    assert lines[0] == "bloodmnist 28, from folder"
    assert next(line.split() for line in lines if line.startswith("blank")) == ["blank", "3", "0", "0"]
    shared = next(line for line in lines if line.startswith("pixel-identical to another row of train"))
    assert shared.split()[-3:] == ["3", "0", "1"]
    assert [line[2:] for line in lines if line.startswith("- ")] == list(audit_config(small).findings)
    assert "\x1b" not in process.stdout
    assert not (small / "audit.json").exists()


def test_a_saved_audit_is_shown_on_the_card(small: Path, audit: Command) -> None:
    expected = audit_config(small)
    for _ in range(2):
        process = audit(small.parent, "--size", "28", "--json", "--save")
        assert (process.returncode, process.stderr) == (0, "")
        assert json.loads(process.stdout) == [json.loads(expected.to_json())]
        assert (small / "audit.json").read_text(encoding="utf-8") == expected.to_json()
        card = (small.parent / "README.md").read_text(encoding="utf-8")
        assert all(f"- {finding}" in card for finding in expected.findings)
        assert not list(small.parent.rglob("*.tmp"))


def test_it_continues_after_a_damaged_config(small: Path, tmp_path: Path, audit: Command) -> None:
    sound = Planted("breastmnist").build(tmp_path)
    first_shard(small).unlink()
    process = audit(small.parent, sound.parent, "--json", "--save")
    assert process.returncode == 1
    assert [audited["subset"] for audited in json.loads(process.stdout)] == ["breastmnist"]
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"error: cannot read {small}")
    assert not (small / "audit.json").exists()
    assert (sound / "audit.json").exists()


def test_bad_input_is_one_line(small: Path, tmp_path: Path, audit: Command) -> None:
    (small / "audit.json").mkdir()
    cases = {
        (str(tmp_path / "nowhere"),): f"error: {tmp_path / 'nowhere'}: no such file or folder",
        (
            str(small.parent),
            "--size",
            "64",
        ): f"error: no build of size 64 in {small.parent} (it has 28): ",
        (str(small.parent), "--save"): f"error: cannot write {small / 'audit.json'} (",
    }
    for arguments, message in cases.items():
        process = audit(*arguments)
        assert (process.returncode, process.stdout) == (1, ""), process
        (line,) = process.stderr.splitlines()
        assert line.startswith(message)
    assert audit().returncode == 2
    assert sorted(path.suffix for path in small.iterdir() if path.name.startswith(".")) == []


def test_it_has_help_with_an_example(audit: Command) -> None:
    process = audit("--help")
    assert process.returncode == 0
    assert "Example: medmnist-hf audit dist/breastmnist" in " ".join(process.stdout.split())


def test_a_folder_without_builds_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, ROOT / "scripts/audit.py", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == f"error: no build in {tmp_path}: run medmnist-hf build\n"


@pytest.mark.slow
def test_tasks_print_the_same_in_the_order_of_the_command(small: Path, tmp_path: Path, audit: Command) -> None:
    other = Planted("breastmnist").build(tmp_path)
    names = (small.parent, other.parent)
    serial = audit(*names, "--json")
    folder = tmp_path / "states"
    process = audit(*names, "--json", "--save", "--engine", "local", "--workers", "2", "--jobs-folder", folder)
    assert process.returncode == serial.returncode == 0, process.stderr
    assert process.stdout == serial.stdout
    assert "[2/2] " in process.stderr
    assert (small / "audit.json").exists() and (other / "audit.json").exists()
    again = audit(other.parent, tmp_path / "nowhere", "--engine", "local", "--jobs-folder", folder)
    assert again.returncode == 1 and again.stdout == audit(other.parent).stdout
    assert f"error: {tmp_path}/nowhere: no such file or folder" in again.stderr


def test_near_duplicates_are_counted_and_drawn(tmp_path: Path, audit: Command) -> None:
    planted = Planted("breastmnist")
    planted.images = {split: textures(rows, (28, 28), rows) for split, rows in ROWS.items()}
    planted.images["test"][5] = ALTERED["all"](planted.images["train"][8])
    config = planted.build(tmp_path)
    process = audit(config, "--near", tmp_path / "near", "--save")
    assert (process.returncode, process.stderr) == (0, "")
    line = next(line for line in process.stdout.splitlines() if line.startswith("near duplicate of another row of tr"))
    assert line.split()[-3:] == ["0", "0", "1"]
    assert "- 1 image of train is a near duplicate of one of test (1 pair" in process.stdout
    assert {path.name for path in (tmp_path / "near").iterdir()} == {"breastmnist-28.json", "breastmnist-28.png"}
    saved = (config / "audit.json").read_text(encoding="utf-8")
    assert audit(config, "--save").stdout == process.stdout, "a later audit keeps them"
    assert (config / "audit.json").read_text(encoding="utf-8") == saved
