"""The command that trains: ``medmnist-hf finetune``."""

import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from medmnist_hf import console
from medmnist_hf.catalog import bibtex
from medmnist_hf.cli.recipe_options import Force, announce, earlier_results, read_recipe, recipe_options, show_earlier
from medmnist_hf.errors import TrainingError
from medmnist_hf.extras import require_modules, suggest_install
from medmnist_hf.training.recipe import FIELDS, default_folder

EXAMPLE: Final = (
    "Example: medmnist-hf finetune breastmnist --root dist --model timm/resnet18 --image-size 112 --epochs 10 "
    "--seeds 3"
)


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(epilog=EXAMPLE)(finetune)


@recipe_options(*(name for name in FIELDS if name not in {"seeds", "repository"}))
@suggest_install("train")
def finetune(
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run. [default: runs/DATA-SIZE-MODEL-METHOD-DIGEST]")
    ] = None,
    force: Force = False,
    device: Annotated[
        str,
        typer.Option(help="auto, cpu, or an accelerator such as cuda, cuda:1 or mps; with a launcher, leave it out."),
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Threads that make batches. [default: 0 for small batches on a CPU, else 2]"),
    ] = None,
    repo_id: Annotated[
        str | None,
        typer.Option(
            metavar="USER[/NAME]",
            help="Repository on the Hub to push the best seed's model to; without NAME it is that of the folder.",
        ),
    ] = None,
    branch: Annotated[
        str | None, typer.Option(help="Branch to push to; made where it is missing. [default: main]")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Push to a private repository.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress, only the scores and the folder at the end.")
    ] = False,
    **options: Any,
) -> None:
    """Train a model on a subset by a recipe: its defaults, overridden by --preset, by --config, by options.

    Run it again to resume where it stopped. Several GPUs or machines: accelerate launch -m medmnist_hf finetune ...
    """
    if repo_id is None and (branch is not None or private):
        raise TrainingError("--branch and --private say how to push: add --repo-id USER")
    require_modules("train", "torch", "transformers")
    recipe = read_recipe(options)
    folder = out or default_folder(recipe)
    earlier = earlier_results(recipe, folder, force=force)
    if earlier is not None and repo_id is None:
        show_earlier(earlier, folder, quiet=quiet)
        return
    announce(recipe, folder, force=force, quiet=quiet)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # torch takes seconds to import, and --help needs none.
    from medmnist_hf.hub.client import MAIN, hub_api
    from medmnist_hf.training.publish import check_push, push_model
    from medmnist_hf.training.report.terminal import print_results
    from medmnist_hf.training.results import check_complete
    from medmnist_hf.training.running import process_state, run

    is_main, api = process_state(device).is_main_process, hub_api()
    how: dict[str, Any] = {"revision": branch or MAIN, "private": private}
    if repo_id is not None and "/" not in repo_id:
        repo_id = f"{repo_id}/{folder.resolve().name}"
    if repo_id is not None and is_main:
        check_push(api, recipe, repo_id, **how)
    results = run(recipe, folder, quiet=quiet, force=force, device=device, workers=workers)
    if not is_main:
        return
    print_results(results, folder)
    check_complete(results)
    if repo_id is not None:
        pushed = push_model(api, folder, repo_id, references=[bibtex(recipe.subset)], **how)
        console.echo(pushed.summary())
