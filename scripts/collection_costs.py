"""Work out what the whole collection costs: bytes, hours and money of building all configs and of a large matrix.

Every assumption and its source is in ``collection_costs.toml``, next to this script; the rest is in the catalog.

Example: python scripts/collection_costs.py
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from medmnist_hf import console
from medmnist_hf.catalog import Subset, subsets
from medmnist_hf.console.program import Program

ASSUMPTIONS: Final = Path(__file__).with_suffix(".toml")
LISTED_SIZE: Final = 224

app = Program(add_completion=False)


@dataclass(frozen=True, slots=True)
class Cost:
    """One line of the table.

    Attributes:
        what: The work.
        amount: How much of it there is.
        hours: How long it takes, and with what.
        bound: What it cannot be faster than.
        dollars: Its price on Hugging Face Jobs; None where no hardware is rented.
    """

    what: str
    amount: str
    hours: str
    bound: str
    dollars: float | None = None


def raw_bytes(entry: Subset, size: int) -> int:
    """Uncompressed pixels of a config."""
    return entry.counts.total * prod(entry.file(size).image_shape)


def npz_bytes(entry: Subset, size: int, listed: dict[str, float]) -> float:
    """Size of an NPZ file: as listed, or scaled with the pixels; of volumes, which are not listed, all pixels."""
    if entry.flag not in listed:
        return raw_bytes(entry, size)
    return listed[entry.flag] * 1e6 * raw_bytes(entry, size) / raw_bytes(entry, LISTED_SIZE)


def costs(given: dict[str, Any]) -> Iterator[Cost]:
    """Work out every line."""
    configs = [(entry, size) for entry in subsets() for size in entry.sizes]
    files = [npz_bytes(entry, size, given["npz_megabytes"]) for entry, size in configs]
    raw = [raw_bytes(entry, size) for entry, size in configs]
    pace, streams = given["download"]["megabytes_per_second"] * 1e6, given["download"]["streams"]
    alone, largest = sum(files) / pace / 3600, max(files) / pace / 3600
    yield Cost(
        f"download {len(configs)} NPZ files",
        f"{sum(files) / 1e9:.0f} GB",
        f"{alone:.1f} h in one stream, {max(largest, alone / streams):.1f} h in {streams}",
        f"{largest:.1f} h for the largest file, {max(files) / 1e9:.1f} GB",
    )
    speed, cores = given["conversion"]["megabytes_per_second"] * 1e6, given["conversion"]["cores"]
    hours = sum(raw) / speed / 3600
    yield Cost(
        "convert them to Parquet",
        f"{sum(raw) / 1e9:.0f} GB of pixels",
        f"{hours:.1f} h with {cores} cores",
        f"{max(raw) / speed / 60:.0f} min for the largest file with {cores} cores",
        (hours + alone) * given["price"]["cpu-basic"],
    )
    matrix = given["matrix"]
    cells = len(configs) * matrix["backbones"] * matrix["methods"] * matrix["seeds"]
    gpu_hours = cells * matrix["gpu_minutes"] / 60
    yield Cost(
        f"{matrix['backbones']} backbones, {matrix['methods']} methods, {matrix['seeds']} seeds",
        f"{cells:,} runs",
        f"{gpu_hours:,.0f} h with one GPU, {gpu_hours / 100:.0f} h with 100",
        "the number of GPUs",
        gpu_hours * given["price"]["l4x1"],
    )
    images = sum(entry.counts.total for entry in subsets() if entry.ndim == 2)
    yield Cost(
        "features of all 2D images, one backbone",
        f"{images * 768 * 2 / 1e9:.2f} GB (768 numbers of 16 bits)",
        "the time of one pass of the model",
        f"{images:,} images",
    )


def table(given: dict[str, Any]) -> str:
    """The lines as a table in Markdown."""
    lines = ["| work | amount | time | bound by | Jobs, $ |", "| --- | ---: | --- | --- | ---: |"]
    for cost in costs(given):
        dollars = (
            "" if cost.dollars is None else f"{cost.dollars:,.2f}" if cost.dollars < 1 else f"{cost.dollars:,.0f}"
        )
        lines.append(f"| {cost.what} | {cost.amount} | {cost.hours} | {cost.bound} | {dollars} |")
    return "\n".join(lines)


@app.command(epilog="Example: python scripts/collection_costs.py")
def main(
    assumptions: Annotated[Path, typer.Option(help="TOML file of assumptions.")] = ASSUMPTIONS,
) -> None:
    """Print what building the collection and a large matrix cost."""
    console.echo(table(tomllib.loads(assumptions.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    console.run(app)
