"""Select the model of a run to publish, and prepare its results for publication."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from medmnist_hf.catalog import NAMESPACE
from medmnist_hf.files import expand_user
from medmnist_hf.hub.eval_results import MEASURES, ModelResult
from medmnist_hf.own_code.names import is_code, public_code
from medmnist_hf.scoring.metrics import LOWER_IS_BETTER
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.results import Facts, Measures, RunResult, SeedResult

FIGURES: Final = "figures"
"""Folder of a seed's figures."""


def best_seed(result: RunResult) -> SeedResult:
    """Select the seed to publish: the best on validation by the recipe's ``select``; ties go to the first."""
    return max(result.seeds, key=lambda seed: selection_score(seed.validation, seed.facts, result.recipe.select))


def selection_score(validation: Measures[float], facts: Facts, select: str) -> float:
    """The value by which a seed is selected, higher is better; -inf if it is unknown.

    Args:
        validation: The measures of the seed on validation.
        facts: Its facts.
        select: ``auc``, or another value of ``select`` in a recipe; its value is that of the selected epoch.
    """
    value, epoch = validation.auc if select == "auc" else math.nan, facts.best_epoch or math.nan
    if select != "auc":
        logged = (entry for entry in facts.history if abs(entry.get("epoch", math.nan) - epoch) < 0.5)
        value = next((entry[name] for entry in logged if (name := f"eval_{select}") in entry), math.nan)
    return -math.inf if math.isnan(value) else -value if select in {"loss", *LOWER_IS_BETTER} else value


def model_result(result: RunResult) -> ModelResult | None:
    """Test scores of the seed to publish, on the official data set.

    None if the data is not verified, test was not scored, or a metric is undefined.
    """
    best, seeds = best_seed(result), len(result.seeds)
    if not result.provenance.comparable or not best.test or math.isnan(best.test.auc + best.test.acc):
        return None
    notes = f"seed {best.seed}, chosen on validation"
    if "train" in best.data.chosen:
        notes += f"; trained on {best.data.chosen['train'].count:,} of {best.data.rows['train']:,} train rows"
    if seeds > 1:
        means = ", ".join(f"{name.upper()} {result.test[name]}" for name in MEASURES)
        notes += f"; mean and standard deviation of {seeds} seeds: {means}"
    return ModelResult(
        result.recipe.dataset, result.recipe.size, best.test.auc, best.test.acc, result.provenance, notes=notes
    )


def shown_name(model: str) -> str:
    """Public name of a model; for a local folder or a function in a file, its name without the path."""
    if is_code(model):
        return public_code(model)
    folder = expand_user(model)
    return folder.resolve().name if folder.is_dir() else model


def portable(result: RunResult) -> RunResult:
    """Remove local paths from a result; local models, checkpoints and code keep their file names."""
    recipe = result.recipe
    name, checkpoint = shown_name(recipe.model), recipe.checkpoint
    if checkpoint is not None:
        checkpoint = Path(checkpoint).name
    augmentation = recipe.augmentation_file and public_code(recipe.augmentation_file)
    seeds = [
        replace(seed, facts=replace(seed.facts, origin=seed.facts.origin.replace(recipe.model, name)))
        for seed in result.seeds
    ]
    changes: dict[str, Any] = {"model": name, "checkpoint": checkpoint, "augmentation_file": augmentation}
    return replace(result, recipe=replace(recipe, root=None, **changes), seeds=tuple(seeds))


def repository(recipe: Recipe) -> str:
    """Hub repository of a recipe's data, as ``user/name``."""
    return recipe.repository or f"{NAMESPACE}/{recipe.subset.base}"
