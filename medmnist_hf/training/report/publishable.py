"""Which model of a run is to be published, and what may be said of it to others."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Final

from medmnist_hf.catalog import NAMESPACE
from medmnist_hf.files import expand_user
from medmnist_hf.hub.eval_results import MEASURES, ModelResult
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.results import RunResult, SeedResult

FIGURES: Final = "figures"
"""Folder of a seed's figures."""


def best_seed(result: RunResult) -> SeedResult:
    """The seed to publish: the one with the best AUC on validation, the first of equals; undefined counts as 0."""
    return max(result.seeds, key=lambda seed: 0.0 if math.isnan(seed.validation.auc) else seed.validation.auc)


def model_result(result: RunResult) -> ModelResult | None:
    """What the seed to publish reached on test, as a score of the official data set.

    None on data that is not verified, where test was not scored, and where a measure is undefined.
    """
    best, seeds = best_seed(result), len(result.seeds)
    if not result.provenance.comparable or not best.test or math.isnan(best.test.auc + best.test.acc):
        return None
    notes = f"seed {best.seed}, chosen on validation"
    if seeds > 1:
        means = ", ".join(f"{name.upper()} {result.test[name]}" for name in MEASURES)
        notes += f"; mean and standard deviation of {seeds} seeds: {means}"
    return ModelResult(
        result.recipe.dataset, result.recipe.size, best.test.auc, best.test.acc, result.provenance, notes=notes
    )


def shown_name(model: str) -> str:
    """A model as it is called to others: one in a folder by the name of the folder."""
    folder = expand_user(model)
    return folder.resolve().name if folder.is_dir() else model


def portable(result: RunResult) -> RunResult:
    """A result without the folders of the machine it was made on: a model or checkpoint of a file has its name."""
    recipe = result.recipe
    shown, checkpoint = shown_name(recipe.model), recipe.checkpoint
    if checkpoint is not None:
        checkpoint = Path(checkpoint).name
    seeds = [
        replace(seed, facts=replace(seed.facts, origin=seed.facts.origin.replace(recipe.model, shown)))
        for seed in result.seeds
    ]
    return replace(result, recipe=replace(recipe, root=None, model=shown, checkpoint=checkpoint), seeds=tuple(seeds))


def repository(recipe: Recipe) -> str:
    """Repository on the Hub of the data of a recipe, as ``user/name``."""
    return recipe.repository or f"{NAMESPACE}/{recipe.dataset}"
