"""Several stores in one call: each gets an outcome, and random weights are those of seed 0."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medmnist_hf.embeddings.reading import load_features
from medmnist_hf.errors import MedMNISTError, SourceError
from medmnist_hf.own_code.names import pin_code, public_code
from medmnist_hf.training.embedding.embed import EmbedOptions, embed, embed_all, verify
from medmnist_hf.training.recipe import Recipe
from tests.conftest import Phantoms
from tests.fixtures.methods import CPU
from tests.fixtures.own_code import TEXT, write_code
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


def test_another_version_of_a_users_file_has_another_store(recipe: Recipe, tmp_path: Path) -> None:
    name, stores = f"{write_code(tmp_path)}:features", tmp_path / "features"
    options = EmbedOptions(stores, "float32", CPU)
    own = replace(recipe, model=name)
    first = embed(own, options).written
    assert first is not None and first.manifest.model.id == public_code(pin_code(name, "model_file"))
    features, _ = load_features("breastmnist", 28, "test", stores, model=name, data=str(own.root))
    assert features.shape[1] == first.manifest.width == 16
    write_code(tmp_path, f"{TEXT}\n# another version\n")
    with pytest.raises(SourceError, match=r"no features of breastmnist at size 28 by .*my\.py:features#\w+ in"):
        load_features("breastmnist", 28, "test", stores, model=name, data=str(own.root))
    assert embed(own, options).error is None
    written = sorted(path.name for path in (stores / "breastmnist").glob("28-*"))
    assert len(written) == 2 and all(each.startswith("28-my.py-features-") for each in written)
    assert verify(own, options, 3).endswith("equal to live features")
