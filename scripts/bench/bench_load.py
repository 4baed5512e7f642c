"""Loading for training: the official package, plain `load_dataset` and ours, on the same phantoms, in one run.

Every figure comes from a process of its own, which `peer_load.py` is: shuffled batches of 128 images or 32 volumes,
float32 and normalized, but for the official package's volumes, which its `DataLoader` gives as float64.

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
    """One input, what ours is to be faster by, and whether its first epoch is to beat the official one."""

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
    """One way to read; `fresh` names the folder that is removed before, so that its decoding is measured too."""

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
    """What the runs of one way gave: images a second of every epoch, seconds and bytes of every run."""

    epochs: list[float] = field(default_factory=list)
    first_batch: list[float] = field(default_factory=list)
    first_epoch: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def add(self, run: dict[str, Any]) -> None:
        """Take in what ``peer_load.py`` printed."""
        self.epochs += run["epochs"]
        self.first_batch.append(run["first_batch"])
        self.first_epoch.append(run["first_epoch"])
        self.memory.append(run["memory"])


def prepared(case: Case, rows: int, work: Path) -> Path:
    """The folder of an input, made where it is not there: ``root`` holds the NPZ, ``dist`` the build."""
    entry = catalog.subset(case.flag)
    folder = work / f"{case.flag}-{case.size}-{rows}"
    npz = folder / "root" / entry.file(case.size).name
    npz.parent.mkdir(parents=True, exist_ok=True)
    counts = phantom_counts(entry, rows)
    if not npz.exists():
        # Level 6 is that of numpy.savez_compressed, so that inflating costs what it does with official files.
        write_phantom(npz, entry, case.size, counts, compresslevel=6)
    file = SourceFile(npz, "phantom", "0" * 32, npz.stat().st_size, verified=False, counts=counts)
    write_card(build_config(entry, case.size, file, folder / "dist").config_dir.parent)
    return folder


def run(way: Way, case: Case, folder: Path, seconds: float) -> dict[str, Any]:
    """Measure one way in a process of its own."""
    if way.fresh:
        shutil.rmtree(folder / way.fresh, ignore_errors=True)
    command = [sys.executable, str(Path(__file__).with_name("peer_load.py")), way.kind, case.flag, str(case.size)]
    command += [str(folder), "--batch-size", str(case.batch_size), "--seconds", str(seconds), *way.options]
    environment = os.environ | {"HF_DATASETS_CACHE": str(folder / HUB), "HF_HUB_OFFLINE": "1"}
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SourceError(f"{way.name} failed: {(done.stderr.strip() or 'without a word').splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def lines(figures: dict[Way, Figures]) -> list[tuple[str, ...]]:
    """The rows of the table for one input."""
    return [
        (
            way.name,
            f"{median(found.epochs):,.0f}",
            f"{median(found.first_batch):.2f}",
            f"{median(found.first_epoch):.2f}",
            f"{median(found.memory) / 1e6:,.0f}",
        )
        for way, found in figures.items()
    ]


def verdict(case: Case, figures: dict[Way, Figures]) -> tuple[str, ...]:
    """Ours against the better of the official ways: images a second, first epochs, memory; with the aims."""
    official = [figures[way] for way in OFFICIAL]
    faster = median(figures[WARM].epochs) / max(median(found.epochs) for found in official)
    first = min(median(found.first_epoch) for found in official)
    sooner = [first / median(figures[way].first_epoch) for way in (COLD, WARM)]
    memory = median(figures[WARM].memory) / min(median(found.memory) for found in official)
    return (
        f"{faster:.1f}x",
        _aim(case.aim, faster),
        f"{sooner[0]:.1f}x",
        _aim(1 if case.aim_first else None, sooner[0]),
        f"{sooner[1]:.1f}x",
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
            help=f"Train rows of each input. [default: {', '.join(f'{case.rows:,}' for case in CASES.values())}]",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each way, in turn; medians count.")] = 3,
    seconds: Annotated[float, typer.Option(min=0, help="Of epochs in each run; three epochs at the least.")] = 2.0,
    work: Annotated[
        Path | None, typer.Option(help="Where inputs lie, and stay for the next run. [default: a temporary folder]")
    ] = None,
) -> None:
    """Print images/s, seconds to the first batch and of the first epoch, and peak memory; then ours against theirs."""
    chosen = _chosen(only)
    figures_table = console.table(
        "input", "way", "images/s", "first batch s", "first epoch s", "RSS MB", text=("input", "way")
    )
    columns = ("input", "images/s", "aim", "first epoch, first use", "aim", "first epoch, warm", "RSS")
    ratios = console.table(*columns, text=("input", "aim"))
    with tempfile.TemporaryDirectory() as temporary:
        for name in chosen:
            case = CASES[name]
            folder = prepared(case, rows or case.rows, work or Path(temporary))
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
    out.print("ours against the better official way")
    out.print(ratios)
    print("seconds from the start of loading, imports apart; RSS is the peak above the imports, workers included")


if __name__ == "__main__":
    console.run(app)
