"""The command line of the wheel: ``medmnist-hf list`` and ``medmnist-hf info``."""

import dataclasses
import json
import sys
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from medmnist_hf import catalog, cli_export, cli_results, console
from medmnist_hf.results import published_notes, published_results

_PIPE_WIDTH: Final = 120

app = typer.Typer(
    help="MedMNIST on Hugging Face: what there is and what it holds.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command(name="list", epilog="Example: medmnist-hf list")
def list_subsets(as_json: Json = False) -> None:
    """List the 18 subsets with task, classes, rows, sizes and licence."""
    if as_json:
        typer.echo(
            json.dumps([dataclasses.asdict(subset) for subset in catalog.subsets()], indent=2, ensure_ascii=False)
        )
        return
    table = Table(box=None, pad_edge=False)
    for column in ("subset", "task", "kind", "classes", "train / validation / test", "sizes", "licence"):
        table.add_column(column, justify="right" if column == "classes" else "left", no_wrap=column != "task")
    for subset in catalog.subsets():
        counts = " / ".join(f"{subset.counts[split]:,}" for split in catalog.SPLITS)
        kind = "3D" if subset.ndim == 3 else "RGB" if subset.channels == 3 else "gray"
        sizes = " ".join(map(str, subset.sizes))
        table.add_row(subset.flag, subset.task, kind, str(len(subset.labels)), counts, sizes, subset.license)
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


@app.command(epilog="Example: medmnist-hf info pathmnist --json")
def info(
    subset: Annotated[str, typer.Argument(help="Flag of a subset, e.g. pathmnist.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show all that is known of one subset: labels, counts, files, licence, caveats, published results."""
    entry = catalog.subset(subset)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(entry), indent=2, ensure_ascii=False))
        return
    out = Console(highlight=False, markup=False)
    shape = "volumes" if entry.ndim == 3 else "RGB images" if entry.channels == 3 else "gray-scale images"
    out.print(f"{entry.python_class} ({entry.flag}): {entry.modality}, {shape}, {entry.task}")
    out.print(f"\n{entry.description}\n")
    out.print("rows     " + ", ".join(f"{split} {entry.counts[split]:,}" for split in catalog.SPLITS))
    out.print("sizes    " + ", ".join(map(str, entry.sizes)))
    out.print(f"licence  {catalog.collection().license_names[entry.license]} ({entry.license})")
    out.print("labels")
    for index, label in enumerate(entry.labels):
        out.print(f"  {index:2d}  {label}")
    out.print("caveats")
    for caveat in (*entry.caveats, *catalog.collection().caveats):
        out.print(f"  - {caveat}")
    out.print("published results on test (AUC, ACC)")
    for row in published_results(entry.flag):
        out.print(f"  {row.method:22s} {row.auc:.3f}  {row.acc:.3f}")
    for note in published_notes(entry.flag):
        out.print(f"  note: {note}")


cli_export.register(app)
cli_results.register(app)


def main() -> None:
    """Entry point of ``medmnist-hf``."""
    console.run(app)
