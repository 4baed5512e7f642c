"""Several stores in one call: each gets an outcome, and random weights are those of seed 0."""

from pathlib import Path

import pytest
import torch

from medmnist_hf.errors import MedMNISTError
from medmnist_hf.training.embedding.embed import EmbedOptions, embed, embed_all, verify
from medmnist_hf.training.recipe import Recipe
from tests.conftest import Phantoms
from tests.fixtures.methods import CPU
from tests.fixtures.runs import build_all, tiny


@pytest.fixture(scope="module")
def recipe(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return tiny(
        build_all(phantoms, tmp_path_factory.mktemp("dist"), "breastmnist", rows=20), "breastmnist", method="knn"
    )


def test_every_recipe_has_an_outcome(recipe: Recipe, tmp_path: Path) -> None:
    missing = tiny(tmp_path, "chestmnist", method="knn")
    options = EmbedOptions(tmp_path / "features", "float32", CPU)
    started: list[Recipe] = []
    failed, done = embed_all([missing, recipe], options, on_start=started.append)
    assert started == [missing, recipe]
    assert failed.written is None and "no build of chestmnist" in str(failed.error)
    assert done.error is None and done.written is not None and done.speed > 0
    assert done.written.extracted == done.written.manifest.rows


def test_random_weights_are_those_of_seed_0(recipe: Recipe, tmp_path: Path) -> None:
    options = EmbedOptions(tmp_path, "float32", CPU)
    assert embed(recipe, options).error is None
    torch.manual_seed(5)
    again = embed(recipe, options)
    assert again.written is not None and again.written.reused
    assert verify(recipe, options, 3).endswith("equal to live features")


def test_a_missing_store_is_not_verified(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(MedMNISTError, match="no features of breastmnist"):
        verify(recipe, EmbedOptions(tmp_path, "float32", CPU), None)
