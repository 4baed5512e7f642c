"""Options made of a recipe's fields: which a command has, in which order, and the recipe that comes of them."""

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from medmnist_hf.cli.recipe_options import read_recipe, recipe_options
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.training.recipe import FIELDS, Recipe
from medmnist_hf.training.registry import METHODS

RUNNER = CliRunner()


def app_of(made: list[Recipe]) -> typer.Typer:
    """A command of all fields, with an option of its own in place of one of them."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

    @app.command()
    @recipe_options(*(name for name in FIELDS if name != "seeds"))
    def main(
        first: Annotated[str | None, typer.Option(help="Comes first.")] = None,
        *,
        epochs: Annotated[int | None, typer.Option(help="Its own.")] = None,
        **options: Any,
    ) -> None:
        made.append(read_recipe(options | {"epochs": epochs}))

    return app


def recipe_of(*words: str) -> Recipe:
    made: list[Recipe] = []
    app_of(made)([*words], standalone_mode=False)
    return made[0]


def test_what_is_not_given_is_the_presets_and_what_is_overrides_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 7\nbatch_size: 16\n", encoding="utf-8")
    words = ["--dataset", "breastmnist", "--preset", "medmnist_v2", "--config", str(path)]
    recipe = recipe_of(*words, "--batch-size", "8", "--channels", "3", "--no-test", "--method", "knn")
    assert (recipe.optimizer, recipe.epochs, recipe.batch_size, recipe.channels) == ("adam", 7, 8, 3)
    assert (recipe.test, recipe.method, recipe.pretrained) == (False, "knn", False)
    assert recipe_of(*words, "--epochs", "3").epochs == 3


def test_seeds_are_counted_or_listed() -> None:
    assert recipe_of("--dataset", "breastmnist").seeds == (0,)
    assert recipe_of("--dataset", "breastmnist", "--seeds", "3").seeds == (0, 1, 2)
    assert recipe_of("--dataset", "breastmnist", "--seed", "5", "--seed", "2").seeds == (5, 2)
    with pytest.raises(MedMNISTError, match="seeds are"):
        recipe_of("--dataset", "breastmnist", "--seeds", "0")


def test_the_help_names_defaults_choices_and_methods_and_each_option_once() -> None:
    shown = " ".join(RUNNER.invoke(app_of([]), ["--help"], env={"COLUMNS": "500"}).stdout.split())
    assert "Optimizer; sgd has momentum 0.9. One of adam, adamw, sgd. Default: adamw." in shown
    assert "--pretrained / --no-pretrained" in shown and "Default: yes." in shown
    assert all(f"{one.name}: {one.about}" in shown for one in METHODS.values())
    assert shown.count("--epochs ") == 1 and "Its own." in shown and "Passes over train" not in shown
    assert shown.index("--first") < shown.index("--dataset") < shown.index("--preset") < shown.index("--epochs ")
