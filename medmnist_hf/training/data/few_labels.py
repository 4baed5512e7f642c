"""Choose the rows that a recipe trains and selects on: a fraction of a split, or a number of rows of each class."""

from collections.abc import Mapping

from medmnist_hf.array_types import IntArray
from medmnist_hf.data.arrays import Arrays
from medmnist_hf.sampling.rows import choose_rows, warn_if_scarce
from medmnist_hf.training.recipe import Recipe


def train_rows(recipe: Recipe, data: Mapping[str, Arrays], seed: int, *, warn: bool = True) -> dict[str, IntArray]:
    """Choose the rows of train for one seed, which also is the seed of the choice unless the recipe has another.

    Args:
        recipe: The recipe.
        data: Split -> images and labels.
        seed: Seed of the training.
        warn: Whether to warn of classes with fewer rows than shots.

    Returns:
        ``train`` -> row numbers in ascending order; empty if all rows are used.
    """
    return _rows(recipe, data, "train", seed if recipe.label_seed is None else recipe.label_seed, warn=warn)


def validation_rows(recipe: Recipe, data: Mapping[str, Arrays]) -> dict[str, IntArray]:
    """Choose the rows of validation, which are the same for all seeds: their scores are compared, and averaged.

    Args:
        recipe: The recipe.
        data: Split -> images and labels.

    Returns:
        ``validation`` -> row numbers in ascending order; empty if all rows are used.
    """
    return _rows(recipe, data, "validation", recipe.label_seed or 0) if recipe.few_validation else {}


def _rows(
    recipe: Recipe, data: Mapping[str, Arrays], split: str, seed: int, *, warn: bool = True
) -> dict[str, IntArray]:
    if not recipe.few_labels:
        return {}
    labels = data[split].labels
    if recipe.shots is not None and warn:
        warn_if_scarce(labels, recipe.shots, recipe.subset.labels, split)
    return {split: choose_rows(labels, fraction=recipe.fraction, shots=recipe.shots, seed=seed)}
