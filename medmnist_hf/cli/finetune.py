"""The command that trains: ``medmnist-hf finetune``."""

import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from medmnist_hf import console
from medmnist_hf.catalog import bibtex
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
from medmnist_hf.extras import require_modules, suggest_install
from medmnist_hf.training.recipe import FIELDS
from medmnist_hf.training.run_folder import default_folder

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
    device: Annotated[
        str,
        Panel.COMPUTE.option(
            help="auto, cpu, or an accelerator such as cuda, cuda:1 or mps; leave it out under a launcher."
        ),
    ] = "auto",
    workers: Annotated[
        int | None,
        Panel.COMPUTE.option(
            min=0, help="Threads that prepare batches.", show_default="0 for small batches on a CPU, otherwise 2"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        Panel.OUTPUT.option(help="Folder of the run.", show_default="runs/DATA-SIZE-MODEL-METHOD-DIGEST"),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    repo_id: Annotated[
        str | None,
        Panel.HUB.option(
            metavar="USER[/NAME]",
            help="Push the model of the best seed to this repository; NAME defaults to the folder's name.",
        ),
    ] = None,
    branch: Annotated[
        str | None, Panel.HUB.option(help="Branch to push to; created if it does not exist.", show_default="main")
    ] = None,
    private: Annotated[bool, Panel.HUB.option("--private", help="Make a new repository private.")] = False,
    **options: Any,
) -> None:
    """Train a model on a subset, or adapt a pretrained one; or one model on several subsets.

    Options override --config, which overrides --preset. Run the same command again to resume an interrupted run. For
    several GPUs or machines, use accelerate launch -m medmnist_hf finetune ...
    """
    if repo_id is None and (branch is not None or private):
        raise TrainingError("--branch and --private are for a push to the Hub: add --repo-id USER")
    require_modules("train", "torch", "transformers")
    recipe = read_recipe(options)
    if repo_id is not None and recipe.is_joint:
        raise TrainingError(f"--repo-id pushes a model of one subset, not of {recipe.dataset}: leave it out")
    folder = out or default_folder(recipe)
    earlier = earlier_results(recipe, folder, force=force)
    if earlier is not None and repo_id is None:
        show_earlier(earlier, folder, quiet=quiet)
        return
    announce(recipe, folder, force=force, quiet=quiet)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # torch takes seconds to import, so --help must not import it.
    from medmnist_hf.hub.client import MAIN, hub_api
    from medmnist_hf.training.joint.terminal import print_joint_results
    from medmnist_hf.training.publish import check_push, push_model
    from medmnist_hf.training.report.terminal import print_results
    from medmnist_hf.training.results import check_complete
    from medmnist_hf.training.running import process_state, run, run_joint

    is_main, api = process_state(device).is_main_process, hub_api()
    if recipe.is_joint:
        joint = run_joint(recipe, folder, quiet=quiet, force=force, device=device, workers=workers)
        if is_main:
            print_joint_results(joint, folder)
        return
    push_options: dict[str, Any] = {"revision": branch or MAIN, "private": private}
    if repo_id is not None and "/" not in repo_id:
        repo_id = f"{repo_id}/{folder.resolve().name}"
    if repo_id is not None and is_main:
        check_push(api, recipe, repo_id, **push_options)
    results = run(recipe, folder, quiet=quiet, force=force, device=device, workers=workers)
    if not is_main:
        return
    print_results(results, folder)
    check_complete(results)
    if repo_id is not None:
        pushed = push_model(api, folder, repo_id, references=[bibtex(recipe.subset)], **push_options)
        console.echo(pushed.summary())
