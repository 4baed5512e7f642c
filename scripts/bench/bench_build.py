"""Compare the conversion speed of a plain `datasets` builder with ours, on the same NPZ files.

The peer is the obvious implementation: `numpy.load`, one example at a time, encoded by `datasets`. Both write Parquet
with the same columns. Each run is a separate process; memory is its peak above that after the imports.

Example: python scripts/bench/bench_build.py --case rgb224 --case real
"""

import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any

import datasets
import numpy as np
import typer

from medmnist_hf import catalog, console
from medmnist_hf.catalog import NPZ_SPLITS, SplitCounts, Subset, Task
from medmnist_hf.console.program import Program
from medmnist_hf.conversion.batch import usable_cores
from medmnist_hf.conversion.build import BuildOptions, build_config
from medmnist_hf.conversion.sources.phantom import write_phantom
from medmnist_hf.conversion.sources.source import SourceFile
from medmnist_hf.errors import SourceError
from medmnist_hf.features import features_of

app = Program(add_completion=False)


@dataclass(frozen=True, slots=True)
class Case:
    """One input: a phantom with these row counts, or, if `counts` is None, an official file in `MEDMNIST_ROOT`."""

    flag: str
    size: int
    counts: SplitCounts | None


CASES = {
    "rgb224": [Case("dermamnist", 224, SplitCounts(1400, 200, 400))],
    "gray224": [Case("pneumoniamnist", 224, SplitCounts(2100, 300, 600))],
    "rgb28": [Case("bloodmnist", 28, SplitCounts(33600, 4800, 9600))],
    "3d64": [Case("organmnist3d", 64, SplitCounts(971, 161, 610))],
    "real": [Case("breastmnist", 28, None), Case("retinamnist", 28, None), Case("adrenalmnist3d", 28, None)],
}


@dataclass(frozen=True, slots=True)
class Measurement:
    """Seconds of one conversion, bytes of its Parquet files, and peak memory above the imports in bytes."""

    seconds: float
    bytes: int
    memory: int


class Peer(datasets.GeneratorBasedBuilder):  # type: ignore[misc]
    """The plain builder; `npz`, `subset` and `size` are set before use."""

    BUILDER_CONFIGS = [datasets.BuilderConfig(name="peer")]  # noqa: RUF012  (datasets defines this attribute)
    npz: Path
    subset: Subset
    size: int

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=features_of(self.subset, self.size))

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(split, gen_kwargs={"prefix": prefix}) for split, prefix in NPZ_SPLITS.items()]

    def _generate_examples(self, prefix: str) -> Iterator[tuple[int, dict[str, Any]]]:
        arrays = np.load(self.npz)
        images, labels = arrays[f"{prefix}_images"], arrays[f"{prefix}_labels"]
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            ids = np.flatnonzero(label).tolist() if self.subset.task is Task.MULTI_LABEL else int(label[0])
            yield row, {"image": image, "label": ids}


def _memory(field: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (peak) of this process in bytes."""
    status = Path("/proc/self/status")
    if not status.exists():  # macOS only reports the peak, in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def _timed(work: Callable[[], object], out: Path) -> Measurement:
    before, start = _memory("VmRSS"), time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in out.rglob("*.parquet"))
    return Measurement(seconds, size, _memory("VmHWM") - before)


def run_peer(npz: Path, case: Case, out: Path, threads: int) -> Measurement:
    """Convert with the plain builder (`threads` is unused, because it cannot divide a single NPZ file)."""
    datasets.disable_progress_bars()
    Peer.npz, Peer.subset, Peer.size = npz, catalog.subset(case.flag), case.size
    builder = Peer(cache_dir=str(out / "cache"))
    return _timed(lambda: builder.download_and_prepare(str(out / "parquet"), file_format="parquet"), out)


def run_ours(npz: Path, case: Case, out: Path, threads: int) -> Measurement:
    """Convert with our builder."""
    file = SourceFile(npz, "folder", "0" * 32, npz.stat().st_size, verified=False, counts=case.counts)
    options = BuildOptions(threads=threads)
    return _timed(lambda: build_config(catalog.subset(case.flag), case.size, file, out, options=options), out)


def _in_child(
    work: Callable[[Path, Case, Path, int], Measurement], npz: Path, case: Case, threads: int
) -> Measurement:
    with (
        tempfile.TemporaryDirectory(dir=npz.parent) as out,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as child,
    ):
        return child.submit(work, npz, case, Path(out), threads).result()


def _input(case: Case, scratch: Path, compresslevel: int = 6) -> Path:
    entry = catalog.subset(case.flag)
    name = entry.file(case.size).name
    if case.counts is not None:
        npz = scratch / name
        # numpy.savez_compressed uses level 6, so decompression takes as long as that of official files.
        write_phantom(npz, entry, case.size, case.counts, compresslevel=compresslevel)
        return npz
    return Path(shutil.copy(_official(name), scratch / name))


def _official(name: str) -> Path:
    path = Path(os.environ.get("MEDMNIST_ROOT", os.devnull)) / name
    if not path.is_file():
        raise SourceError(
            f"the case 'real' needs {name} in the folder MEDMNIST_ROOT: set the variable, or choose other cases"
        )
    return path


def _raw_bytes(npz: Path, case: Case) -> int:
    entry = catalog.subset(case.flag)
    counts = case.counts or entry.counts
    return counts.total * prod(entry.file(case.size).image_shape)


@app.command(epilog="Example: python scripts/bench/bench_build.py --case rgb224 --case real")
def bench(
    case: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(CASES)}; repeatable. [default: all that can be run]")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Runs per input; the fastest is reported.")] = 2,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Encoding threads of ours. [default: usable cores]")
    ] = None,
    big: Annotated[
        float, typer.Option(help="Raw GB of another input (RGB 224), only for ours: shows that memory is bounded.")
    ] = 0.0,
    scratch: Annotated[
        Path | None, typer.Option(help="Folder of inputs and outputs. [default: a temporary folder]")
    ] = None,
) -> None:
    """Print seconds, raw MB/s, output bytes and peak memory of the peer and of ours, and their ratios."""
    unknown = set(case or ()) - set(CASES)
    if unknown:
        raise SourceError(f"unknown case {sorted(unknown)[0]!r}: choose from {', '.join(CASES)}")
    chosen = case or [name for name in CASES if name != "real"]
    if not case and os.environ.get("MEDMNIST_ROOT"):
        chosen.append("real")
    for official in CASES["real"] if "real" in chosen else ():
        _official(catalog.subset(official.flag).file(official.size).name)
    count = threads or usable_cores()
    columns = (
        "input",
        "raw MB",
        "peer s",
        "ours s",
        "faster",
        "ours MB/s",
        "peer MB",
        "ours MB",
        "size",
        "peer RSS",
        "ours RSS",
    )
    table = console.table(*columns, text=("input",))
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for name in chosen:
            for entry in CASES[name]:
                npz = _input(entry, Path(folder))
                peer, ours = (
                    min((_in_child(work, npz, entry, count) for _ in range(repeat)), key=lambda run: run.seconds)
                    for work in (run_peer, run_ours)
                )
                raw = _raw_bytes(npz, entry) / 1e6
                table.add_row(
                    f"{entry.flag} {entry.size}",
                    f"{raw:.1f}",
                    f"{peer.seconds:.2f}",
                    f"{ours.seconds:.2f}",
                    f"{peer.seconds / ours.seconds:.1f}x",
                    f"{raw / ours.seconds:.0f}",
                    f"{peer.bytes / 1e6:.2f}",
                    f"{ours.bytes / 1e6:.2f}",
                    f"{ours.bytes / peer.bytes - 1:+.2%}",
                    f"{peer.memory / 1e6:.0f}",
                    f"{ours.memory / 1e6:.0f}",
                )
                npz.unlink()
        if big:
            rows = round(big * 1e9 / (224 * 224 * 3))
            counts = SplitCounts(rows * 7 // 10, rows // 10, rows - rows * 7 // 10 - rows // 10)
            entry = Case("dermamnist", 224, counts)
            npz = _input(entry, Path(folder), compresslevel=1)
            ours = _in_child(run_ours, npz, entry, count)
            raw = _raw_bytes(npz, entry) / 1e6
            row = ["big RGB 224", f"{raw:.1f}", "", f"{ours.seconds:.2f}", "", f"{raw / ours.seconds:.0f}"]
            table.add_row(*row, "", f"{ours.bytes / 1e6:.2f}", "", "", f"{ours.memory / 1e6:.0f}")
    console.terminal().print(table)
    print(f"{count} threads; RSS is the peak above the imports, in MB; size is relative to the peer's bytes")


if __name__ == "__main__":
    console.run(app)
