"""Check cells before a benchmark: problems are reported with the keys of a matrix, and valid cells pass."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from transformers import CLIPConfig, ViTConfig

from medmnist_hf.automl.environments import VARIABLE
from medmnist_hf.data.arrays import read_arrays
from medmnist_hf.data.configs import open_config
from medmnist_hf.training.benchmark import preflight
from medmnist_hf.training.benchmark.matrix import BenchmarkRun
from medmnist_hf.training.benchmark.preflight import problems
from medmnist_hf.training.recipe import make_recipe
from medmnist_hf.training.run_folder import run_name
from tests.conftest import Phantoms
from tests.fixtures.runs import build_all


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"), "breastmnist")


def cell(root: Path, **options: Any) -> BenchmarkRun:
    recipe = make_recipe({"dataset": "breastmnist", "root": str(root), **options})
    return BenchmarkRun(run_name(recipe), recipe)


def problem(root: Path, **options: Any) -> str:
    (reason,) = problems([cell(root, **options)])
    return reason


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ""),
        ({"model": "timm/test_resnet"}, ""),
        ({"model": "resnet19"}, "unknown model 'resnet19': give resnet18 or resnet50, timm/NAME"),
        ({"model": "timm/no_such_model"}, "timm has no model 'no_such_model'"),
        ({"model": "timm/resnet19"}, "timm has no model 'resnet19': did you mean resnet18"),
        ({"drop_path": 0.1}, "resnet18 has no stochastic depth: leave drop_path 0"),
        ({"model": "no/such/folder"}, "cannot load no/such/folder ("),
        ({"checkpoint": "missing.safetensors"}, "cannot read missing.safetensors (No such file or directory)"),
        ({"size": 64}, "no build of breastmnist at size 64 in "),
        ({"dataset": "retinamnist", "method": "knn"}, ": run medmnist-hf build retinamnist --size 28 --root "),
        ({"method": "zero-shot", "model": "no/such/folder"}, "cannot load no/such/folder ("),
    ],
)
def test_problems_are_reported(root: Path, options: dict[str, Any], expected: str) -> None:
    reason = problem(root, **options)
    assert expected in reason and bool(reason) == bool(expected) and "\n" not in reason


def test_options_are_replaced_by_keys(root: Path) -> None:
    without_weights = "timm/vit_base_patch16_18x2_224"
    expected = f"there are no weights of {without_weights}: give pretrained: false or checkpoint"
    assert problem(root, model=without_weights) == expected
    assert not problem(root, model=without_weights, pretrained=False)


def test_problems_of_data_and_model_are_both_reported(root: Path, tmp_path: Path) -> None:
    cells = [cell(tmp_path, model="timm/no_such_model", epochs=epochs) for epochs in (1, 2)]
    first, second = problems(cells)
    assert first == second and f"no build of breastmnist at size 28 in {tmp_path}" in first
    assert "; timm has no model 'no_such_model'" in first


def test_a_folder_of_transformers_is_checked(root: Path, tmp_path: Path) -> None:
    ViTConfig(num_channels=1).save_pretrained(tmp_path / "gray")
    CLIPConfig().save_pretrained(tmp_path / "clip")
    assert problem(root, model=str(tmp_path / "gray")) == f"{tmp_path / 'gray'} reads 1 channels: give channels: 1"
    assert not problem(root, model=str(tmp_path / "gray"), channels=1)
    assert not problem(root, model=str(tmp_path / "clip"), method="zero-shot")
    assert "has no text tower" in problem(root, model=str(tmp_path / "gray"), method="zero-shot")


def test_an_engine_that_is_not_installed_is_reported(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "python"))
    reason = problem(root, model="pixels", method="flaml")
    assert reason.startswith("FLAML cannot run in ") and "medmnist-hf automl-env flaml" in reason


def test_an_exception_of_a_library_is_reported_for_its_cell_only(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CLIPConfig().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["text_config"] = {**config.get("text_config", {}), "num_hidden_layers": "x"}
    path.write_text(json.dumps(config), encoding="utf-8")
    broken = cell(root, model=str(tmp_path), method="zero-shot")
    first, second, third = problems([broken, cell(root), cell(root, model="timm/no_such_model")])
    assert "num_hidden_layers" in first and "\n" not in first
    assert second == "" and "no_such_model" in third

    def fail(name: str) -> None:
        raise RuntimeError(f"odd {name}\nand more")

    monkeypatch.setattr(preflight, "check_text_tower", fail)
    first, second = problems([broken, cell(root)])
    assert (first, second) == (f"RuntimeError: odd {tmp_path}", "")


@pytest.mark.parametrize("emptied", [False, True])
def test_a_build_without_files_is_reported_unless_it_is_decoded_already(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emptied: bool
) -> None:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))
    copy = Path(shutil.copytree(root, tmp_path / "dist"))
    config = open_config("breastmnist", 28, copy)
    ((path, _),) = config.shards("test")
    assert not problem(copy)
    path.write_bytes(b"") if emptied else path.unlink()
    reason = "it is not the shard of the manifest" if emptied else "No such file or directory"
    assert problem(copy) == f"cannot read {path} ({reason}): build the config again with --force"
    shutil.copytree(root, copy, dirs_exist_ok=True)
    read_arrays(config, "test")
    path.unlink()
    assert not problem(copy), "a run reads the decoded arrays"


def test_a_tracker_that_is_not_installed_is_reported(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module == "wandb" else find_spec(module))
    assert problem(root, report_to="wandb") == "report_to wandb: wandb is not installed: pip install wandb"


def test_a_path_that_looks_like_an_option_is_kept(root: Path) -> None:
    assert "cannot read x --lr 4.pt (" in problem(root, checkpoint="x --lr 4.pt")
