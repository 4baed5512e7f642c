"""Compare ways to load batches for training, on the same phantoms: those that people use, and ours.

Every figure is measured by `peer_load.py`, which describes the ways, in a separate process, with shuffled batches of
128 images or 32 volumes. Batches are float32 and normalized, except volumes of the official package, which it returns
as float64. Runs take turns, and the best and the median epoch of each way count. Ways whose library is not installed
(tensorflow, grain, spdl) are named and left out.

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
from importlib.util import find_spec
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
    """One input."""

    flag: str
    size: int
    rows: int
    batch_size: int = 128


CASES = {
    "rgb28": Case("bloodmnist", 28, 30_000),
    "rgb64": Case("bloodmnist", 64, 8_000),
    "rgb224": Case("dermamnist", 224, 1_500),
    "3d28": Case("organmnist3d", 28, 971, batch_size=32),
    "3d64": Case("organmnist3d", 64, 600, batch_size=32),
}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to load; the folder `fresh` is removed first, so that its decoding is measured too."""

    name: str
    kind: str
    options: tuple[str, ...] = ()
    fresh: str = ""


HUB, ARRAYS = "hub", "arrays"
COLD, WARM = Way("ours, first use", "ours", fresh=ARRAYS), Way("ours", "ours")
OURS = (
    COLD,
    WARM,
    Way("ours, channels first", "ours", ("--channels-first",)),
    Way("DeviceLoader", "device"),
)
PEERS = (
    Way("official, 0 workers", "official"),
    Way("official, 2 workers", "official", ("--workers", "2")),
    Way("load_dataset, first use", "plain", fresh=HUB),
    Way("load_dataset, 0 workers", "plain"),
    Way("load_dataset, 2 workers", "plain", ("--workers", "2")),
    Way("TensorDataset", "tensors"),
    Way("X[randperm]", "randperm"),
    Way("tf.data, gather", "tf"),
    Way("grain, gather", "grain"),
    Way("SPDL, gather", "spdl"),
)
LIBRARIES = {"tf": "tensorflow", "grain": "grain", "spdl": "spdl"}
"""Way -> the library that it needs, which the other ways do without."""


@dataclass(slots=True)
class Figures:
    """Measurements of one way: images per second of every epoch; seconds, CPU seconds and bytes of every run."""

    epochs: list[float] = field(default_factory=list)
    first_epoch: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def add(self, run: dict[str, Any]) -> None:
        """Add the output of one run of ``peer_load.py``."""
        self.epochs += run["epochs"]
        for name in ("first_epoch", "cpu", "memory"):
            getattr(self, name).append(run[name])


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


def run(way: Way, case: Case, folder: Path, seconds: float, threads: int) -> dict[str, Any]:
    """Measure one way in a separate process."""
    if way.fresh:
        shutil.rmtree(folder / way.fresh, ignore_errors=True)
    command = [sys.executable, str(Path(__file__).with_name("peer_load.py")), way.kind, case.flag, str(case.size)]
    command += [str(folder), "--batch-size", str(case.batch_size), "--seconds", str(seconds)]
    command += ["--threads", str(threads), *way.options]
    environment = os.environ | {"HF_DATASETS_CACHE": str(folder / HUB), "HF_HUB_OFFLINE": "1"}
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
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
            f"{max(runs.epochs):,.0f}",
            f"{median(runs.epochs):,.0f}",
            f"{min(runs.cpu):.3f}",
            f"{min(runs.first_epoch):.2f}",
            f"{median(runs.memory) / 1e6:,.0f}",
        )
        for way, runs in figures.items()
    ]


def verdict(figures: dict[Way, Figures]) -> tuple[str, ...]:
    """Compare ours with the best peer of each column."""
    peers = {way: runs for way, runs in figures.items() if way in PEERS}
    fastest = max(peers, key=lambda way: max(peers[way].epochs))
    ours = figures[WARM]
    cpu = min(min(runs.cpu) for runs in peers.values()) / min(ours.cpu)
    official = [runs for way, runs in peers.items() if way.kind == "official"]
    first = min(min(runs.first_epoch) for runs in official)
    memory = median(figures[COLD].memory) / min(median(runs.memory) for runs in official)
    return (
        fastest.name,
        f"{max(ours.epochs) / max(peers[fastest].epochs):.2f}x",
        f"{median(ours.epochs) / max(median(runs.epochs) for runs in peers.values()):.2f}x",
        f"{cpu:.2f}x",
        f"{first / min(figures[COLD].first_epoch):.2f}x",
        f"{memory:.2f}",
    )


def installed(ways: Sequence[Way]) -> list[Way]:
    """The ways whose libraries are installed; the others are named."""
    missing = {kind: name for kind, name in LIBRARIES.items() if find_spec(name) is None}
    for name in missing.values():
        print(f"{name} is not installed, so it is left out: pip install {name}", file=sys.stderr)
    return [way for way in ways if way.kind not in missing]


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
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch and of pipelines.")] = 2,
    work: Annotated[
        Path | None, typer.Option(help="Folder of inputs, kept for the next run. [default: a temporary folder]")
    ] = None,
) -> None:
    """Print images/s, CPU seconds, seconds of the first epoch and peak memory of each way; then compare them."""
    chosen = _chosen(only)
    heads = ("input", "way", "images/s, best", "median", "CPU s/1,000", "first epoch s", "RSS MB")
    figures_table = console.table(*heads, text=("input", "way"))
    columns = ("input", "fastest peer", "images/s, best", "median", "CPU", "first epoch, first use", "RSS")
    ratios = console.table(*columns, text=("input", "fastest peer"))
    ways = installed((*PEERS, *OURS))
    with tempfile.TemporaryDirectory() as temporary:
        for name in chosen:
            case = CASES[name]
            folder = prepare(case, rows or case.rows, work or Path(temporary))
            figures = {way: Figures() for way in ways}
            for number in range(rounds):
                for way in ways:
                    print(f"{name}: {way.name}, run {number + 1} of {rounds}", file=sys.stderr)
                    figures[way].add(run(way, case, folder, seconds, threads))
            for line in lines(figures):
                figures_table.add_row(name, *line)
            ratios.add_row(name, *verdict(figures))
            if work is None:
                shutil.rmtree(folder)
    out = console.terminal()
    out.print(figures_table)
    out.print(
        f"ours, {threads} threads: times as fast as the fastest peer, as the peer with the least CPU time, and as"
    )
    out.print("the official package in the first epoch; and its memory at first use relative to the official package")
    out.print(ratios)
    print("seconds count from the start of loading, after imports and the catalog")
    print("RSS is the peak above imports, workers included")


if __name__ == "__main__":
    console.run(app)
