"""Compare loading for training with the official package, plain `load_dataset` and ours, on the same phantoms.

Every figure is measured by `peer_load.py` in a separate process, with shuffled batches of 128 images or 32 volumes.
Batches are float32 and normalized, except volumes of the official package, which it returns as float64.

Example: python scripts/bench/bench_load.py --only rgb28 --only 3d28
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from medmnist_hf import catalog, console
from medmnist_hf.cards.render import write_card
from medmnist_hf.console.program import Program
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.sources.phantom import phantom_counts, write_phantom
from medmnist_hf.conversion.sources.source import SourceFile
from medmnist_hf.errors import SourceError

app = Program(add_completion=False)


@dataclass(frozen=True, slots=True)
class Case:
    """One input: `aim` is the speed-up that ours must reach, `aim_first` whether that includes the first epoch."""

    flag: str
    size: int
    rows: int
    aim: int | None
    batch_size: int = 128
    aim_first: bool = False


CASES = {
    "rgb28": Case("bloodmnist", 28, 30_000, 10, aim_first=True),
    "rgb64": Case("bloodmnist", 64, 8_000, None),
    "rgb224": Case("dermamnist", 224, 1_500, 3),
    "3d28": Case("organmnist3d", 28, 971, 5, batch_size=32, aim_first=True),
    "3d64": Case("organmnist3d", 64, 600, 5, batch_size=32),
}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to load; the folder `fresh` is removed first, so that its decoding is measured too."""

    name: str
    kind: str
    options: tuple[str, ...] = ()
    fresh: str = ""


HUB, ARRAYS = "hub", "arrays"
OFFICIAL = (
    Way("official, 0 workers", "official"),
    Way("official, 2 workers", "official", ("--workers", "2")),
)
COLD, WARM = Way("ours, first use", "ours", fresh=ARRAYS), Way("ours", "ours")
WAYS = (
    *OFFICIAL,
    Way("load_dataset, first use", "plain", fresh=HUB),
    Way("load_dataset, 0 workers", "plain"),
    Way("load_dataset, 2 workers", "plain", ("--workers", "2")),
    COLD,
    WARM,
    Way("ours, prefetch 0", "ours", ("--prefetch", "0")),
    Way("ours, prefetch 2", "ours", ("--prefetch", "2")),
)


@dataclass(slots=True)
class Figures:
    """Measurements of one way: images per second of every epoch; seconds and bytes of every run."""

    epochs: list[float] = field(default_factory=list)
    first_batch: list[float] = field(default_factory=list)
    first_epoch: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def add(self, run: dict[str, Any]) -> None:
        """Add the output of one run of ``peer_load.py``."""
        self.epochs += run["epochs"]
        self.first_batch.append(run["first_batch"])
        self.first_epoch.append(run["first_epoch"])
        self.memory.append(run["memory"])


def prepare(case: Case, rows: int, work: Path) -> Path:
    """Create the folder of an input if it is missing: ``root`` contains the NPZ file, ``dist`` the build."""
    entry = catalog.subset(case.flag)
    folder = work / f"{case.flag}-{case.size}-{rows}"
    npz = folder / "root" / entry.file(case.size).name
    npz.parent.mkdir(parents=True, exist_ok=True)
    counts = phantom_counts(entry, rows)
    if not npz.exists():
        # numpy.savez_compressed uses level 6, so decompression takes as long as that of official files.
        write_phantom(npz, entry, case.size, counts, compresslevel=6)
    file = SourceFile(npz, "phantom", "0" * 32, npz.stat().st_size, verified=False, counts=counts)
    write_card(build_config(entry, case.size, file, folder / "dist").config_dir.parent)
    return folder


def run(way: Way, case: Case, folder: Path, seconds: float) -> dict[str, Any]:
    """Measure one way in a separate process."""
    if way.fresh:
        shutil.rmtree(folder / way.fresh, ignore_errors=True)
    command = [sys.executable, str(Path(__file__).with_name("peer_load.py")), way.kind, case.flag, str(case.size)]
    command += [str(folder), "--batch-size", str(case.batch_size), "--seconds", str(seconds), *way.options]
    environment = os.environ | {"HF_DATASETS_CACHE": str(folder / HUB), "HF_HUB_OFFLINE": "1"}
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SourceError(f"{way.name} failed: {(process.stderr.strip() or 'no message').splitlines()[-1]}")
    measurements: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return measurements


def lines(figures: dict[Way, Figures]) -> list[tuple[str, ...]]:
    """Rows of the table for one input."""
    return [
        (
            way.name,
            f"{median(runs.epochs):,.0f}",
            f"{median(runs.first_batch):.2f}",
            f"{median(runs.first_epoch):.2f}",
            f"{median(runs.memory) / 1e6:,.0f}",
        )
        for way, runs in figures.items()
    ]


def verdict(case: Case, figures: dict[Way, Figures]) -> tuple[str, ...]:
    """Compare ours with the better official way: images per second, first epochs and memory, with the aims."""
    official = [figures[way] for way in OFFICIAL]
    speedup = median(figures[WARM].epochs) / max(median(runs.epochs) for runs in official)
    first = min(median(runs.first_epoch) for runs in official)
    cold, warm = (first / median(figures[way].first_epoch) for way in (COLD, WARM))
    memory = median(figures[WARM].memory) / min(median(runs.memory) for runs in official)
    return (
        f"{speedup:.1f}x",
        _aim(case.aim, speedup),
        f"{cold:.1f}x",
        _aim(1 if case.aim_first else None, cold),
        f"{warm:.1f}x",
        f"{memory:.2f}",
    )


def _aim(aim: int | None, reached: float) -> str:
    return "" if aim is None else f"{aim}x {'reached' if reached >= aim else 'missed'}"


def _chosen(only: Sequence[str] | None) -> list[str]:
    unknown = set(only or ()) - set(CASES)
    if unknown:
        raise SourceError(f"unknown input {sorted(unknown)[0]!r}: choose from {', '.join(CASES)}")
    return list(only or CASES)


@app.command(epilog="Example: python scripts/bench/bench_load.py --only rgb28 --only 3d28")
def bench(
    only: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(CASES)}; repeatable. [default: all]")
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(
            min=64,
            help=f"Rows of the train split. [default: {', '.join(f'{case.rows:,}' for case in CASES.values())}]",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each way, in turn; the median is reported.")] = 3,
    seconds: Annotated[float, typer.Option(min=0, help="Duration of a run in seconds; at least three epochs.")] = 2.0,
    work: Annotated[
        Path | None, typer.Option(help="Folder of inputs, kept for the next run. [default: a temporary folder]")
    ] = None,
) -> None:
    """Print images/s, seconds to the first batch and of the first epoch, and peak memory; then compare the ways."""
    chosen = _chosen(only)
    figures_table = console.table(
        "input", "way", "images/s", "first batch s", "first epoch s", "RSS MB", text=("input", "way")
    )
    columns = ("input", "images/s", "aim", "first epoch, first use", "aim", "first epoch, warm", "RSS")
    ratios = console.table(*columns, text=("input", "aim"))
    with tempfile.TemporaryDirectory() as temporary:
        for name in chosen:
            case = CASES[name]
            folder = prepare(case, rows or case.rows, work or Path(temporary))
            figures = {way: Figures() for way in WAYS}
            for number in range(rounds):
                for way in WAYS:
                    print(f"{name}: {way.name}, run {number + 1} of {rounds}", file=sys.stderr)
                    figures[way].add(run(way, case, folder, seconds))
            for line in lines(figures):
                figures_table.add_row(name, *line)
            ratios.add_row(name, *verdict(case, figures))
            if work is None:
                shutil.rmtree(folder)
    out = console.terminal()
    out.print(figures_table)
    out.print("ours compared with the better official way")
    out.print(ratios)
    print("seconds count from the start of loading, after imports; RSS is the peak above imports, workers included")


if __name__ == "__main__":
    console.run(app)
