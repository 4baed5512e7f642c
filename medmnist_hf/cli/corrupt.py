"""The command ``medmnist-hf corrupt``, which writes corrupted test splits."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from medmnist_hf import console
from medmnist_hf.cli.options.data import ReadData, Revision, RootToRead, Size
from medmnist_hf.console.program import Panel


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(
        epilog="Example: medmnist-hf corrupt breastmnist pixelate speckle_noise --root dist --out corrupted",
    )(corrupt)


def corrupt(
    data: ReadData,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="CORRUPTION", help="Corruptions of the subset.", show_default="all of the subset"),
    ] = None,
    *,
    size: Size = None,
    root: RootToRead = None,
    revision: Revision = None,
    out: Annotated[Path, Panel.OUTPUT.option(help="Folder to write to, e.g. breastmnist/motion_blur.npz.")],
    force: Annotated[bool, Panel.OUTPUT.option("--force", help="Replace existing files.")] = False,
) -> None:
    """Write test splits with the corruptions of MedMNIST-C at severities 1 to 5, as NPZ files in the published layout.

    Published files have 224 pixels (--size 224). Run the same command again to continue: complete files are kept.
    """
    from medmnist_hf.corruptions.npz import corrupted_path, write_corrupted
    from medmnist_hf.corruptions.registry import SEVERITIES, corruptions, find_corruption
    from medmnist_hf.data.rows import open_rows
    from medmnist_hf.files import expand_user

    rows = open_rows(data, size, root=root, revision=revision)
    flag, folder = rows.entry.flag, expand_user(out)
    chosen = [find_corruption(flag, name) for name in dict.fromkeys(names)] if names else corruptions(flag)
    with console.progress() as progress:
        for number, corruption in enumerate(chosen, 1):
            task = progress.add_task(
                f"{flag} {corruption.name} ({number} of {len(chosen)})", total=len(SEVERITIES) * rows.count("test")
            )
            advance = partial(progress.advance, task)
            written = write_corrupted(rows, corruption, folder, force=force, on_progress=advance)
            progress.remove_task(task)
            console.echo(f"{corrupted_path(rows, corruption, folder)}{'' if written else ' is complete: kept'}")
