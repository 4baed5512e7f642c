"""``medmnist-hf submit``: start, check and publish an entry of a leaderboard."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.progress import TextColumn

from medmnist_hf import console
from medmnist_hf.catalog import NAMESPACE
from medmnist_hf.cli.options.data import RootToRead
from medmnist_hf.cli.results.evaluate import Json
from medmnist_hf.console.program import Panel, Program
from medmnist_hf.errors import ScoreError, UnreachableHubError, counted

if TYPE_CHECKING:
    from medmnist_hf.submissions.check import Checked
    from medmnist_hf.submissions.rows import Row

LEADERBOARD: Final = f"{NAMESPACE}/medmnist-leaderboard"
"""Repository of entries on the Hub."""

_REPOSITORY: Final = ("--repo-id", "--repo")


def register(app: Program) -> None:
    """Add the group of commands to an app."""
    group = Program(no_args_is_help=True, help="Start, check and publish an entry of a leaderboard.")
    group.command(epilog="Example: medmnist-hf submit init new-entry --run runs/mine")(init)
    group.command(epilog="Example: medmnist-hf submit check my-entry --root dist")(check)
    group.command(epilog="Example: medmnist-hf submit push my-entry --root dist --repo-id you/medmnist-leaderboard")(
        push
    )
    app.add_typer(group, name="submit", rich_help_panel=app.panel)


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to make; it names the entry.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE",
            help="Prediction files for test, with official names; those of one subset are its seeds, in this order.",
        ),
    ] = None,
    *,
    run: Annotated[
        list[Path] | None,
        Panel.DATA.option("--run", help="Folder of a finished run, in place of files: one run per subset, all seeds."),
    ] = None,
    root: RootToRead = None,
) -> None:
    """Start an entry: copy prediction files, and write an entry.yaml with the scores and all that is known.

    For runs everything is known. For files, fill in how they were made.
    """
    from medmnist_hf.submissions.start import start_of_files, write_start

    if run and files:
        raise ScoreError("give prediction files or --run, not both")
    if run:
        from medmnist_hf.training.report.submission import start_of_runs

        start = start_of_runs(run)
    else:
        start = start_of_files(files or (), root)
    missing = write_start(folder, start)
    console.echo(f"wrote {folder}/entry.yaml and {counted(len(start.files), 'prediction file')}")
    if not start.files:
        console.echo(f"put prediction files into {folder}/seed-0, a folder per seed, with one file per subset")
    if missing:
        console.echo(f"fill in {', '.join(missing)} in {folder}/entry.yaml")
    console.echo(f"then run medmnist-hf submit check {folder}")


def check(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="Folder of the entry.", show_default="that of the pull request"),
    ] = None,
    *,
    root: RootToRead = None,
    repo_id: Annotated[
        str | None,
        Panel.HUB.option(*_REPOSITORY, metavar="USER/NAME", help="Compare with the entries of this repository too."),
    ] = None,
    pr: Annotated[
        int | None, Panel.HUB.option("--pr", min=1, help="Check a pull request of the repository, by its number.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score every file of an entry, compare with what it claims, and show where it would rank.

    Exits with 1 and a line per fault unless the entry can be accepted.
    """
    from medmnist_hf.hub.client import hide_progress_bars

    hide_progress_bars()
    if folder is not None and pr is None:
        checked = _check_folder(folder, repo_id, root)
    elif folder is None and pr is not None and repo_id is not None:
        checked = _check_proposal(repo_id, pr, root)
    else:
        raise ScoreError("give the folder of an entry, or --repo-id with --pr")
    _show(checked, as_json=as_json)
    if checked.faults:
        raise typer.Exit(1)
    console.echo(f"{checked.name}: every claim is what the files give", err=as_json)


def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the entry.", show_default=False)],
    *,
    root: RootToRead = None,
    repo_id: Annotated[
        str, Panel.HUB.option(*_REPOSITORY, metavar="USER/NAME", help="Repository of entries; created if missing.")
    ] = LEADERBOARD,
    yes: Annotated[bool, Panel.HUB.option("--yes/--dry-run", help="Push, or only show what would change.")] = False,
    replace: Annotated[
        bool, Panel.HUB.option("--replace", help="Replace the entry of this name in the repository.")
    ] = False,
    message: Annotated[
        str | None, Panel.HUB.option(help="Title of the pull request.", show_default="name and method of the entry")
    ] = None,
) -> None:
    """Check an entry, and open a pull request with it and its recomputed scores.

    Without --yes, only show what would change; without a connection, the files of the entry. Files on the Hub are read
    back and compared.
    """
    from medmnist_hf.hub.client import hide_progress_bars, hub_api, require_token
    from medmnist_hf.hub.commit import CommitOptions
    from medmnist_hf.submissions.repository import entry_lines, plan_entry, push_entry

    hide_progress_bars()
    api = hub_api()
    if yes:
        require_token(api)
    unread: UnreachableHubError | None = None
    try:
        checked = _check_folder(folder, repo_id, root, missing_ok=True)
    except UnreachableHubError as error:
        if yes:
            raise
        checked, unread = _check_folder(folder, None, root), error
    _show(checked, as_json=False)
    if checked.faults:
        raise typer.Exit(1)
    if unread is not None:
        for line in entry_lines(folder, checked):
            console.echo(line)
        console.echo(f"warning: not compared with {repo_id} and the entries accepted there: {unread}", err=True)
        console.echo("nothing was changed")
        return
    options = CommitOptions(repo_id, create_pr=True, message=message)
    plan = plan_entry(api, folder, checked, options, replaces=replace)
    for line in plan.lines():
        console.echo(line)
    if yes:
        console.echo(push_entry(api, plan, checked, options).summary())
    else:
        console.echo("nothing was changed: pass --yes to open a pull request")


def _show(checked: "Checked", *, as_json: bool) -> None:
    from medmnist_hf.submissions.terminal import checked_facts, print_checked

    if as_json:
        console.print_json(checked_facts(checked))
    else:
        print_checked(checked)
    for fault in checked.faults:
        console.print_error(fault)


def _check_folder(folder: Path, repo_id: str | None, root: Path | None, *, missing_ok: bool = False) -> "Checked":
    """Check an entry, against those of a repository too if one is given."""
    if repo_id is None:
        return _check(folder, (), root)
    from huggingface_hub.constants import REPO_TYPE_DATASET

    from medmnist_hf.hub.client import hub_api
    from medmnist_hf.hub.repo_id import split_repo_id
    from medmnist_hf.hub.tree import read_tree
    from medmnist_hf.submissions.repository import read_known

    split_repo_id(repo_id)
    api = hub_api()
    tree = read_tree(api, repo_id, repo_type=REPO_TYPE_DATASET, missing_ok=missing_ok)
    return _check(folder, read_known(api, tree), root)


def _check_proposal(repo_id: str, number: int, root: Path | None) -> "Checked":
    """Check the entry of a pull request against those of its repository."""
    from medmnist_hf.hub.client import hub_api
    from medmnist_hf.hub.repo_id import split_repo_id
    from medmnist_hf.submissions.repository import entry_names, fetched_entry, read_known, read_proposal

    split_repo_id(repo_id)
    api = hub_api()
    proposal = read_proposal(api, repo_id, number)
    if proposal.name in entry_names(proposal.main):
        console.echo(f"warning: replaces the entry {proposal.name}: only its author may", err=True)
    with fetched_entry(api, proposal.tree, proposal.name) as folder:
        checked = _check(folder, read_known(api, proposal.main), root, published=True)
    return dataclasses.replace(checked, faults=(*proposal.faults, *checked.faults))


def _check(folder: Path, known: "Iterable[Row]", root: Path | None, *, published: bool = False) -> "Checked":
    """Check an entry with a line of progress."""
    from medmnist_hf.submissions.check import check_entry

    with console.progress(TextColumn("{task.description}", markup=False)) as progress:
        task = progress.add_task(f"reading the entry {folder.name}", total=None)
        return check_entry(
            folder,
            known,
            root=root,
            published=published,
            on_file=lambda path: progress.update(task, description=f"scoring {path}"),
        )
