"""The commands that publish: ``medmnist-hf push`` for builds and ``medmnist-hf push-metric`` for the metric."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, TextColumn

from medmnist_hf import console
from medmnist_hf.catalog import NAMESPACE
from medmnist_hf.cli.make_data.tasks import (
    JobsFolder,
    absolute,
    command_of,
    folder_of_jobs,
    result_of,
    run_again,
)
from medmnist_hf.cli.options.data import LocalData, LocalRoot
from medmnist_hf.cli.options.engine import EngineConfig, EngineName, Workers, choose_engine
from medmnist_hf.console.program import Panel
from medmnist_hf.embeddings.stores import store_folders
from medmnist_hf.errors import BuildError, MedMNISTError, counted
from medmnist_hf.extras import suggest_install
from medmnist_hf.files import expand_user
from medmnist_hf.jobs.tasks import Task, TaskFolder, unique_names
from medmnist_hf.manifest import read_build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from huggingface_hub import HfApi

    from medmnist_hf.cli.options.engine import EngineChoice
    from medmnist_hf.hub.commit import Pushed
    from medmnist_hf.hub.dataset_plan import Plan, PushOptions
    from medmnist_hf.hub.plan import FilePlan


NOTHING = "nothing was changed: pass --yes to push"
_NOT_FOR_TASKS = frozenset({"data", "root", "collection"})

Yes = Annotated[bool, Panel.HUB.option("--yes/--dry-run", help="Push, or only show what would change.")]
Tag = Annotated[str | None, Panel.HUB.option(help="Tag to set after the pushed files are verified, e.g. v1.0.")]
Private = Annotated[bool, Panel.HUB.option("--private", help="Make a new Space private.")]
Message = Annotated[str | None, Panel.HUB.option(help="Title of the commit.", show_default="a summary of the changes")]


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command(epilog="Example: medmnist-hf push dist/breastmnist --repo-id you/breastmnist --tag v1.0 --yes")(push)
    app.command(epilog="Example: medmnist-hf push-metric --repo-id you/medmnist --tag v1.0 --yes")(push_metric)


@suggest_install("build")
def push(
    context: typer.Context,
    data: LocalData,
    *,
    root: LocalRoot = None,
    allow_synthetic: Annotated[bool, Panel.DATA.option("--allow-synthetic", help="Push builds of phantoms.")] = False,
    allow_unverified: Annotated[
        bool,
        Panel.DATA.option("--allow-unverified", help="Push builds of NPZ files whose MD5 differs from the catalog."),
    ] = False,
    engine: EngineName = None,
    workers: Workers = None,
    engine_config: EngineConfig = None,
    jobs_folder: JobsFolder = None,
    repo_id: Annotated[
        str,
        Panel.HUB.option(
            metavar="USER[/NAME]", help="Repository to push to; without NAME, one per subset, named like it."
        ),
    ],
    yes: Yes = False,
    private: Annotated[bool, Panel.HUB.option("--private", help="Make new repositories private.")] = False,
    branch: Annotated[
        str | None, Panel.HUB.option(help="Branch to push to; created if it does not exist.", show_default="main")
    ] = None,
    create_pr: Annotated[bool, Panel.HUB.option("--create-pr", help="Open a pull request.")] = False,
    tag: Tag = None,
    message: Message = None,
    collection: Annotated[
        str | None, Panel.HUB.option(help="Title of a collection to add the repositories to.")
    ] = None,
    prune: Annotated[
        bool,
        Panel.HUB.option(
            "--prune",
            help="Delete other files of the repository: of images all but features, of features other features.",
        ),
    ] = False,
    eval_yaml: Annotated[
        bool,
        Panel.HUB.option(
            "--eval-yaml/--no-eval-yaml",
            help="Include eval.yaml; leave it out if the Hub refuses its evaluation framework.",
        ),
    ] = True,
) -> None:
    """Push builds or feature stores to the Hub, each in one commit; unchanged files are not uploaded again.

    A push of features leaves the images of a repository as they are, and a push of images its features. Without --yes,
    only show what would change. With --engine, each build is a task; tokens are not passed to tasks, so each machine
    needs HF_TOKEN or a login.
    """
    from medmnist_hf.hub.client import MAIN, hide_progress_bars, hub_api, require_token
    from medmnist_hf.hub.dataset_plan import PushOptions
    from medmnist_hf.hub.repo_id import split_repo_id
    from medmnist_hf.places.configs import expand, subset_folder

    choice = choose_engine(engine, workers, engine_config, jobs_folder=jobs_folder)
    hide_progress_bars()
    stores = {name: [str(folder) for folder in store_folders(expand_user(name))] for name in data}
    names = [each for name in data for each in stores[name] or expand([name])]
    if "/" in repo_id and len(names) > 1:
        raise BuildError(
            f"--repo-id {repo_id} is one repository, but there are {len(names)} builds: give --repo-id "
            f"{repo_id.partition('/')[0]} to push each to a repository named after its subset"
        )
    api = hub_api()
    if yes:
        require_token(api)
    planned: list[str] = []
    folders: list[Path] = []
    failed = 0
    for name in names:
        try:
            is_store = any(name in folders for folders in stores.values())
            folder = Path(name) if is_store else subset_folder(name, root)
            if choice is not None:
                folders.append(folder)
                continue
            planned.append(
                _push_folder(
                    api,
                    folder,
                    is_store=is_store,
                    allowed={"allow_synthetic": allow_synthetic, "allow_unverified": allow_unverified},
                    options_for=lambda flag: PushOptions(
                        _target(repo_id, flag), branch or MAIN, private, create_pr, tag, message, prune
                    ),
                    eval_yaml=eval_yaml,
                    yes=yes,
                )
            )
        except MedMNISTError as error:
            failed += 1
            console.print_error(f"{name}: {error}")
    if choice is not None and folders:
        planned = _push_on(context, choice, folders, repo_id, jobs_folder)
        failed += len(folders) - len(planned)
    if planned and not yes:
        console.echo(NOTHING)
    elif collection and planned:
        from medmnist_hf.hub.dataset_push import add_to_collection

        slug = add_to_collection(api, collection, split_repo_id(planned[0])[0], planned, private=private)
        console.echo(f"collection {slug}: {counted(len(planned), 'repository', 'repositories')}")
    if failed:
        if len(names) > 1:
            console.print_error(f"{failed} of {len(names)} builds failed")
        raise typer.Exit(1)


def _target(repo_id: str, flag: str) -> str:
    """The repository of a subset."""
    return repo_id if "/" in repo_id else f"{repo_id}/{flag}"


def _push_on(
    context: typer.Context, choice: "EngineChoice", folders: "Sequence[Path]", repo_id: str, path: "Path | None"
) -> list[str]:
    """Push builds as tasks of an engine, printing what each of them did; return the repositories of those done."""
    from medmnist_hf.embeddings.card import read_stores

    flags = [(read_build(folder) or read_stores(folder))[0].subset for folder in folders]
    targets = {name: _target(repo_id, flag) for name, flag in zip(unique_names(flags), flags, strict=True)}
    tasks = [
        Task.with_result(name, *command_of(context, absolute(folder), leave_out=_NOT_FOR_TASKS, repo_id=target))
        for (name, target), folder in zip(targets.items(), folders, strict=True)
    ]

    def describe(folder: TaskFolder, task: Task) -> str:
        lines = result_of(folder, task).rstrip().splitlines()
        console.echo("\n".join(line for line in lines if line != NOTHING))
        return "done"

    roots = [folder.parent for folder in folders]
    _, done = run_again(choice, folder_of_jobs(path, "push", roots), tasks, describe)
    return [targets[task.name] for task in done]


def _push_folder(
    api: "HfApi",
    folder: Path,
    *,
    is_store: bool,
    allowed: dict[str, bool],
    options_for: "Callable[[str], PushOptions]",
    eval_yaml: bool,
    yes: bool,
) -> str:
    """Push a build, or feature stores, and return the repository."""
    with console.progress(TextColumn("{task.description}", markup=False)) as progress:
        progress.add_task(f"{folder}: comparing each shard with the manifest", total=None)
        from medmnist_hf.cards.render import describe  # slow, so show the line first
        from medmnist_hf.embeddings.publishing import LocalStores, plan_stores, push_stores, read_local_stores
        from medmnist_hf.hub import dataset_push
        from medmnist_hf.hub.dataset_plan import plan_push
        from medmnist_hf.hub.local_build import read_local

        content = read_local_stores(folder, **allowed) if is_store else read_local(folder, **allowed)
    options = options_for(content.subset.flag)
    if isinstance(content, LocalStores):
        plan = plan_stores(api, content, options)
        _push_one(plan, partial(push_stores, api, content, plan, options), yes)
    else:
        texts = partial(describe, repo_id=options.repo_id, tasks=eval_yaml)
        plan = plan_push(api, content, options, texts)
        _push_one(plan, partial(dataset_push.push, api, content, plan, options, texts), yes)
    return options.repo_id


def _push_one(plan: "Plan", push: "Callable[..., Pushed]", yes: bool) -> None:
    """Show a plan and, with ``--yes``, carry it out."""
    for line in plan.lines():
        console.echo(line)
    if not yes:
        return
    total = sum(plan.count(action)[1] for action in ("new", "changed"))
    bars = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with console.progress(*bars) as progress:
        task = progress.add_task(plan.state.repo_id, total=total)
        pushed = push(on_progress=lambda count: progress.advance(task, count))
    console.echo(f"{pushed.summary()}\n")


@suggest_install("evaluate")
def push_metric(
    repo_id: Annotated[
        str, Panel.HUB.option(metavar="USER/NAME", help="The Space to push to.")
    ] = f"{NAMESPACE}/medmnist",
    yes: Yes = False,
    private: Private = False,
    tag: Tag = None,
    message: Message = None,
) -> None:
    """Push the module of the metric, in one commit, to the Space that `evaluate.load` downloads it from.

    Without --yes, only show what would change.
    """
    from medmnist_hf.evaluate_module import push as pushing
    from medmnist_hf.hub.client import hide_progress_bars, hub_api, require_token
    from medmnist_hf.hub.commit import CommitOptions

    hide_progress_bars()
    api = hub_api()
    if yes:
        require_token(api)
    options = CommitOptions(repo_id, private=private, tag=tag, message=message)
    plan = pushing.plan_metric(api, options)
    push_files(plan, partial(pushing.push_metric, api, plan, options), yes)


def push_files(plan: "FilePlan", push: "Callable[[], Pushed]", yes: bool) -> None:
    """Show a plan of a Space and, with ``--yes``, carry it out."""
    for line in plan.lines():
        console.echo(line)
    console.echo(push().summary() if yes else NOTHING)
