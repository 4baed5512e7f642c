"""`medmnist_hf.training.benchmark.origin`: the date of a report, and the commit of a real checkout."""

import datetime
import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from medmnist_hf.training.benchmark.origin import DATE, commit, origin


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    process = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return process.stdout.strip()


def test_the_date_is_today_or_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATE, "0")
    assert origin().startswith(f"Written on 1970-01-01 by medmnist-hf {version('medmnist-hf')}")
    monkeypatch.delenv(DATE)
    today = datetime.datetime.now(datetime.UTC).date()
    assert any(day.isoformat() in origin() for day in (today, today + datetime.timedelta(1)))


def test_a_checkout_has_a_commit_and_reports_changes(tmp_path: Path) -> None:
    assert commit(tmp_path) == ""
    git(tmp_path, "init", "-q")
    assert commit(tmp_path) == "", "nothing is committed yet"
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(tmp_path) == head[:12]
    (tmp_path / "further").touch()
    assert commit(tmp_path) == head[:12]
    (tmp_path / "file").write_text("two")
    assert commit(tmp_path) == f"{head[:12]} and changes"


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", os.devnull)
    assert commit(tmp_path) == ""
