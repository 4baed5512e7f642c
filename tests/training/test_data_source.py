"""``medmnist_hf.training.data_source``: every form of a data set's name resolves to the fields of a recipe."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from medmnist_hf.data.configs import open_config
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.training.recipe import make_recipe
from tests.conftest import Phantoms
from tests.fixtures.builds import build


def test_every_form_of_a_name_gives_the_fields_of_a_recipe(phantoms: Phantoms, tmp_path: Path) -> None:
    tiny_builds = tmp_path / "builds"
    build(phantoms, tiny_builds, "breastmnist", 28)
    path = str(tiny_builds / "breastmnist")
    renamed = tiny_builds / "mine"
    recipes: dict[str, dict[str, Any]] = {
        "PathMNIST-64": {"dataset": "pathmnist", "size": 64, "root": None, "repository": None},
        "you/pathmnist@v1": {"dataset": "pathmnist", "repository": "you/pathmnist", "revision": "v1"},
        "pathmnist@v1": {"dataset": "pathmnist", "repository": "medmnist/pathmnist", "revision": "v1"},
        path: {"dataset": "breastmnist", "size": 28, "root": path},
        f"{path}/28": {"dataset": "breastmnist", "size": 28, "root": f"{path}/28"},
        str(tiny_builds): {"dataset": "breastmnist", "root": str(tiny_builds)},
    }
    for name, fields in recipes.items():
        recipe = make_recipe({"dataset": name})
        assert {field: getattr(recipe, field) for field in fields} == fields, name
        assert make_recipe(yaml.safe_load(recipe.to_yaml())) == recipe
    (tiny_builds / "breastmnist").rename(renamed)
    recipe = make_recipe({"dataset": str(renamed)})
    assert open_config(recipe.source, recipe.size, recipe.root).where == str(renamed / "28")
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("pathmnist-64", {"size": 28}, "names size 64, but size is 28"),
        (str(renamed), {"root": "dist"}, "are both paths: give one"),
        ("you/pathmnist", {"root": "dist"}, "is on the Hub, but the root dist is not"),
        (str(tiny_builds / "typo"), {}, "no such file or folder"),
    ]
    for name, values, message in refused:
        with pytest.raises(MedMNISTError, match=message):
            make_recipe({"dataset": name} | values)
