"""The commands do and print what those of the official package do."""

import importlib
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.catalog import subset, subsets
from medmnist_hf.official import __main__ as program
from medmnist_hf.official import commands
from tests.conftest import Phantoms
from tests.fixtures.official import make_official
from tests.fixtures.paths import ROOT
from tests.fixtures.zenodo import zenodo_server
from tests.official.conftest import Root

Theirs = Callable[..., Any]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Runs a command line and returns its output."""

    def call(line: str) -> str:
        program.main(line.split())
        return capsys.readouterr().out

    return call


@pytest.fixture
def both(run: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> tuple[Callable[[str], str], ...]:
    """Runs it here, and with the official package."""
    fire, main = importlib.import_module("fire"), importlib.import_module("medmnist.__main__")

    def call(line: str) -> str:
        fire.Fire(dict(vars(main)), command=line)
        return capsys.readouterr().out

    return run, call


Run = Callable[[str], str]


def test_lists_and_facts_are_the_official_ones(both: tuple[Run, Run]) -> None:
    run, theirs = both
    assert run("available") == theirs("available")
    for line in ("info pathmnist", "info --flag=organmnist3d", "info --flag chestmnist"):
        mine, other = ([text for text in each(line).splitlines() if '"description"' not in text] for each in both)
        assert mine == other


@pytest.mark.parametrize(
    "line",
    [
        "save --flag=breastmnist --folder={out} --root={root} --postfix=png --download=False --size=28",
        "save breastmnist {out} jpg {root} --size=None",
        "save --flag nodulemnist3d --folder {out} --postfix gif --root {root}",
    ],
)
def test_saved_files_are_the_official_ones(
    line: str, both: tuple[Run, Run], root: Root, theirs: Theirs, tmp_path: Path
) -> None:
    folder = root("breastmnist", "nodulemnist3d")
    theirs(folder)
    for name, run in zip(("mine", "theirs"), both, strict=True):
        run(line.format(out=tmp_path / name, root=folder))
    mine, other = (
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in (tmp_path / "mine", tmp_path / "theirs")
    )
    assert mine == other and len(mine) == 1 + 16 + 4 + 8


def test_a_prediction_file_is_scored(run: Run, root: Root, tmp_path: Path) -> None:
    path = tmp_path / "breastmnist_test@mine.csv"
    path.write_text("".join(f"{row},0.75\n" for row in range(8)))
    printed = run(f"evaluate --path={path} --root={root('breastmnist')}")
    assert printed.startswith("Metrics(AUC=0.5, ACC=0.")
    assert sorted(each.name.partition("@")[2] for each in tmp_path.glob("*.csv")) == ["mine.csv", "mine.csv"]


def test_files_are_downloaded_and_deleted(
    run: Run, phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other files stay; the official command deletes every NPZ file that has ``mnist`` in its name."""
    folder, flags = tmp_path / "npz", ("breastmnist", "nodulemnist3d")
    folder.mkdir()
    for name in ("mnist.npz", "my-breastmnist.npz", "notes.txt"):
        (folder / name).touch()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with zenodo_server() as server:
        monkeypatch.setenv("MEDMNIST_ENDPOINT", server.url)
        entries = []
        for flag in flags:
            file = phantoms(flag, 64)
            assert file.counts is not None
            entries.append(make_official(monkeypatch, flag, 64, file.md5, file.counts))
            server.files[subset(flag).file(64).name] = file.path.read_bytes()
        monkeypatch.setattr(commands, "subsets", lambda: [subset(flag) for flag in flags])
        printed = run(f"download --size=64 --root={folder}")
        assert printed.splitlines() == [
            "Downloading breastmnist     | BreastMNIST     | Size: 64",
            "Downloading nodulemnist3d   | NoduleMNIST3D   | Size: 64",
        ]
    assert {path.name for path in folder.glob("*.npz")} > {"breastmnist_64.npz", "nodulemnist3d_64.npz"}
    (folder / "pathmnist_224.npz.part").touch()
    monkeypatch.setattr(commands, "subsets", subsets)
    assert run(f"clean {folder}") == ""
    assert {path.name for path in folder.iterdir()} == {"mnist.npz", "my-breastmnist.npz", "notes.txt"}
    run(f"clean {tmp_path / 'none'}")
    importlib.import_module("medmnist.__main__").clean(str(folder))
    assert {path.name for path in folder.iterdir()} == {"notes.txt"}


def test_volumes_are_saved_as_gif_by_default(
    both: tuple[Run, Run], root: Root, theirs: Theirs, tmp_path: Path
) -> None:
    folder, (run, run_theirs) = root("nodulemnist3d"), both
    theirs(folder)
    run(f"save nodulemnist3d {tmp_path / 'mine'} --root={folder}")
    assert len(list((tmp_path / "mine" / "nodulemnist3d").glob("*.gif"))) == 16 + 4 + 8
    with pytest.raises(AssertionError):
        run_theirs(f"save nodulemnist3d {tmp_path / 'theirs'} --root={folder}")


def test_a_subset_without_a_size_is_skipped(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(commands, "subsets", lambda: [subset("organmnist3d")])
    printed = run(f"download 224 {tmp_path}")
    assert printed == "Size 224 not available for organmnist3d    | OrganMNIST3D   \n"


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("info breastmnis", 1, "unknown subset 'breastmnis': did you mean 'breastmnist'?"),
        ("download --size=1", 1, "unknown size 1: choose from 28, 64, 128, 224, all"),
        ("save breastmnist", 2, "--folder is missing (see python -m medmnist_hf.official save --help)"),
        ("save a b --download=maybe", 2, "--download is True or False, not maybe (see python -m"),
        ("info a b", 2, "unexpected value b (see python -m medmnist_hf.official info --help)"),
        ("evaluate none_test.csv", 1, "none_test.csv: no such file"),
        ("", 2, "the following arguments are required: COMMAND"),
    ],
)
def test_wrong_usage_is_one_line(
    line: str, code: int, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["medmnist_hf.official", *line.split()])
    with pytest.raises(SystemExit) as ended:
        program.start()
    printed = capsys.readouterr().err
    assert ended.value.code == code
    assert printed.startswith(f"error: {message}") and printed.count("\n") == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_is_no_error(unbuffered: str) -> None:
    """As with ``| head``."""
    command = f"{shlex.quote(sys.executable)} -m medmnist_hf.official available | true"
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_it_starts_without_torch(tmp_path: Path) -> None:
    code = "import runpy, sys; sys.argv = ['official', 'save', '--help']\ntry:\n"
    code += "    runpy.run_module('medmnist_hf.official', run_name='__main__')\n"
    code += "except SystemExit as end:\n    sys.exit(end.code or 'torch' in sys.modules)"
    environment = {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Example: python -m medmnist_hf.official save" in done.stdout
    assert list(tmp_path.iterdir()) == []
