"""The commands ``export`` and ``montage`` as a user runs them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from medmnist_hf.cli.main import app, main
from tests.conftest import Phantoms
from tests.fixtures.builds import build

runner = CliRunner()

VERTEX = ("--format", "vertex", "--gcs", "gs://b-c/d")


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build(phantoms, out, "breastmnist", 28, 64)
    build(phantoms, out, "organmnist3d", 28)
    return out


def program(patch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run the program in this process and return its exit code."""
    patch.setattr(sys, "argv", ["medmnist-hf", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_export_says_what_it_wrote(root: Path, tmp_path: Path) -> None:
    arguments = ["export", "BreastMNIST", "--root", str(root), "--size", "64"]
    result = runner.invoke(app, [*arguments, "--out", str(tmp_path), "--split", "train", "--split", "test"])
    assert result.exit_code == 0, result.output
    flat = result.output.replace("\n", "")
    assert flat == f"24 rows in {tmp_path / 'breastmnist_64'} and {tmp_path / 'breastmnist_64.csv'}"
    assert len(list((tmp_path / "breastmnist_64").iterdir())) == 24
    for form, path in (("npz", "breastmnist_64.npz"), ("imagefolder", "folders/breastmnist_64")):
        out = (tmp_path / path).parent
        assert runner.invoke(app, [*arguments, "--format", form, "--out", str(out)]).exit_code == 0
        assert (tmp_path / path).exists()


def test_export_for_vertex(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("export", "breastmnist", "--root", root, "--out", tmp_path, *VERTEX)
    assert program(monkeypatch, *arguments) == 0
    lines = (tmp_path / "breastmnist/batch_test.jsonl").read_text().splitlines()
    assert lines[0] == '{"content": "gs://b-c/d/breastmnist/test/test0.png", "mimeType": "image/png"}'
    assert (tmp_path / "breastmnist/test/test0.png").is_file()
    assert program(monkeypatch, *arguments) == 1
    assert program(monkeypatch, *arguments, "--force") == 0


def test_volumes_are_exported_as_gif_by_default(root: Path, tmp_path: Path) -> None:
    result = runner.invoke(app, ["export", "organmnist3d", "--root", str(root), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "organmnist3d/val0_0.gif").is_file()


def test_a_seed_repeats_a_montage(root: Path, tmp_path: Path) -> None:
    common = ["montage", "breastmnist", "--root", str(root)]
    for name, seed in (("a.png", "5"), ("b.png", "5"), ("c.png", "6")):
        result = runner.invoke(app, [*common, "--length", "3", "--seed", seed, "--out", str(tmp_path / name)])
        assert result.exit_code == 0, result.output
    assert "9 of 16 rows of train in" in result.output
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with PIL.Image.open(tmp_path / "a.png") as a, PIL.Image.open(tmp_path / "c.png") as c:
        assert a.size == (84, 84)
        assert not np.array_equal(np.asarray(a), np.asarray(c))
    result = runner.invoke(
        app, [*common, "--split", "test", "--length", "4", "--with-replacement", "--out", str(tmp_path / "d.png")]
    )
    assert result.exit_code == 0, result.output


def test_mistakes_are_one_line_and_exit_code_1(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export = ("export", "breastmnist", "--root", root, "--out", tmp_path / "out")
    montage = ("montage", "breastmnist", "--root", root, "--out")
    for arguments, message in (
        ((*export, "--format", "tiff"), "error: unknown format 'tiff': choose from png, imagefolder, gif"),
        ((*export, "--format", "vertex"), "error: the format vertex needs the Cloud Storage folder of the images"),
        (
            (*export, "--format", "vertex", "--gcs", "bucket"),
            "error: --gcs 'bucket' is not a valid folder in Cloud Storage",
        ),
        ((*export, "--gcs", "gs://bucket"), "error: the format png does not use Cloud Storage"),
        ((*export, "--split", "dev"), "error: unknown split 'dev'"),
        ((*export, "--size", "128"), "error: no build of breastmnist at size 128"),
        ((*export[:2], "--out", tmp_path / "out"), "error: no build of breastmnist at size 28 in dist or "),
        (("export", "nobody/breastmnist", "--out", tmp_path / "out"), "error: cannot load nobody/breastmnist"),
        ((*montage, tmp_path / "a.jpg"), "error: cannot draw a montage of breastmnist as a.jpg"),
        ((*montage, tmp_path / "a.png"), "error: train of breastmnist has 16 images"),
    ):
        assert program(monkeypatch, *arguments) == 1
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith(message)
        assert output.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_other_commands_do_not_wait_for_datasets() -> None:
    code = "import sys, medmnist_hf.cli.export; sys.exit(str({'datasets', 'pyarrow', 'PIL'} & set(sys.modules) or ''))"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).stderr in {b"", b"\n"}


@pytest.mark.parametrize("command", ["export", "montage"])
def test_help_has_an_example_and_says_what_each_option_does(command: str) -> None:
    output = runner.invoke(app, [command, "--help"]).output
    assert f"Example: medmnist-hf {command} breastmnist" in " ".join(output.split())
    for option in ("--size", "--root", "--revision", "--split", "--out", "--force"):
        assert option in output
