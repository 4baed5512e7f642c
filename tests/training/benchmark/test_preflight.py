"""Cells looked at before any is run: what is missing is named in the words of a matrix, and what is there is not."""

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
from medmnist_hf.training.recipe import make_recipe, run_name
from tests.conftest import Phantoms
from tests.fixtures.runs import build_all


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"), "breastmnist")


def cell(root: Path, **options: Any) -> BenchmarkRun:
    recipe = make_recipe({"dataset": "breastmnist", "root": str(root), **options})
    return BenchmarkRun(run_name(recipe), recipe)


def problem(root: Path, **options: Any) -> str:
    (found,) = problems([cell(root, **options)])
    return found


@pytest.mark.parametrize(
    ("options", "named"),
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
def test_what_cannot_run_is_named(root: Path, options: dict[str, Any], named: str) -> None:
    found = problem(root, **options)
    assert named in found and bool(found) == bool(named) and "\n" not in found


def test_options_are_named_by_their_keys(root: Path) -> None:
    without_weights = "timm/vit_base_patch16_18x2_224"
    expected = f"there are no weights of {without_weights}: give pretrained: false or checkpoint"
    assert problem(root, model=without_weights) == expected
    assert not problem(root, model=without_weights, pretrained=False)


def test_data_and_model_are_both_named_and_looked_at_once(root: Path, tmp_path: Path) -> None:
    cells = [cell(tmp_path, model="timm/no_such_model", epochs=epochs) for epochs in (1, 2)]
    first, second = problems(cells)
    assert first == second and f"no build of breastmnist at size 28 in {tmp_path}" in first
    assert "; timm has no model 'no_such_model'" in first


def test_a_folder_of_transformers_is_looked_at(root: Path, tmp_path: Path) -> None:
    ViTConfig(num_channels=1).save_pretrained(tmp_path / "gray")
    CLIPConfig().save_pretrained(tmp_path / "clip")
    assert problem(root, model=str(tmp_path / "gray")) == f"{tmp_path / 'gray'} reads 1 channels: give channels: 1"
    assert not problem(root, model=str(tmp_path / "gray"), channels=1)
    assert not problem(root, model=str(tmp_path / "clip"), method="zero-shot")
    assert "has no text tower" in problem(root, model=str(tmp_path / "gray"), method="zero-shot")


def test_an_engine_that_is_not_installed_is_named(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "python"))
    found = problem(root, model="pixels", method="flaml")
    assert found.startswith("FLAML cannot run in ") and "medmnist-hf automl-env flaml" in found


def test_what_a_library_raises_is_told_of_its_cell_and_hides_no_other(
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
def test_a_build_without_its_files_is_named_unless_it_is_decoded_already(
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
    assert not problem(copy), "a run reads what is decoded"


def test_a_tracker_that_is_not_installed_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None if module == "wandb" else found(module))
    assert problem(root, report_to="wandb") == "report_to wandb: wandb is not installed: pip install wandb"


def test_a_path_that_reads_as_an_option_is_named_as_it_is(root: Path) -> None:
    assert "cannot read x --lr 4.pt (" in problem(root, checkpoint="x --lr 4.pt")
