"""Cells looked at before any is run: what is missing is named in the words of a matrix, and what is there is not."""

from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPConfig, ViTConfig

from medmnist_hf.automl.environments import VARIABLE
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
