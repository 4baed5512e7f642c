"""Which model of a run is to be published, and what may be said of it to others.

Example:
    >>> runs = [{"seed": 0, "validation": {"auc": 0.8}}, {"seed": 1, "validation": {"auc": 0.9}}]
    >>> best_run({"runs": runs})["seed"]
    1
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medmnist_hf.catalog import NAMESPACE
from medmnist_hf.data.configs import open_config
from medmnist_hf.hub.eval_results import MEASURES, ModelResult
from medmnist_hf.manifest import SourceRecord
from medmnist_hf.training.recipe import Recipe, make_recipe


def best_run(results: Mapping[str, Any]) -> dict[str, Any]:
    """The seed to publish: the one with the best AUC on validation, the first of equals."""
    found: dict[str, Any] = max(results["runs"], key=lambda run: run["validation"]["auc"] or 0.0)
    return found


def model_result(results: Mapping[str, Any]) -> ModelResult | None:
    """What the seed to publish reached on test; None where test was not scored or a measure is undefined."""
    run = best_run(results)
    values = {name: run["test"].get(name) for name in MEASURES}
    if None in values.values():
        return None
    seeds = len(results["runs"])
    notes = f"seed {run['seed']}, chosen on validation"
    if seeds > 1:
        means = ", ".join(f"{name.upper()} {spread(results['test'][name])}" for name in MEASURES)
        notes += f"; mean and standard deviation of {seeds} seeds: {means}"
    return ModelResult(results["dataset"], results["size"], **values, notes=notes)


def shown_name(model: str) -> str:
    """A model as it is called to others: one in a folder by the name of the folder."""
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.is_dir() else model


def portable(results: Mapping[str, Any]) -> dict[str, Any]:
    """Results without the folders of the machine they were made on: a model or checkpoint of a file has its name."""
    recipe = dict(results["recipe"])
    model = recipe["model"]
    shown = shown_name(model)
    recipe |= {"root": None, "model": shown}
    if recipe["checkpoint"] is not None:
        recipe["checkpoint"] = Path(recipe["checkpoint"]).name
    runs = [
        {**run, "facts": {**run["facts"], "origin": run["facts"]["origin"].replace(model, shown)}}
        for run in results["runs"]
    ]
    return {**results, "model": shown, "recipe": recipe, "runs": runs}


def data_source(results: Mapping[str, Any]) -> SourceRecord:
    """What the data of a run was built from.

    Args:
        results: What ``results.json`` holds, with the folder of the builds.

    Raises:
        MedMNISTError: The build is not there any more.
    """
    recipe = make_recipe(results["recipe"])
    config = open_config(
        recipe.dataset, recipe.size, recipe.root, namespace=namespace(recipe), revision=recipe.revision
    )
    return config.manifest.source


def namespace(recipe: Recipe) -> str:
    """User or organisation on the Hub whose data a recipe names."""
    return recipe.namespace or NAMESPACE


def digits(value: float | None) -> str:
    """A measure to three decimals; a dash where it is undefined."""
    return "-" if value is None else f"{value:.3f}"


def spread(value: Mapping[str, float | None]) -> str:
    """Mean and standard deviation of a measure over seeds."""
    return f"{digits(value['mean'])} ± {digits(value['std'])}"
