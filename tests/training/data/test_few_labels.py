"""``medmnist_hf.training.data.few_labels``: which rows a recipe trains and selects on."""

import logging
from typing import Any

import numpy as np
import pytest

from medmnist_hf.data.arrays import Arrays
from medmnist_hf.sampling.rows import choose_rows
from medmnist_hf.training.data.few_labels import train_rows, validation_rows
from medmnist_hf.training.recipe import Recipe, make_recipe

LABELS = {"train": np.arange(300) % 5, "validation": np.arange(70) % 5}
DATA = {split: Arrays(np.zeros((len(labels), 2, 2, 3), np.uint8), labels) for split, labels in LABELS.items()}


def recipe_of(**options: Any) -> Recipe:
    return make_recipe({"dataset": "retinamnist", **options})


def test_each_seed_has_its_own_rows_unless_the_recipe_has_a_label_seed() -> None:
    for seed in (0, 4):
        rows = train_rows(recipe_of(shots=3), DATA, seed)
        assert rows.keys() == {"train"}
        assert np.array_equal(rows["train"], choose_rows(LABELS["train"], shots=3, seed=seed))
        fixed = train_rows(recipe_of(shots=3, label_seed=2), DATA, seed)["train"]
        assert np.array_equal(fixed, choose_rows(LABELS["train"], shots=3, seed=2))


def test_validation_is_reduced_on_request_to_the_same_rows_for_all_seeds() -> None:
    assert not validation_rows(recipe_of(fraction=0.1), DATA)
    rows = validation_rows(recipe_of(fraction=0.1, few_validation=True), DATA)["validation"]
    assert np.array_equal(rows, choose_rows(LABELS["validation"], fraction=0.1, seed=0))
    other = validation_rows(recipe_of(fraction=0.1, few_validation=True, label_seed=7), DATA)["validation"]
    assert np.array_equal(other, choose_rows(LABELS["validation"], fraction=0.1, seed=7))


@pytest.mark.parametrize("options", [{}, {"fraction": 1.0}, {"shots": 3, "method": "zero-shot"}])
def test_all_rows_are_used_otherwise(options: dict[str, Any]) -> None:
    recipe = recipe_of(few_validation=True, **options)
    assert not train_rows(recipe, DATA, 0) and not validation_rows(recipe, DATA) and not recipe.few_labels


def test_classes_with_fewer_rows_than_shots_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    recipe = recipe_of(shots=61)
    with caplog.at_level(logging.WARNING):
        train_rows(recipe, DATA, 1, warn=False)
        assert not caplog.records
        train_rows(recipe, DATA, 0)
    assert [record.getMessage() for record in caplog.records] == [
        f"train has 60 rows of {name}, fewer than 61 shots: all of them are used" for name in recipe.subset.labels
    ]
