"""Commands that write a config in other formats: ``medmnist-hf export`` and ``medmnist-hf montage``."""

from pathlib import Path
from typing import Annotated

import typer

from medmnist_hf import console
from medmnist_hf.cli.options.data import ReadData, Revision, RootToRead, Size
from medmnist_hf.console.program import Panel
from medmnist_hf.errors import counted

_Force = Annotated[bool, Panel.OUTPUT.option("--force", help="Replace existing files.")]

# `datasets` and `pyarrow` are imported in the functions: they would slow down every other command.


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command(
        epilog="Example: medmnist-hf export breastmnist --root dist --format imagefolder --out exported",
    )(export)
    app.command(epilog="Example: medmnist-hf montage breastmnist --root dist --out breast.png")(montage)


def export(
    data: ReadData,
    *,
    size: Size = None,
    split: Annotated[
        list[str] | None, Panel.DATA.option(help="train, validation or test.", show_default="all")
    ] = None,
    root: RootToRead = None,
    revision: Revision = None,
    out: Annotated[Path, Panel.OUTPUT.option(help="Folder to write to, e.g. pathmnist/ and pathmnist.csv.")],
    form: Annotated[
        str | None,
        Panel.OUTPUT.option(
            "--format",
            help="png (official names and CSV), imagefolder, npz, vertex (Vertex AI), or gif (volumes).",
            show_default="png, or gif for volumes",
        ),
    ] = None,
    gcs: Annotated[
        str | None,
        Panel.OUTPUT.option(
            metavar="gs://BUCKET/FOLDER", help="For vertex: where in Cloud Storage you will copy the output folder."
        ),
    ] = None,
    force: _Force = False,
) -> None:
    """Write a data set as PNG or GIF files with a CSV, an ImageFolder, an official NPZ file, or input of Vertex AI."""
    from medmnist_hf.data.rows import open_rows
    from medmnist_hf.exporting import export as exporting

    rows = open_rows(data, size, root=root, revision=revision)
    with console.progress() as progress:
        task = progress.add_task(
            f"exporting {rows.entry.flag} {rows.size}", total=exporting.rows_of(rows, split or ())
        )
        exported = exporting.export(
            rows,
            out,
            form,
            splits=split or (),
            gcs=gcs,
            force=force,
            on_progress=lambda count: progress.advance(task, count),
        )
    console.echo(f"{counted(exported.rows, 'row')} in {' and '.join(map(str, exported.paths))}")


def montage(
    data: ReadData,
    *,
    size: Size = None,
    split: Annotated[str, Panel.DATA.option(help="train, validation or test.")] = "train",
    root: RootToRead = None,
    revision: Revision = None,
    out: Annotated[Path, Panel.OUTPUT.option(help="File to write: *.png for images, *.gif for volumes.")],
    length: Annotated[int, Panel.OUTPUT.option(help="Tiles per row and per column.")] = 20,
    seed: Annotated[
        int | None, Panel.OUTPUT.option(help="Seed of the random choice.", show_default="a different one each time")
    ] = None,
    replace: Annotated[bool, Panel.OUTPUT.option("--with-replacement", help="Draw rows with replacement.")] = False,
    labels: Annotated[
        bool, Panel.OUTPUT.option("--labels", help="Write the names of the labels below each tile.")
    ] = False,
    force: _Force = False,
) -> None:
    """Draw random rows of a split as a square of tiles; volumes are animated slice by slice.

    The animation starts at the non-blank slice nearest to the middle and loops through all slices.
    """
    from medmnist_hf.data.rows import open_rows
    from medmnist_hf.exporting.montage import export_montage

    rows = open_rows(data, size, root=root, revision=revision)
    path = export_montage(
        rows, out, split=split, length=length, seed=seed, replace=replace, labels=labels, force=force
    )
    console.echo(f"{length * length:,} of {rows.count(split):,} rows of {split} in {path}")
