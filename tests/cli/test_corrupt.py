"""The command ``corrupt`` as a user runs it."""

import re
from pathlib import Path

import pytest

from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.commands import command


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag in ("octmnist", "organmnist3d"):
        build(phantoms, out, flag, 28)
    return out


def test_all_corruptions_of_a_subset(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = command("corrupt", capsys, monkeypatch)
    ended = run("octmnist", "--root", root, "--out", tmp_path)
    files = sorted(path.name for path in (tmp_path / "octmnist_28").glob("*.npz"))
    assert ended.returncode == 0 and len(files) == 6 and ended.stdout.count(".npz") == 6
    again = run("octmnist", "pixelate", "--root", root, "--out", tmp_path)
    assert again.stdout.replace("\n", "").endswith("pixelate.npz is complete: kept")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["octmnist", "bubble"], "error: octmnist has no corruption 'bubble': choose from pixelate"),
        (["organmnist3d"], "error: organmnist3d holds volumes, and MedMNIST-C has corruptions of images only"),
        (["octmnist", "--size", "64"], "error: "),
    ],
)
def test_errors_are_one_line_and_leave_nothing(  # noqa: PLR0917
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    ended = command("corrupt", capsys, monkeypatch)(*arguments, "--root", root, "--out", tmp_path / "out")
    assert ended.returncode == 1 and re.search(f"^{re.escape(message)}", ended.stderr, re.M), ended.stderr
    assert not (tmp_path / "out").exists()
