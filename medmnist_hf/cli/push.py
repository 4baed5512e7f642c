"""The commands that publish: ``medmnist-hf push`` for builds and ``medmnist-hf push-metric`` for the metric."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, TextColumn

from medmnist_hf import console
from medmnist_hf.catalog import NAMESPACE
from medmnist_hf.cli.data_options import LocalData, LocalRoot
from medmnist_hf.errors import BuildError, MedMNISTError
from medmnist_hf.extras import suggest_install

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from medmnist_hf.hub.dataset_plan import Describe, PushOptions
    from medmnist_hf.hub.local_build import LocalBuild


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command(epilog="Example: medmnist-hf push dist/breastmnist --repo-id you/breastmnist --tag v1.0 --yes")(push)
    app.command(epilog="Example: medmnist-hf push-metric --repo-id you/medmnist --tag v1.0 --yes")(push_metric)


@suggest_install("build")
def push(
    data: LocalData,
    *,
    repo_id: Annotated[
        str,
        typer.Option(
            metavar="USER[/NAME]",
            help="Where the builds go; without a name, each under its subset's flag.",
            show_default=False,
        ),
    ],
    root: LocalRoot = None,
    yes: Annotated[
        bool, typer.Option("--yes/--dry-run", help="Push; without it, only show what would change.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="Make new repositories private.")] = False,
    branch: Annotated[
        str | None, typer.Option(help="Branch to push to; made where it is missing. [default: main]")
    ] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request.")] = False,
    tag: Annotated[str | None, typer.Option(help="Tag to set once all is checked, e.g. v1.0.")] = None,
    collection: Annotated[str | None, typer.Option(help="Title of a collection to put the repositories in.")] = None,
    message: Annotated[str | None, typer.Option(help="Title of the commit.")] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Remove from the Hub what a build lacks.")] = False,
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
    """Push builds, each in one commit; what the Hub already has is neither sent again nor lost."""
    from functools import partial

    from medmnist_hf.hub.client import MAIN, hide_progress_bars, hub_api, require_token
    from medmnist_hf.hub.repo_id import split_repo_id
    from medmnist_hf.places.configs import expand, subset_folder

    hide_progress_bars()
    names = expand(data)
    if "/" in repo_id and len(names) > 1:
        raise BuildError(
            f"--repo-id {repo_id} is one repository, and there are {len(names)} builds: give --repo-id "
            f"{repo_id.partition('/')[0]}, and each goes under its subset's flag"
        )
    api = hub_api()
    if yes:
        require_token(api)
    pushed: list[str] = []
    failed = 0
    for name in names:
        try:
            folder = subset_folder(name, root)
            with console.progress(TextColumn("{task.description}", markup=False)) as progress:
                progress.add_task(f"{folder}: comparing each shard with the manifest", total=None)
                from medmnist_hf.cards.render import describe  # takes a second: the line is there
                from medmnist_hf.hub.dataset_plan import PushOptions
                from medmnist_hf.hub.local_build import read_local

                build = read_local(folder, allow_synthetic=allow_synthetic, allow_unverified=allow_unverified)
            target = repo_id if "/" in repo_id else f"{repo_id}/{build.subset.flag}"
            options = PushOptions(target, branch or MAIN, private, create_pr, tag, message, prune)
            _push_one(api, build, options, partial(describe, repo_id=options.repo_id, tasks=eval_yaml), yes)
            pushed.append(options.repo_id)
        except MedMNISTError as error:
            failed += 1
            console.print_error(f"{name}: {error}")
    if not yes:
        console.echo("nothing was changed: pass --yes to push")
    elif collection and pushed:
        from medmnist_hf.hub.dataset_push import add_to_collection

        slug = add_to_collection(api, collection, split_repo_id(pushed[0])[0], pushed, private=private)
        console.echo(f"collection {slug}: {len(pushed)} repositories")
    if failed:
        console.print_error(f"{failed} of {len(names)} builds failed")
        raise typer.Exit(1)


def _push_one(api: "HfApi", build: "LocalBuild", options: "PushOptions", described: "Describe", yes: bool) -> None:
    from medmnist_hf.hub import dataset_push
    from medmnist_hf.hub.dataset_plan import plan_push

    plan = plan_push(api, build, options, described)
    for line in plan.lines():
        console.echo(line)
    if not yes:
        return
    total = sum(plan.count(action)[1] for action in ("new", "changed"))
    bars = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with console.progress(*bars) as progress:
        task = progress.add_task(options.repo_id, total=total)
        pushed = dataset_push.push(
            api, build, plan, options, described, on_progress=lambda count: progress.advance(task, count)
        )
    console.echo(f"{pushed.summary()}\n")


@suggest_install("evaluate")
def push_metric(
    repo_id: Annotated[str, typer.Option(help="The Space, NAMESPACE/medmnist.")] = f"{NAMESPACE}/medmnist",
    yes: Annotated[
        bool, typer.Option("--yes/--dry-run", help="Push; without it, only show what would change.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new Space private.")] = False,
    tag: Annotated[str | None, typer.Option(help="Tag to set once all is checked, e.g. v1.0.")] = None,
    message: Annotated[str | None, typer.Option(help="Title of the commit.")] = None,
) -> None:
    """Push the metric's module in one commit to the Space from which `evaluate.load` takes it."""
    from medmnist_hf.evaluate_module import push as pushing
    from medmnist_hf.hub.client import hide_progress_bars, hub_api, require_token
    from medmnist_hf.hub.commit import CommitOptions

    hide_progress_bars()
    api = hub_api()
    if yes:
        require_token(api)
    options = CommitOptions(repo_id, private=private, tag=tag, message=message)
    plan = pushing.plan_metric(api, options)
    for line in plan.lines():
        console.echo(line)
    if not yes:
        console.echo("nothing was changed: pass --yes to push")
        return
    console.echo(pushing.push_metric(api, plan, options).summary())
