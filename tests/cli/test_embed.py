"""``medmnist-hf embed`` as a user runs it: stores, repeats, verifies, and names mistakes in one line."""

from pathlib import Path

import numpy as np
import pytest

import medmnist_hf
from medmnist_hf.errors import MedMNISTError
from tests.conftest import Phantoms
from tests.fixtures.commands import command, invoke
from tests.fixtures.dists import digests_below
from tests.fixtures.runs import build_all

MODEL = "timm/test_efficientnet"
USUAL = ["--model", MODEL, "--no-pretrained", "--device", "cpu"]


@pytest.fixture(scope="module")
def home(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds in ``dist`` and features of two subsets in ``features``."""
    folder = tmp_path_factory.mktemp("home")
    build_all(phantoms, folder / "dist", "breastmnist", "chestmnist", rows=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        invoke("embed", "breastmnist", "chestmnist", *USUAL)
    return folder


@pytest.fixture(autouse=True)
def in_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def test_a_store_is_made_and_then_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for outcome in ("stored", "was complete"):
        invoke("embed", "breastmnist", *USUAL, "--out", tmp_path, "--dtype", "float16", "--threads", "2")
        plan, table = capsys.readouterr().out.split(f"images to features in {tmp_path}, on cpu")
        assert "breastmnist/28-timm-test_efficientnet" in plan
        assert outcome in table and "float16" in table and "256" in table
    features, labels = medmnist_hf.load_features("breastmnist", 28, "test", tmp_path, model=MODEL)
    assert features.shape == (len(labels), 256)
    exact = medmnist_hf.load_features("breastmnist", 28, "test", model=MODEL).features
    assert np.array_equal(features, exact.astype(np.float16))


def test_stores_are_verified(capsys: pytest.CaptureFixture[str]) -> None:
    invoke("embed", "breastmnist", "chestmnist", *USUAL, "--verify", "--rows", "5")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": 3 files match")[0] for line in lines] == [
        f"ok: features/{flag}/28-timm-test_efficientnet" for flag in ("breastmnist", "chestmnist")
    ]
    assert all(line.endswith("equal to live features") for line in lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--image-size", "32"], r"holds other features \(image_size 28, not 32, .*pass --force"),
        (["--dtype", "float16"], "type float32, not float16"),
        (["--dtype", "int8"], "dtype is 'int8': choose from float32, float16"),
        (["--rows", "5"], "--rows is for --verify"),
        (["--depth-stride"], "--depth-stride would change nothing"),
        (["--size", "big"], "--size 'big' is not a valid size"),
        (["--workers", "2"], "--workers needs an engine"),
        (["--gpus-per-task", "1"], "--gpus-per-task needs an engine"),
        (["--checkpoint", "none.pth"], "cannot read none.pth"),
        (["--out", "dist"], "holds a build of images"),
    ],
)
def test_mistakes_are_named(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(Path("features").rglob("*"))
    ended = command("embed", capsys, monkeypatch)("breastmnist", *USUAL, *options)
    assert ended.returncode == 1
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    with pytest.raises(MedMNISTError, match=message):
        raise MedMNISTError(errors[0])
    assert sorted(Path("features").rglob("*")) == before


def test_one_that_fails_does_not_stop_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "breastmnist/28-timm-test_efficientnet"
    store.mkdir(parents=True)
    ended = command("embed", capsys, monkeypatch)("breastmnist", "chestmnist", *USUAL, "--out", tmp_path)
    assert ended.returncode == 1 and "error: 1 of 2 stores failed" in ended.stderr
    assert "failed" in ended.stdout and "stored" in ended.stdout
    verified = command("embed", capsys, monkeypatch)(
        "breastmnist", "chestmnist", *USUAL, "--verify", "--out", tmp_path
    )
    assert verified.returncode == 1 and "ok: " in verified.stdout
    assert "no features of breastmnist at size 28" in verified.stderr


@pytest.mark.slow
def test_tasks_store_the_same_bytes_and_verify_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = command("embed", capsys, monkeypatch)
    local = ("breastmnist", "chestmnist", *USUAL, "--out", tmp_path, "--engine", "local", "--workers", "2")
    shown = embed(*local, "--dry-run")
    assert shown.returncode == 0 and "tasks: 2 waiting" in shown.stdout
    assert list(tmp_path.iterdir()) == [], "a dry run writes nothing"

    first = embed(*local)
    assert first.returncode == 0 and "chestmnist-28: 52 rows of 256 features, float32, 0.0" in first.stdout
    assert digests_below(tmp_path) == digests_below(Path("features"))
    assert "2 of 2 are done already" in embed(*local).stdout

    next(tmp_path.glob("chestmnist/28-*/test-*.parquet")).unlink()
    failed = embed(*local)
    assert failed.returncode == 1 and "1 of 2 are done already" in failed.stdout
    assert (
        "error: failed: chestmnist-28: " in failed.stderr and "is missing or truncated): pass --force" in failed.stderr
    )
    assert embed(*local, "--force").returncode == 0
    assert digests_below(tmp_path) == digests_below(Path("features"))

    verified = embed(*local, "--verify", "--rows", "5")
    assert verified.returncode == 0 and verified.stdout.count("ok: ") == verified.stdout.count("live features") == 2


def test_a_model_is_required(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ended = command("embed", capsys, monkeypatch)("breastmnist")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: no model given: add --model timm/NAME, or --model-file my.py:build")
