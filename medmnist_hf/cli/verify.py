"""The command that proves builds equal to their source: ``medmnist-hf verify``."""

from typing import Annotated

import typer

from medmnist_hf import console
from medmnist_hf.catalog import subset
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.extras import explained


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(epilog="Example: medmnist-hf verify dist/breastmnist medmnist/pathmnist --source zenodo")(verify)


@explained("build")
def verify(
    builds: Annotated[
        list[str],
        typer.Argument(
            metavar="BUILD...",
            help="Folders of subsets or configs, e.g. dist/pathmnist or dist/pathmnist/28, or USER/NAME[@REVISION].",
        ),
    ],
    *,
    source: Annotated[
        str | None, typer.Option(help="zenodo, phantom or a folder. [default: check against the manifest]")
    ] = None,
    size: Annotated[list[int] | None, typer.Option(help="Check these sizes alone; repeatable.")] = None,
    mirror: Annotated[list[str] | None, typer.Option(help="Base URL tried before Zenodo; repeatable.")] = None,
    allow_unverified: Annotated[
        bool, typer.Option("--allow-unverified", help="Accept NPZ files whose MD5 is not the catalogue's.")
    ] = False,
    phantom_rows: Annotated[int | None, typer.Option(min=1, help="Train rows of a phantom.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the phantom.")] = 0,
) -> None:
    """Read every row back through load_dataset and compare pixels and labels with the NPZ file or the manifest."""
    from medmnist_hf.conversion.sources.source import open_source
    from medmnist_hf.hub.dataset_state import find_configs

    origin = (
        open_source(
            source, mirrors=mirror or (), allow_unverified=allow_unverified, phantom_rows=phantom_rows, seed=seed
        )
        if source
        else None
    )
    failed = 0
    for place in builds:
        try:
            configs = find_configs(place, size or ())
        except MedMNISTError as error:
            failed += 1
            console.print_error(error)
            continue
        for manifest, folder in configs:
            rows = sum(record.rows for record in manifest.splits.values())
            try:
                with console.progress() as progress:
                    task = progress.add_task(f"{manifest.subset} {manifest.size}", total=rows)
                    from medmnist_hf.conversion.checks.verify import verify_config  # takes a second: the bar is there

                    file = origin.fetch(subset(manifest.subset), manifest.size) if origin else None
                    result = verify_config(
                        folder(),
                        file,
                        on_progress=lambda count, bar=progress, task=task: bar.advance(task, count),  # type: ignore[misc]
                    )
                console.echo(
                    f"ok: {result.subset} {result.size}: {result.rows:,} rows in {result.shards} shards "
                    f"equal {result.against}"
                )
            except MedMNISTError as error:
                failed += 1
                console.print_error(error)
    if failed:
        raise typer.Exit(1)
