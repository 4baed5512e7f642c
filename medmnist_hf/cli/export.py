"""Commands that write a config in other forms: ``medmnist-hf export`` and ``medmnist-hf montage``."""

from pathlib import Path
from typing import Annotated

import typer

from medmnist_hf import console
from medmnist_hf.cli.data_options import ReadData, Revision, RootToRead, Size

_Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]

# Whoever asks for another command does not wait for `datasets` and `pyarrow`: the functions below import them.


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command(
        epilog="Example: medmnist-hf export breastmnist --root dist --format imagefolder --out exported",
    )(export)
    app.command(epilog="Example: medmnist-hf montage breastmnist --root dist --out breast.png")(montage)


def export(
    data: ReadData,
    *,
    out: Annotated[Path, typer.Option(help="Folder that receives e.g. pathmnist/ and pathmnist.csv.")],
    size: Size = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="png (official names and CSV), imagefolder, npz, vertex (Vertex AI), or gif (volumes). "
            "[default: png; gif for volumes]",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="train, validation or test; repeatable. [default: all]", show_default=False),
    ] = None,
    gcs: Annotated[
        str | None,
        typer.Option(
            help="For vertex: the folder in Cloud Storage that the written one will be copied to, gs://BUCKET/FOLDER.",
            show_default=False,
        ),
    ] = None,
    root: RootToRead = None,
    revision: Revision = None,
    force: _Force = False,
) -> None:
    """Write a subset as PNG or GIF files with a CSV, as an ImageFolder, as the official NPZ file, or for Vertex AI."""
    from medmnist_hf.data.rows import open_rows
    from medmnist_hf.exporting import export as exporting

    rows = open_rows(data, size, root=root, revision=revision)
    with console.progress() as progress:
        task = progress.add_task(
            f"exporting {rows.entry.flag} {rows.size}", total=exporting.rows_of(rows, split or ())
        )
        done = exporting.export(
            rows,
            out,
            form,
            splits=split or (),
            gcs=gcs,
            force=force,
            on_progress=lambda count: progress.advance(task, count),
        )
    console.echo(f"{done.rows:,} rows in {' and '.join(map(str, done.paths))}")


def montage(
    data: ReadData,
    *,
    out: Annotated[Path, typer.Option(help="The picture: *.png of images, *.gif of volumes.")],
    size: Size = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "train",
    length: Annotated[int, typer.Option(help="Tiles in each direction.")] = 20,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the choice. [default: another each time]", show_default=False)
    ] = None,
    replace: Annotated[
        bool, typer.Option("--with-replacement", help="Allow a row to be drawn several times.")
    ] = False,
    labels: Annotated[
        bool, typer.Option("--labels", help="Write the name of the class, or of the findings, below each tile.")
    ] = False,
    root: RootToRead = None,
    revision: Revision = None,
    force: _Force = False,
) -> None:
    """Draw random rows of a split as a square of tiles; volumes as an animation through their slices.

    The animation begins with a slice that shows something, the nearest to the middle, and goes round.
    """
    from medmnist_hf.data.rows import open_rows
    from medmnist_hf.exporting.montage import export_montage

    rows = open_rows(data, size, root=root, revision=revision)
    path = export_montage(
        rows, out, split=split, length=length, seed=seed, replace=replace, labels=labels, force=force
    )
    console.echo(f"{length * length:,} of {rows.count(split):,} rows of {split} in {path}")
