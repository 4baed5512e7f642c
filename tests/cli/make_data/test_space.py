"""``medmnist-hf space`` writes the page for what is built; ``push-space`` pushes it."""

from pathlib import Path

import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.places.resolver import Build
from medmnist_hf.space.record import read_record
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.commands import command, replaced
from tests.fixtures.entries import leave_entry
from tests.fixtures.hub.server import HubServer
from tests.fixtures.stores import MODEL, images_of, store


def test_it_shows_what_is_built_and_the_rest_as_facts(
    phantoms: Phantoms, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = command("space", capsys, monkeypatch)
    place = images_of(phantoms, tmp_path / "dist", "breastmnist")
    build(phantoms, tmp_path / "dist", "octmnist", 64)
    store(place, tmp_path / "features")
    where = ("--root", tmp_path / "dist", "--out", tmp_path / "site")
    ended = run(*where, "--features", tmp_path / "features")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "gallery  breastmnist 28    SYNTHETIC",
        f"atlas    breastmnist 28  {MODEL}  SYNTHETIC",
        f"{tmp_path / 'site'}: 18 subsets, 1 with pictures",
    ]
    assert run("octmnist", "--size", "64", *where).returncode == 0
    assert [(each.subset, each.size) for each in read_record(tmp_path / "site").pictures] == [("octmnist", 64)]


def test_variants_are_not_shown(
    phantoms: Phantoms, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = command("space", capsys, monkeypatch)
    folder = build(phantoms, tmp_path / "dist", "dermamnist-corrected", 28)
    where = ("--root", tmp_path / "dist", "--out", tmp_path / "site")
    ended = run("dermamnist-corrected", *where)
    assert ended.returncode == 1 and "is dermamnist-corrected: the page shows the rows of dermamnist" in ended.stderr
    (config,) = folder.parent.glob("*/*/manifest.json")
    store(Build(subset("dermamnist-corrected"), 28, config.parent), tmp_path / "features")
    ended = run(*where, "--features", tmp_path / "features")
    assert ended.returncode == 0 and "no atlas of dermamnist-corrected" in ended.stderr
    assert read_record(tmp_path / "site").pictures == ()


def test_mistakes_are_one_line(
    phantoms: Phantoms, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = command("space", capsys, monkeypatch)
    build(phantoms, tmp_path / "dist", "breastmnist", 28)
    where = ("--root", tmp_path / "dist", "--out", tmp_path / "site")
    for arguments, expected in (
        (("breastmnist", "breastmnist"), "breastmnist is named twice"),
        (("pathmnist",), "no build of pathmnist at size 28"),
        (("--size", "27"), "no subset has size '27'"),
        (("--split", "tset"), "unknown split"),
        (("--features", tmp_path / "none"), "no features in"),
        (("--root", tmp_path / "none"), "none: no such folder"),
    ):
        ended = run(*replaced([*map(str, where)], [*map(str, arguments)]))
        assert ended.returncode == 1 and expected in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "site").exists()


@pytest.mark.slow
def test_entries_are_scored_and_ranked(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_entry(tmp_path / "entries" / "mine", real_data, method="My net")
    (tmp_path / "entries" / "bad").mkdir()
    (tmp_path / "entries" / "bad" / "entry.yaml").write_text("method: x\n")
    run = command("space", capsys, monkeypatch)
    ended = run("breastmnist", "--root", real_data, "--entries", tmp_path / "entries", "--out", tmp_path / "site")
    assert ended.returncode == 0 and "warning: the entry bad is left out" in ended.stderr
    assert ended.stderr.count("warning: ") == 1
    assert b"My net" in (tmp_path / "site" / "data" / "leaderboard" / "breastmnist.json").read_bytes()


@pytest.mark.slow
def test_the_page_is_pushed_after_a_dry_run(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("space", capsys, monkeypatch)("--root", tmp_path, "--out", tmp_path / "site").returncode == 0
    where = ("scripts/push_space.py", tmp_path / "site", "--repo-id", "org/MedMNIST")
    shown = hub.script(*where)
    assert "new      index.html" in shown.stdout and not hub.store.repos
    assert shown.stdout.splitlines()[-1].startswith("nothing was changed")
    pushed = hub.script(*where, "--yes", "--tag", "v1")
    assert "all files checked, tagged v1" in pushed.stdout and not hub.log.find(path="^http")
    assert b"sdk: static" in hub.store.files("space", "org/MedMNIST")["README.md"]
