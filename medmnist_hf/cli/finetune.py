"""The command that trains: ``medmnist-hf finetune``."""

import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from medmnist_hf import console
from medmnist_hf.cli.recipe_options import read_recipe, recipe_options
from medmnist_hf.errors import TrainingError
from medmnist_hf.extras import explained
from medmnist_hf.training.recipe import FIELDS, default_folder

EXAMPLE: Final = (
    "Example: medmnist-hf finetune --dataset pathmnist --size 224 --model timm/vit_base_patch14_dinov2 "
    "--method linear-probe --seeds 3"
)


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(epilog=EXAMPLE)(finetune)


@recipe_options(*(name for name in FIELDS if name != "seeds"))
@explained("train")
def finetune(
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run. [default: runs/DATASET-SIZE-MODEL-METHOD]")
    ] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(help="Repository NAMESPACE/NAME on the Hub to push the best seed's model to.")
    ] = None,
    branch: Annotated[
        str | None, typer.Option(help="Branch to push to; made where it is missing. [default: main]")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Push to a private repository.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    **options: Any,
) -> None:
    """Train a model on a subset by a recipe: its defaults, overridden by --preset, by --config, by options.

    Run it again to go on where it stopped. Several GPUs or machines: accelerate launch -m medmnist_hf finetune ...
    """
    if push_to_hub is None and (branch is not None or private):
        raise TrainingError("--branch and --private say how to push: add --push-to-hub NAMESPACE/NAME")
    recipe = read_recipe(options)
    folder = out or default_folder(recipe)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # torch takes seconds to import, and --help needs none.
    from medmnist_hf.cards.bibliography import reference
    from medmnist_hf.hub.client import MAIN, hub_api
    from medmnist_hf.training.publish import check_push, push_model
    from medmnist_hf.training.report.model_card import cited
    from medmnist_hf.training.report.terminal import print_results
    from medmnist_hf.training.results import check_whole
    from medmnist_hf.training.run import launched, run

    is_main, api = launched().is_main_process, hub_api()
    how: dict[str, Any] = {"revision": branch or MAIN, "private": private}
    if push_to_hub is not None and is_main:
        check_push(api, recipe, push_to_hub, **how)
    results = run(recipe, folder, quiet=quiet)
    if not is_main:
        return
    print_results(results, folder)
    check_whole(results)
    if push_to_hub is not None:
        references = [reference(key).text for key in cited(recipe.subset)]
        console.echo(push_model(api, folder, push_to_hub, references=references, **how).summary())
