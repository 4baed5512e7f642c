"""The program ``medmnist-hf``: ``list``, ``info`` and ``cite`` are defined here, other verbs in sibling modules."""

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from medmnist_hf import __version__, catalog, console
from medmnist_hf.cli import (
    automl,
    benchmark,
    cache,
    corrupt,
    embed,
    export,
    finetune,
    predict,
    scorecard,
)
from medmnist_hf.cli.make_data import audit, build, push, space, verify
from medmnist_hf.cli.results import evaluate, leaderboard, robustness, submit
from medmnist_hf.console.program import Program
from medmnist_hf.scoring.published import published_notes, published_results

app = Program(no_args_is_help=True)
app.panel = "Use the data"

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def _show_version(requested: bool) -> None:
    if requested:
        console.echo(f"medmnist-hf {__version__}")
        raise typer.Exit


@app.callback(epilog="Example: medmnist-hf info pathmnist")
def about(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """MedMNIST on Hugging Face: load, build, train on and score standardized biomedical images."""


@app.command(name="list", epilog="Example: medmnist-hf list")
def list_subsets(as_json: Json = False) -> None:
    """List all subsets with task, classes, rows, sizes and license."""
    if as_json:
        console.print_json(catalog.subsets())
        return
    columns = ("subset", "task", "kind", "classes", "train / validation / test", "sizes", "license")
    table = console.table(*columns, text=set(columns) - {"classes"}, wrap="task")
    for subset in catalog.subsets():
        counts = " / ".join(f"{subset.counts[split]:,}" for split in catalog.SPLITS)
        kind = "3D" if subset.ndim == 3 else "RGB" if subset.channels == 3 else "gray"
        sizes = " ".join(map(str, subset.sizes))
        table.add_row(subset.flag, subset.task, kind, str(len(subset.labels)), counts, sizes, subset.license)
    console.terminal().print(table)


@app.command(epilog="Example: medmnist-hf info pathmnist --json")
def info(
    subset: Annotated[
        str, typer.Argument(metavar="SUBSET", help="Name of a subset, e.g. pathmnist.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Show a subset: labels, counts, files, license, citations, caveats and published results."""
    facts = _facts(catalog.sized_subset(subset)[0])
    if as_json:
        console.print_json(facts)
        return
    out = console.terminal()
    for line in _lines(facts):
        out.print(line)
    # A URL or MD5 that is wrapped cannot be copied.
    for file in facts["files"]:
        out.print(f"  {file['name']:24s} {file['size']:3d}  {file['md5']}  {file['url']}", soft_wrap=True)


@app.command(epilog="Example: medmnist-hf cite pathmnist > refs.bib")
def cite(
    subsets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SUBSET", help="Names of subsets, or all.", show_default="none, which cites MedMNIST only"
        ),
    ] = None,
) -> None:
    """Print the papers to cite, in BibTeX: MedMNIST and the source data of subsets."""
    console.echo(catalog.cite(*subsets or ()))


def _facts(entry: catalog.Subset) -> dict[str, Any]:
    """The catalog entry of a subset with its published results, in the types of JSON."""
    shared = catalog.collection()
    results = [dataclasses.asdict(row) for row in published_results(entry.flag)]
    return {
        **dataclasses.asdict(entry),
        "license_name": shared.license_names[entry.license],
        "license_url": shared.license_urls[entry.license],
        "collection": {key: getattr(shared, key) for key in ("version", "record", "homepage", "citations", "caveats")},
        "published_results": [{key: row[key] for key in ("method", "auc", "acc")} for row in results],
        "published_notes": published_notes(entry.flag),
    }


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    """The facts as lines of text, without the files."""
    shared = facts["collection"]
    shape = "volumes" if facts["ndim"] == 3 else "RGB images" if facts["channels"] == 3 else "gray-scale images"
    yield f"{facts['python_class']} ({facts['flag']}): {facts['modality']}, {shape}, {facts['task']}"
    yield f"\n{facts['description']}\n"
    yield "rows       " + ", ".join(f"{split} {rows:,}" for split, rows in facts["counts"].items())
    entry = catalog.subset(facts["flag"])
    yield "sizes      " + ", ".join(map(str, entry.sizes))
    for variant in catalog.variants(entry):
        yield f"variant    {', '.join(variant.config_names)} (medmnist-hf info {variant.flag})"
    yield f"license    {facts['license_name']} ({facts['license']}), {facts['license_url']}"
    if not entry.variant:
        yield f"release    {shared['version']}, Zenodo record {shared['record']}, {shared['homepage']}"
    yield f"labels by  {facts['annotations_creators']}"
    keys = ", ".join((*facts["citations"], *shared["citations"]))
    yield f"cite       {keys} (medmnist-hf cite {facts['flag']} prints them)"
    yield "labels"
    yield from (f"  {index:2d}  {label}" for index, label in enumerate(facts["labels"]))
    yield "caveats"
    yield from (f"  - {caveat}" for caveat in (*facts["caveats"], *shared["caveats"]))
    yield "published results on test (AUC, ACC)" + ("" if facts["published_results"] else ": none")
    yield from (f"  {row['method']:22s} {row['auc']:.3f}  {row['acc']:.3f}" for row in facts["published_results"])
    yield from (f"  note: {note}" for note in facts["published_notes"])
    yield "files (name, size, MD5, URL)"


for app.panel, modules in {
    "Use the data": (export, corrupt, cache),
    "Make the data": (build, verify, audit, push, space),
    "Train and compare": (embed, finetune, predict, automl, benchmark, scorecard),
    "Score": (evaluate, leaderboard, robustness, submit),
}.items():
    for module in modules:
        module.register(app)


def main(*arguments: str) -> None:
    """Entry point of ``medmnist-hf``.

    Args:
        *arguments: Arguments inserted before those of the command line, such as the verb in a script for one verb.
    """
    console.run(app, arguments, "medmnist-hf")
