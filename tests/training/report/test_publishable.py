"""Selection of the published seed, and its results without local paths."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.catalog import NAMESPACE
from medmnist_hf.manifest import Provenance
from medmnist_hf.training.recipe import make_recipe
from medmnist_hf.training.report.publishable import best_seed, model_result, portable, repository
from medmnist_hf.training.results import Facts, RunResult, read_results
from tests.fixtures.benchmarks import leave_run


def results(folder: Path, **options: Any) -> RunResult:
    leave_run(folder / "run", dataset="breastmnist", **options)
    return read_results(folder / "run" / "results.json")


def test_the_seed_is_the_best_on_validation(tmp_path: Path) -> None:
    run_result = results(tmp_path, test=[0.9, 0.6, 0.7], validation=[0.7, 0.8, 0.8])
    assert best_seed(run_result).seed == 1
    result = model_result(run_result)
    assert result is not None
    assert (result.flag, result.size, result.auc) == ("breastmnist", 28, 0.6) and result.acc == pytest.approx(0.5)
    assert result.notes == (
        "seed 1, chosen on validation; mean and standard deviation of 3 seeds: AUC 0.733 ± 0.153, ACC 0.633 ± 0.153"
    )


def test_a_single_seed_has_no_mean(tmp_path: Path) -> None:
    result = model_result(results(tmp_path, test=[0.9], validation=[0.7]))
    assert result is not None and result.notes == "seed 0, chosen on validation"


def test_a_seed_without_validation_auc_comes_last(tmp_path: Path) -> None:
    assert best_seed(results(tmp_path, test=[0.9, 0.8], validation=[math.nan, 0.5])).seed == 1


@pytest.mark.parametrize(("select", "best"), [("auc", 0), ("balanced_accuracy", 1), ("loss", 2), ("ece", 0)])
def test_the_seed_is_selected_by_the_measure_that_selected_its_epoch(tmp_path: Path, select: str, best: int) -> None:
    logged = ({"balanced_accuracy": 0.6, "loss": 0.5}, {"balanced_accuracy": 0.9, "loss": 0.4}, {"loss": 0.3})
    plain = results(tmp_path, test=[0.9, 0.6, 0.7], validation=[0.8, 0.7, 0.6], select=select)
    seeds = []
    for seed, values in zip(plain.seeds, logged, strict=True):
        later = [{f"eval_{name}": 1 - value for name, value in values.items()} | {"epoch": 2.0}]  # another epoch
        history = [{"epoch": 1.0, "grad_norm": 1.0}, {f"eval_{n}": v for n, v in values.items()} | {"epoch": 1.0}]
        report = {"best_epoch": 1, "history": [{}, *history, *later]}
        seeds.append(replace(seed, facts=Facts.from_json_value(report)))
    assert best_seed(replace(plain, seeds=tuple(seeds))).seed == best


def test_no_result_if_test_was_not_scored_or_is_undefined(tmp_path: Path) -> None:
    assert model_result(results(tmp_path / "a", test=[], validation=[0.7])) is None
    assert model_result(results(tmp_path / "b", test=[math.nan], validation=[0.7])) is None


def test_local_paths_are_removed(tmp_path: Path) -> None:
    model = tmp_path / "private" / "my-vit"
    model.mkdir(parents=True)
    checkpoint = str(tmp_path / "private" / "weights.safetensors")
    run_result = results(
        tmp_path,
        test=[0.9, 0.8],
        validation=[0.7, 0.8],
        model=str(model),
        checkpoint=checkpoint,
        root=str(tmp_path),
        facts={"origin": f"the weights of {model}"},
    )
    public = portable(run_result)
    assert str(tmp_path) not in public.to_json() and str(tmp_path) in run_result.to_json()
    assert (public.recipe.model, public.recipe.root) == ("my-vit", None)
    assert public.recipe.checkpoint == "weights.safetensors"
    assert [seed.facts.origin for seed in public.seeds] == ["the weights of my-vit"] * 2
    assert RunResult.from_json(public.to_json(), "it") == public


def test_a_name_on_the_hub_is_kept(tmp_path: Path) -> None:
    run_result = results(
        tmp_path, test=[0.9], validation=[0.7], model="timm/resnet18", facts={"origin": "timm/resnet18"}
    )
    assert portable(run_result) == replace(run_result, recipe=replace(run_result.recipe, root=None))


@pytest.mark.parametrize("provenance", [Provenance.UNVERIFIED, Provenance.SYNTHETIC])
def test_no_result_on_unverified_data(tmp_path: Path, provenance: Provenance) -> None:
    assert model_result(results(tmp_path, test=[0.9], validation=[0.7], provenance=provenance)) is None


def test_the_repository_is_from_the_recipe_or_the_default() -> None:
    assert repository(make_recipe({"dataset": "breastmnist"})) == f"{NAMESPACE}/breastmnist"
    assert repository(make_recipe({"dataset": "me/breastmnist@v1"})) == "me/breastmnist"
