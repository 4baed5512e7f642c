"""The commands on AutoML engines: ``medmnist-hf automl`` searches, ``medmnist-hf automl-env`` installs an engine."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from medmnist_hf.automl.engines import engine, engines
from medmnist_hf.automl.environments import VARIABLE
from medmnist_hf.cli.recipe_options import Force, announce, earlier_results, read_recipe, recipe_options, show_earlier
from medmnist_hf.errors import TrainingError
from medmnist_hf.extras import suggest_install
from medmnist_hf.training.recipe import default_folder, presets
from medmnist_hf.training.registry import PIXELS

EXAMPLE: Final = (
    "Example: medmnist-hf automl breastmnist --root dist --size 28 --engine flaml --time-budget 10m --seed 0"
)
ENGINES: Final = " ".join(f"{one.name}: {one.about}" for one in engines())


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command(epilog=EXAMPLE)(automl)
    app.command(epilog="Example: medmnist-hf automl-env auto-sklearn")(automl_env)


@recipe_options("dataset", "size", "time_budget", "trials", "root", "revision", "test")
@suggest_install("train")
def automl(
    name: Annotated[str | None, typer.Option("--engine", help=ENGINES)] = None,
    *,
    model: Annotated[
        str | None,
        typer.Option(
            help=f"Network whose frozen features are searched on. [default: {PIXELS}, the images themselves]"
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a trial, for engines that train networks.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help=f"A whole protocol: {', '.join(presets())}. [default: the engine's own, where there is one]"
        ),
    ] = None,
    python: Annotated[Path | None, typer.Option(help="Interpreter that has the engine.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run. [default: runs/DATA-SIZE-MODEL-ENGINE-DIGEST]")
    ] = None,
    force: Force = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress, only the scores and the folder at the end.")
    ] = False,
    **options: Any,
) -> None:
    """Search for a model within a budget of time, chosen on validation and scored once on test.

    Each engine runs in a process of its own. Those that are not installed here get an environment by
    medmnist-hf automl-env. Ctrl-C keeps the best so far, marked partial; run the same command again to go on.
    """
    if name is not None:
        options["method"] = engine(name).name
        preset = preset or engine(name).preset or None
    elif options["config"] is None and preset is None:
        raise TrainingError(f"no engine named: give --engine, one of {', '.join(one.name for one in engines())}")
    if options["config"] is None and preset is None and model is None:
        model = PIXELS
    own = {"model": model, "epochs": epochs, "preset": preset}
    recipe = read_recipe(options | own)
    engine(recipe.method)  # one that is none ends here
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
    name: Annotated[str, typer.Argument(metavar="ENGINE", help=f"One of {', '.join(one.name for one in engines())}.")],
    python: Annotated[
        Path | None,
        typer.Option(help="Interpreter to make it with; looked for on PATH, in pyenv and uv if not given."),
    ] = None,
) -> None:
    """Make a virtual environment for an engine beside this one, in place of one that is there.

    medmnist-hf automl finds it by itself. Nothing of it can be seen by the rest of this project.
    """
    from medmnist_hf.automl.environments import make

    make(engine(name), python, partial(print, flush=True))
