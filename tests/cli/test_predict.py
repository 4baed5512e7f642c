"""``medmnist-hf predict``: its files, its output and its errors."""

from pathlib import Path

import pytest

from medmnist_hf.evaluation.prediction_files import files_of_split
from medmnist_hf.training.running import run
from tests.conftest import Phantoms
from tests.fixtures.commands import Command, command
from tests.fixtures.runs import build_all, tiny


@pytest.fixture
def predict(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command("predict", capsys, monkeypatch)


def test_the_prediction_file_of_the_run_is_reproduced(predict: Command, phantoms: Phantoms, tmp_path: Path) -> None:
    root = build_all(phantoms, tmp_path / "dist", "bloodmnist")
    run(tiny(root, "bloodmnist"), tmp_path / "run", quiet=True)
    (file,) = files_of_split(tmp_path / "run" / "seed-0", "test")
    out, table = tmp_path / "new" / "scores.csv", tmp_path / "new" / "table.csv"
    usual = ["--run", tmp_path / "run", "--images", "bloodmnist", "--root", root, "--device", "cpu"]
    done = predict(*usual, "--out", out, "--table", table)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == file.read_bytes()
    rows = len(out.read_text().splitlines())
    assert len(table.read_text().splitlines()) == rows + 1
    assert done.stdout.startswith(f"scores of {rows} images in ")
    assert "timm/test_efficientnet on bloodmnist 28, finetune, seed 0" in done.stderr
    assert predict(*usual, "--out", out, "--quiet").stderr == ""
    refused = predict(*usual, "--out", out, "--ensemble", "--seed", "0")
    assert refused.returncode == 1 and "leave one of them out" in refused.stderr
    missing = predict("--run", tmp_path / "no", "--images", "bloodmnist", "--out", tmp_path / "none.csv")
    assert missing.returncode == 1 and "holds no finished run" in missing.stderr
    assert not (tmp_path / "none.csv").exists()
