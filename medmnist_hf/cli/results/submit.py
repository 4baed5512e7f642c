"""``medmnist-hf submit``: start, check and publish an entry of a leaderboard."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import TextColumn

from medmnist_hf import console
from medmnist_hf.cli.options.data import RootToRead
from medmnist_hf.cli.results.evaluate import Json
from medmnist_hf.console.program import Panel, Program
from medmnist_hf.errors import ScoreError

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the entry.", show_default=False)]


def register(app: Program) -> None:
    """Add the group of commands to an app."""
    group = Program(no_args_is_help=True, help="Start, check and publish an entry of a leaderboard.")
    group.command(epilog="Example: medmnist-hf submit init new-entry --run runs/mine")(init)
    group.command(epilog="Example: medmnist-hf submit check my-entry --root dist")(check)
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
    console.echo(f"wrote {folder}/entry.yaml and {len(start.files)} prediction files")
    if not start.files:
        console.echo(f"put prediction files into {folder}/seed-0, a folder per seed, with one file per subset")
    if missing:
        console.echo(f"fill in {', '.join(missing)} in {folder}/entry.yaml")
    console.echo(f"then run medmnist-hf submit check {folder}")


def check(folder: Folder, *, root: RootToRead = None, as_json: Json = False) -> None:
    """Score every file of an entry, compare with what it claims, and show where it would rank.

    Exits with 1 and a line per fault unless the entry can be accepted.
    """
    from medmnist_hf.submissions.check import check_entry
    from medmnist_hf.submissions.terminal import checked_facts, print_checked

    with console.progress(TextColumn("{task.description}", markup=False)) as progress:
        task = progress.add_task("reading the entry", total=None)
        checked = check_entry(
            folder, root=root, on_file=lambda path: progress.update(task, description=f"scoring {path}")
        )
    if as_json:
        console.print_json(checked_facts(checked))
    else:
        print_checked(checked)
    for fault in checked.faults:
        console.print_error(fault)
    if checked.faults:
        raise typer.Exit(1)
    console.echo(f"{checked.name}: every claim is what the files give", err=as_json)
