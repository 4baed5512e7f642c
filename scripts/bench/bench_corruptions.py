"""Time the corruptions of MedMNIST-C, compare them with the package ``medmnistc``, and measure the memory of files.

Each corruption of each subset changes the same generated images of 224 pixels, at severity 3, on one core; the fastest
round counts. The table has a row per function, with all its subsets: images per second, and how many times as fast as
the peer it is. For functions without random numbers it states how many of all values differ and by how much at most;
for others, the smallest p-value of Kolmogorov-Smirnov tests of each subset: of the mean absolute changes of images,
and for noise, of the changes of all values of one image. Motion blurs are also compared at equal angles.

The peer is compared if it can be imported as released, from a folder of its own:

    python -m pip install --target peer --no-deps medmnistc==0.1.0 scikit-image lazy-loader wand
    PYTHONPATH=peer python scripts/bench/bench_corruptions.py

Its motion blur needs ImageMagick and is left out where that is not installed. Two of its calls, which NumPy 2 refuses,
are replaced from outside: `numpy.fromstring` of bytes, and stains of another type than the image.

Example:
    python scripts/bench/bench_corruptions.py --images 8 --memory 16 --memory 256
"""

import importlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Final

import cv2
import numpy as np
import typer
from PIL import Image
from scipy.stats import ks_2samp

from medmnist_hf import console
from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import subset, subsets
from medmnist_hf.console.program import Program
from medmnist_hf.conversion.sources.source import Phantom
from medmnist_hf.corruptions.apply import apply
from medmnist_hf.corruptions.arrays import corrupt_rows
from medmnist_hf.corruptions.registry import PUBLISHED_SIZE, Corruption, corruptions

SEVERITY: Final = 3
MEMORY_OF: Final = ("dermamnist", "gaussian_noise")

app = Program(add_completion=False)


Peer = Callable[[UInt8Array, int], UInt8Array]
"""Corrupts an image, uint8 (H, W) or (H, W, 3), at a severity from 1 to 5."""


def load_peers(seed: int = 0) -> dict[tuple[str, str], Peer]:
    """All corruptions of the package that run here, by subset and name, with its global generators seeded.

    Raises:
        ImportError: The package, or scikit-image or Wand, which it imports, is not on the path.
    """
    with_magick = _has_magick()
    if not with_magick:
        for name, member in (("wand.image", "Image"), ("wand.api", "library")):
            stand_in: Any = ModuleType(name)  # so that its other corruptions can be imported
            setattr(stand_in, member, object)
            sys.modules[name] = stand_in
    registry = importlib.import_module("medmnistc.corruptions.registry")
    numpy: Any = np
    numpy.fromstring = np.frombuffer
    random.seed(seed)
    np.random.seed(seed)
    rng = np.random.default_rng(seed)
    peers = {}
    for flag, of_subset in registry.CORRUPTIONS_DS.items():
        for name, corruption in of_subset.items():
            if name == "motion_blur" and not with_magick:
                continue
            if name == "impulse_noise":
                corruption.rng = rng
            if name == "stain_deposit":
                corruption._inks = {key: corruption.inks[key].astype(np.uint8) for key in corruption.inks}
            peers[flag, name] = _peer(corruption, rgb=registry.DATASET_RGB[flag])
    return peers


def _has_magick() -> bool:
    try:
        importlib.import_module("wand.image")
    except ImportError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "wand"]:
            del sys.modules[name]
        return False
    return True


def _peer(corruption: Any, *, rgb: bool) -> Peer:
    def apply(image: UInt8Array, severity: int) -> UInt8Array:
        corrupted = corruption.apply(Image.fromarray(image).convert("RGB"), severity - 1)
        return np.asarray(corrupted if rgb else Image.fromarray(corrupted).convert("L"))

    return apply


@dataclass
class Row:
    """Measurements of a function, over all subsets that have it.

    Attributes:
        random: Whether it draws random numbers.
        images: Number of images.
        seconds: Ours.
        peer_images: Number of images that the peer corrupted too.
        peer_seconds: The peer's.
        values: Number of values that were compared.
        different: Number of values that differ.
        largest: Largest difference.
        p_values: Of the tests of all subsets.
    """

    random: bool
    images: int = 0
    seconds: float = 0.0
    peer_images: int = 0
    peer_seconds: float = 0.0
    values: int = 0
    different: int = 0
    largest: int = 0
    p_values: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times as fast as the peer ours is."""
        return (self.peer_seconds / self.peer_images) / (self.seconds / self.images) if self.peer_images else np.nan


def picture(flag: str, count: int) -> UInt8Array:
    """One generated image with structure and noise, `count` times: random numbers are all that differs."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (28, 28, 3), np.uint8))
    smooth = np.asarray(coarse.resize((PUBLISHED_SIZE,) * 2, Image.Resampling.BICUBIC))
    noisy = np.clip(smooth + rng.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8)
    image = noisy if subset(flag).channels == 3 else noisy[..., 0].copy()
    return np.repeat(image[None], count, axis=0)


def measure(corruption: Corruption, row: Row, count: int, rounds: int, peer: Peer | None) -> None:
    """Add the measurements of a corruption to those of its function."""
    images = picture(corruption.subset, count)
    seconds, ours = _fastest(lambda: corrupt_rows(images, corruption, SEVERITY, range(count)), rounds)
    row.images += count
    row.seconds += seconds
    if peer is None:
        return
    seconds, theirs = _fastest(lambda: np.stack([peer(image, SEVERITY) for image in images]), rounds)
    row.peer_images += count
    row.peer_seconds += seconds
    if corruption.random:
        changes = [part.astype(np.int16) - images for part in (ours, theirs)]
        samples = [[np.abs(part).mean((1, *range(2, part.ndim))) for part in changes]]
        if "noise" in corruption.name:
            samples.append([part[0].ravel() for part in changes])
        row.p_values += [float(ks_2samp(*pair).pvalue) for pair in samples]
    if corruption.name == "motion_blur":
        ours, theirs = at_equal_angles(corruption, images[0], peer)
    if not corruption.random or corruption.name == "motion_blur":
        difference = np.abs(ours.astype(np.int16) - theirs)
        row.values += difference.size
        row.different += int((difference > 0).sum())
        row.largest = max(row.largest, int(difference.max()))


def at_equal_angles(corruption: Corruption, image: UInt8Array, peer: Peer) -> tuple[UInt8Array, UInt8Array]:
    """Motion blurs of ours and of the peer, which draws nothing but the angle, from NumPy's global generator."""
    ours, theirs = [], []
    for seed in range(4):
        np.random.seed(seed)
        theirs.append(peer(image, SEVERITY))
        legacy: Any = np.random.RandomState(seed)
        ours.append(apply(corruption, image, corruption.at(SEVERITY), legacy))
    return np.stack(ours), np.stack(theirs)


def _fastest(corrupt: Callable[[], UInt8Array], rounds: int) -> tuple[float, UInt8Array]:
    """Seconds of the fastest round, and the images of the last one."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        corrupted = corrupt()
        seconds.append(time.perf_counter() - start)
    return min(seconds), corrupted


def peak_memory(rows: int) -> float:
    """Peak memory in MB, as Linux reports it, of a process that writes a corrupted file of a phantom."""
    flag, name = MEMORY_OF
    with tempfile.TemporaryDirectory() as folder:
        phantom = Phantom(Path(folder), rows=rows).fetch(subset(flag), PUBLISHED_SIZE)
        renamed = phantom.path.rename(phantom.path.with_name(subset(flag).file(PUBLISHED_SIZE).name))
        command = f"corrupt {flag} {name} --size {PUBLISHED_SIZE} --root {renamed.parent} --out {folder}/out"
        code = (
            "import re, sys; from pathlib import Path; from medmnist_hf.cli.main import app;"
            "app(sys.argv[1].split(), standalone_mode=False);"
            "print(re.search('VmHWM:[^0-9]*([0-9]+)', Path('/proc/self/status').read_text())[1])"
        )
        done = subprocess.run([sys.executable, "-c", code, command], check=True, capture_output=True, text=True)
        return int(done.stdout.split()[-1]) / 1e3


def _peers() -> dict[tuple[str, str], Peer]:
    try:
        return load_peers()
    except ImportError as error:
        console.echo(f"the peer is not compared: {error}")
        return {}


@app.command()
def main(
    images: Annotated[int, typer.Option(min=2, help="Images per corruption.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, of which the fastest counts.")] = 3,
    memory: Annotated[list[int] | None, typer.Option(help="Also write files of so many train rows.")] = None,
    out: Annotated[Path | None, typer.Option("--json", help="Also write the measurements as JSON.")] = None,
) -> None:
    """Print a table of speed and, if the package is there, of the comparison with it."""
    cv2.setNumThreads(1)
    peers = _peers()
    rows: dict[str, Row] = {}
    for entry in subsets():
        for corruption in corruptions(entry.flag) if entry.ndim == 2 else ():
            row = rows.setdefault(corruption.function, Row(corruption.random))
            measure(corruption, row, images, rounds, peers.get((corruption.subset, corruption.name)))
    columns = ("function", "images/s", "peer", "ratio", "compared with the peer")
    table = console.table(*columns, text={columns[0], columns[-1]})
    for name, row in rows.items():
        peer = f"{row.peer_images / row.peer_seconds:,.0f}" if row.peer_images else "-"
        table.add_row(name, f"{row.images / row.seconds:,.0f}", peer, f"{row.ratio:.1f}", _comparison(row))
    console.terminal().print(table)
    peaks = {count: peak_memory(count) for count in memory or ()}
    for count, peak in peaks.items():
        console.echo(f"{MEMORY_OF[1]} of a phantom with {count} train rows at {PUBLISHED_SIZE}: peak {peak:,.0f} MB")
    if out is not None:
        out.write_text(json.dumps({"rows": {name: asdict(row) for name, row in rows.items()}, "peaks": peaks}))


def _comparison(row: Row) -> str:
    if not row.peer_images:
        return "-"
    parts = [f"smallest p {min(row.p_values):.3f} of {len(row.p_values)} tests"] if row.random else []
    if row.values:
        differ = f"{row.different} of {row.values:,} values differ by {row.largest}"
        parts.append(differ if row.different else "equal")
    return "; ".join(parts)


if __name__ == "__main__":
    console.run(app)
