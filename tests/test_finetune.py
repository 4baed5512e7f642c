"""``scripts/finetune.py`` as a person runs it: a whole run, its options, and every mistake in one line."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from medmnist_hf.errors import MedMNISTError
from medmnist_hf.training.recipe import FIELDS
from tests.conftest import Phantoms
from tests.fixtures.runs import build_all

SCRIPT = Path(__file__).parents[1] / "scripts" / "finetune.py"
TINY = ["--model", "timm/test_efficientnet", "--no-pretrained", "--epochs", "1", "--batch-size", "16"]


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"), "bloodmnist")


@pytest.fixture(scope="module")
def app() -> Any:  # noqa: ANN401
    specification = importlib.util.spec_from_file_location("finetune_script", SCRIPT)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.app


def command(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)


def test_help_names_every_field_and_an_example_without_torch() -> None:
    done = command("--help")
    assert done.returncode == 0 and "Example: python scripts/finetune.py --dataset pathmnist" in done.stdout
    for name in FIELDS:
        assert f"--{name.replace('_', '-')}" in done.stdout
    check = f"import sys, runpy; sys.argv = ['x', '--help']\ntry: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    code = f"{check}\nexcept SystemExit: sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_run_from_a_preset_and_options(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--dataset", "bloodmnist", "--root", str(root), "--preset", "rethinking", *TINY]
    done = command(*options, "--image-size", "32", "--seeds", "2", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [run["seed"] for run in results["runs"]] == [0, 1]
    assert "ResNet-18 (28)" in done.stdout and "* timm/test_efficientnet finetune (28)" in done.stdout
    assert "epoch   1  validation AUC" in done.stderr
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert recipe["select"] == "loss" and recipe["learning_rate"] == 1e-4 and recipe["epochs"] == 1


def test_words_and_numbers_of_one_option(app: Any, root: Path, tmp_path: Path) -> None:  # noqa: ANN401
    for given, kept in (("images", "images"), ("3", 3)):
        options = ["--dataset", "bloodmnist", "--root", str(root), "--channels", given, "--method", "knn", *TINY]
        app([*options, "--quiet", "--out", str(tmp_path / given)], standalone_mode=False)
        assert yaml.safe_load((tmp_path / given / "recipe.yaml").read_text())["channels"] == kept


def checkpoint(folder: Path) -> str:
    save_file({"conv_stem.weight": torch.zeros(3, 3)}, folder / "other.safetensors")
    return str(folder / "other.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "blodmnist"], "bloodmnist"),
        (["--dataset", "bloodmnist", "--size", "32"], "32"),
        (["--dataset", "bloodmnist", "--model", "timm/resnet1"], "resnet"),
        (["--dataset", "bloodmnist", "--model", "no/such-model"], "no/such-model"),
        (["--dataset", "bloodmnist", "--preset", "other"], "choose from"),
        (["--dataset", "bloodmnist", "--method", "svm"], "linear-probe"),
        (["--dataset", "bloodmnist", "--epochs", "0"], "epochs is 0"),
        (["--dataset", "bloodmnist", "--seeds", "0"], "seeds"),
        (["--dataset", "bloodmnist", "--checkpoint", "CHECKPOINT"], "conv_stem.weight"),
        (["--dataset", "bloodmnist", "--checkpoint", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--dataset", "bloodmnist", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--dataset", "pathmnist"], "pathmnist"),
        ([], "no dataset named"),
    ],
)
def test_every_mistake_is_one_line(
    app: Any,  # noqa: ANN401
    root: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
) -> None:
    given = [checkpoint(tmp_path) if one == "CHECKPOINT" else one for one in options]
    before = [] if "--epochs" in given else ["--epochs", "1"]
    model = [] if "--model" in given else TINY[:3]
    with pytest.raises(MedMNISTError, match=message) as caught:
        app(
            ["--root", str(root), "--quiet", "--out", str(tmp_path / "run"), *before, *model, *given],
            standalone_mode=False,
        )
    assert "\n" not in str(caught.value)


def test_a_mistake_ends_with_exit_code_1_and_no_traceback(root: Path, tmp_path: Path) -> None:
    done = command("--dataset", "bloodmnist", "--root", str(root), "--model", "timm/nothing", "--out", str(tmp_path))
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
