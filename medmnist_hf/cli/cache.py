"""The command on decoded splits: ``medmnist-hf cache`` lists them, with ``--clear`` it removes them."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from medmnist_hf import console

# `array_cache` is imported in the function: it needs numpy, which would slow down every other command.


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(epilog="Example: medmnist-hf cache --clear pathmnist")(cache)


def cache(
    subset: Annotated[
        str | None, typer.Argument(metavar="SUBSET", help="Only this subset, e.g. pathmnist.", show_default=False)
    ] = None,
    *,
    clear: Annotated[bool, typer.Option("--clear", help="Remove the splits instead of listing them.")] = False,
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            "--dir", help="Folder of the cache.", show_default="MEDMNIST_ARRAYS, or medmnist-hf/arrays in HF_HOME"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the decoded splits that load_arrays and to_arrays keep on disk, or remove them."""
    from medmnist_hf.data.array_cache import cache_info, cache_root, clear_cache

    if clear:
        freed = clear_cache(cache_dir, subset)
        console.echo(f'{{"freed": {freed}}}' if as_json else f"{freed / 1e6:,.1f} MB freed")
        return
    entries = cache_info(cache_dir, subset)
    if as_json:
        console.print_json([dataclasses.asdict(entry) | {"path": str(entry.path)} for entry in entries])
        return
    table = console.table(
        "name", "size", "split", "shape", "MB", "created", text=("name", "split", "shape", "created")
    )
    for entry in entries:
        shape = " x ".join(map(str, entry.shape))
        table.add_row(entry.name, str(entry.size), entry.split, shape, f"{entry.bytes / 1e6:,.1f}", entry.created)
    if entries:
        console.terminal().print(table)
    total = sum(entry.bytes for entry in entries)
    console.echo(f"{total / 1e6:,.1f} MB in {cache_root(cache_dir)}")
