"""Push built subsets to the Hub: shows what would change, and with --yes changes it.

Example: python scripts/push.py dist/pathmnist dist/bloodmnist --namespace medmnist --tag v1.0 --yes
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from huggingface_hub import HfApi
from rich.progress import BarColumn, DownloadColumn, TextColumn

from medmnist_hf import console
from medmnist_hf.cards.render import describe
from medmnist_hf.errors import BuildError, MedMNISTError
from medmnist_hf.hub.client import MAIN, hub_api
from medmnist_hf.hub.dataset_plan import Describe, PushOptions, plan_push
from medmnist_hf.hub.dataset_push import add_to_collection, push
from medmnist_hf.hub.local_build import LocalBuild, read_local
from medmnist_hf.hub.repo_id import split_repo_id

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(epilog="Example: python scripts/push.py dist/pathmnist --repo-id me/pathmnist --tag v1.0 --yes")
def main(
    builds: Annotated[list[Path], typer.Argument(metavar="BUILD...", help="Folders of subsets, e.g. dist/pathmnist.")],
    repo_id: Annotated[str | None, typer.Option(help="Where one build goes, e.g. medmnist/pathmnist.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Where each build goes, under its subset's name.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes/--dry-run", help="Push; without it, only show what would change.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="Make new repositories private.")] = False,
    revision: Annotated[str, typer.Option(help="Branch; made where it is missing.")] = MAIN,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request.")] = False,
    tag: Annotated[str | None, typer.Option(help="Tag to set once all is checked, e.g. v1.0.")] = None,
    collection: Annotated[str | None, typer.Option(help="Title of a collection to put the repositories in.")] = None,
    message: Annotated[str | None, typer.Option(help="Title of the commit.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Remove from the Hub what a build lacks.")] = False,
    eval_yaml: Annotated[
        bool,
        typer.Option(
            "--eval-yaml/--no-eval-yaml",
            help="Without: leave eval.yaml out, should the Hub refuse it for a framework that it does not know.",
        ),
    ] = True,
    allow_synthetic: Annotated[bool, typer.Option("--allow-synthetic", help="Push phantoms.")] = False,
    allow_unverified: Annotated[
        bool, typer.Option("--allow-unverified", help="Push builds of files whose MD5 is not the catalogue's.")
    ] = False,
) -> None:
    """Push builds, each in one commit; what is up there already is neither sent again nor lost."""
    if (repo_id is None) == (namespace is None) or (repo_id is not None and len(builds) > 1):
        raise BuildError("where to is not clear: give --repo-id for one build, or --namespace for any number")
    api = hub_api()
    pushed: list[str] = []
    failed = 0
    for folder in builds:
        try:
            build = read_local(folder, allow_synthetic=allow_synthetic, allow_unverified=allow_unverified)
            options = PushOptions(
                repo_id or f"{namespace}/{build.subset.flag}", revision, private, create_pr, tag, message, replace
            )
            owner = options.repo_id.partition("/")[0]  # whether it is valid says the plan, which knows the subset
            _push_one(api, build, options, partial(describe, namespace=owner, tasks=eval_yaml), yes)
            pushed.append(options.repo_id)
        except MedMNISTError as error:
            failed += 1
            console.print_error(f"{folder}: {error}")
    if not yes:
        console.echo("nothing was changed: pass --yes to push")
    elif collection and pushed:
        slug = add_to_collection(api, collection, split_repo_id(pushed[0])[0], pushed, private=private)
        console.echo(f"collection {slug}: {len(pushed)} repositories")
    if failed:
        console.print_error(f"{failed} of {len(builds)} builds failed")
        raise typer.Exit(1)


def _push_one(api: HfApi, build: LocalBuild, options: PushOptions, described: Describe, yes: bool) -> None:
    plan = plan_push(api, build, options, described)
    for line in plan.lines():
        console.echo(line)
    if not yes:
        return
    total = sum(plan.count(action)[1] for action in ("new", "changed"))
    bars = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with console.progress(*bars) as progress:
        task = progress.add_task(options.repo_id, total=total)
        pushed = push(api, build, plan, options, described, on_progress=lambda count: progress.advance(task, count))
    console.echo(f"{pushed.summary()}\n")


if __name__ == "__main__":
    console.run(app)
