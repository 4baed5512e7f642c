"""Commands for AutoML engines: ``medmnist-hf automl`` searches, ``medmnist-hf automl-env`` installs an engine."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from medmnist_hf.automl.engines import engine, engines
from medmnist_hf.automl.environments import VARIABLE
from medmnist_hf.cli.options.recipe import (
    Force,
    Quiet,
    announce,
    earlier_results,
    read_recipe,
    recipe_options,
    show_earlier,
)
from medmnist_hf.console.program import Panel
from medmnist_hf.errors import TrainingError
from medmnist_hf.extras import suggest_install
from medmnist_hf.training.recipe import presets
from medmnist_hf.training.registry import LABELS, PIXELS
from medmnist_hf.training.run_folder import default_folder

EXAMPLE: Final = (
    "Example: medmnist-hf automl breastmnist --root dist --size 28 --engine flaml --time-budget 10m --seed 0"
)
ENGINES: Final = " ".join(f"{each.name}: {each.about}" for each in engines())


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command(epilog=EXAMPLE)(automl)
    app.command(epilog="Example: medmnist-hf automl-env auto-sklearn")(automl_env)


@recipe_options("dataset", "size", "time_budget", "trials", "root", "revision", *LABELS, "test")
@suggest_install("train")
def automl(
    *,
    name: Annotated[str | None, Panel.METHOD.option("--engine", help=ENGINES)] = None,
    python: Annotated[
        Path | None,
        Panel.METHOD.option(help="Python interpreter that has the engine.", show_default="the one of automl-env"),
    ] = None,
    model: Annotated[
        str | None,
        Panel.MODEL.option(
            help="Network whose frozen features the engine searches on.",
            show_default=f"{PIXELS}, the images themselves",
        ),
    ] = None,
    epochs: Annotated[
        int | None, Panel.TRAINING.option(help="Epochs per trial, for engines that train networks.")
    ] = None,
    preset: Annotated[
        str | None,
        Panel.RECIPE.option(
            help=f"Complete training protocol: {', '.join(presets())}.",
            show_default="the preset of the engine, if it has one",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        Panel.OUTPUT.option(help="Folder of the run.", show_default="runs/DATA-SIZE-MODEL-ENGINE-DIGEST"),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    **options: Any,
) -> None:
    """Search for a model within a time budget, selected on validation and scored once on test.

    Each engine runs in its own process. For an engine that is not installed, medmnist-hf automl-env creates an
    environment. Ctrl-C keeps the best model so far, marked partial; run the same command again to resume.
    """
    if name is not None:
        options["method"] = engine(name).name
        preset = preset or engine(name).preset or None
    elif options["config"] is None and preset is None:
        raise TrainingError(f"no engine given: add --engine, one of {', '.join(each.name for each in engines())}")
    if options["config"] is None and preset is None and model is None:
        model = PIXELS
    own = {"model": model, "epochs": epochs, "preset": preset}
    recipe = read_recipe(options | own)
    engine(recipe.method)  # raises an error for a method that is not an engine
    folder = out or default_folder(recipe)
    if (earlier := earlier_results(recipe, folder, force=force)) is not None:
        show_earlier(earlier, folder, quiet=quiet)
        return
    announce(recipe, folder, force=force, quiet=quiet)
    if python is not None:
        os.environ[VARIABLE] = str(python)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from medmnist_hf.training.report.terminal import print_results
    from medmnist_hf.training.results import check_complete  # torch takes seconds to import
    from medmnist_hf.training.running import run

    results = run(recipe, folder, quiet=quiet, force=force)
    print_results(results, folder)
    check_complete(results)


def automl_env(
    name: Annotated[
        str, typer.Argument(metavar="ENGINE", help=f"One of {', '.join(each.name for each in engines())}.")
    ],
    python: Annotated[
        Path | None,
        typer.Option(help="Python interpreter to create it with.", show_default="searched on PATH, in pyenv and uv"),
    ] = None,
) -> None:
    """Create a virtual environment for an AutoML engine, replacing an existing one.

    medmnist-hf automl finds it automatically. It is separate from the environment of medmnist-hf.
    """
    from medmnist_hf.automl.environments import make

    make(engine(name), python, partial(print, flush=True))
