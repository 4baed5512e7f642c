"""Compare what can decode builds: PNG decoders for images, Parquet readers for volumes; and time the first use.

Each decoder runs in one thread and in one thread per core, since some of them keep Python's lock, so that threads do
not help them. kornia-rs is left out if it is not installed.

Example: python scripts/bench/bench_decode.py --rows 300
"""

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import cv2
import duckdb
import imagecodecs
import numpy as np
import polars
import pyarrow.parquet as pq
import typer
from PIL import Image

import medmnist_hf
from medmnist_hf import catalog, console
from medmnist_hf.console.program import Program
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.sources.source import open_source
from medmnist_hf.data.decode import decode_image, encoded, image_shape

app = Program(add_completion=False)

INPUTS = (("dermamnist", 224), ("pneumoniamnist", 224), ("bloodmnist", 28), ("organmnist3d", 64), ("organmnist3d", 28))
ROWS_PER_VOLUME = 10
"""Images per volume at `--rows`, as a volume takes longer."""
CORES = os.cpu_count() or 1

Decode = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class Input:
    """The train split of a build."""

    name: str
    flag: str
    size: int
    root: Path
    raw_bytes: int

    @property
    def shard(self) -> Path:
        """Its only file."""
        (path,) = (self.root / self.flag / str(self.size)).glob("train-*.parquet")
        return path


def inputs(rows: int, root: Path) -> Iterator[Input]:
    """Build phantoms."""
    for flag, size in INPUTS:
        entry = catalog.subset(flag)
        count = rows if entry.ndim == 2 else max(1, rows // ROWS_PER_VOLUME)
        file = open_source("phantom", phantom_rows=count).fetch(entry, size)
        build_config(entry, size, file, root)
        raw = medmnist_hf.load_arrays(flag, size, "train", root=root, cache=False).images.nbytes
        yield Input(f"{entry.python_class} {size}", flag, size, root, raw)


def png_decoders(file: bytes) -> dict[str, Decode]:
    """Decoders of one PNG file, after a check that all give the same pixels."""
    expected = imagecodecs.png_decode(file)
    color = cv2.IMREAD_COLOR_RGB if expected.ndim == 3 else cv2.IMREAD_GRAYSCALE
    decoders: dict[str, Decode] = {
        "libdeflate (ours)": _ours,
        "libpng": imagecodecs.png_decode,
        "libspng": imagecodecs.spng_decode,
        "Pillow": lambda each: np.asarray(Image.open(io.BytesIO(each))),
        "OpenCV": lambda each: cv2.imdecode(np.frombuffer(each, np.uint8), color),
    }
    if find_spec("kornia_rs"):
        from kornia_rs.io import decode_image_png_u8  # type: ignore[import-not-found,unused-ignore]

        mode = "rgb" if expected.ndim == 3 else "mono"
        decoders["kornia-rs"] = lambda each: decode_image_png_u8(each, expected.shape[:2], mode)
    for name, decode in decoders.items():
        if not np.array_equal(np.asarray(decode(file)).reshape(expected.shape), expected):
            raise AssertionError(f"{name} changed pixels")
    return decoders


def _ours(file: bytes) -> Any:
    content = np.frombuffer(file, np.uint8)
    pixels = np.empty(image_shape(content), np.uint8)
    decode_image(content, pixels)
    return pixels


def _each(decode: Decode, parts: Sequence[bytes]) -> None:
    for part in parts:
        decode(part)


def rate(decode: Decode, parts: Sequence[bytes], raw_bytes: int, threads: int, rounds: int) -> float:
    """MB of raw pixels per second on the clock, best of some rounds."""
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            start = time.perf_counter()
            list(pool.map(partial(_each, decode), [parts[first::threads] for first in range(threads)]))
            best = min(best, time.perf_counter() - start)
    return raw_bytes / 1e6 / best


def volume_readers(shard: Path, size: int) -> dict[str, Callable[[], Any]]:
    """Readers of all volumes of a file, in one thread; Arrow reads as many at a time as `medmnist_hf.data.rows`."""
    connection = duckdb.connect(config={"threads": 1})
    footer = pq.read_metadata(shard)

    def arrow() -> None:
        for group in range(footer.num_row_groups):
            with pq.ParquetFile(shard, metadata=footer) as file:
                list(file.iter_batches(max(1, (1 << 18) // size**3), [group], ["image"], use_threads=False))

    return {
        "Arrow (ours)": arrow,
        "DuckDB": lambda: connection.sql(
            "select image from read_parquet($path)", params={"path": str(shard)}
        ).to_arrow_table(),
        "Polars": lambda: polars.read_parquet(shard, columns=["image"], use_pyarrow=False),
    }


def cpu_seconds(function: Callable[[], Any], rounds: int) -> float:
    """CPU seconds of all threads, best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


def first_use(each: Input, folder: Path) -> Callable[[], Any]:
    """Decode a split into a new cache."""

    def load() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as cache:
            medmnist_hf.load_arrays(each.flag, each.size, "train", root=each.root, cache_dir=cache)

    return load


@app.command(epilog="Example: python scripts/bench/bench_decode.py --rows 300")
def bench(
    rows: Annotated[int, typer.Option(min=10, help="Images per input; a tenth of it for volumes.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the best counts.")] = 3,
) -> None:
    """Print MB/s of raw pixels of each decoder, and which part of the first use of a build is decoding."""
    if not find_spec("kornia_rs"):
        print("kornia-rs is not installed, so it is left out: pip install kornia-rs", file=sys.stderr)
    pngs = console.table("images", "decoder", "MB/s, 1 thread", f"MB/s, {CORES} threads", text=("images", "decoder"))
    readers = console.table("volumes", "reader", "MB per CPU s", text=("volumes", "reader"))
    uses = console.table("first use of", "CPU s", "of it decoding", text=("first use of",))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for each in inputs(rows, root / "dist"):
            if catalog.subset(each.flag).ndim == 2:
                files = encoded(pq.read_table(each.shard, columns=["image"]).column("image"))
                for name, decode in png_decoders(files[0]).items():
                    one, many = (rate(decode, files, each.raw_bytes, threads, rounds) for threads in (1, CORES))
                    pngs.add_row(each.name, name, f"{one:.0f}", f"{many:.0f}")
                ours: Callable[[], Any] = partial(_each, _ours, files)
            else:
                functions = volume_readers(each.shard, each.size)
                for name, read in functions.items():
                    readers.add_row(each.name, name, f"{each.raw_bytes / 1e6 / cpu_seconds(read, rounds):.0f}")
                ours = functions["Arrow (ours)"]
            whole = cpu_seconds(first_use(each, root), rounds)
            uses.add_row(each.name, f"{whole:.2f}", f"{cpu_seconds(ours, rounds) / whole:.0%}")
    out = console.terminal()
    for table in (pngs, readers, uses):
        out.print(table)


if __name__ == "__main__":
    console.run(app)
