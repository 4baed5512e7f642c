"""Measure the search for near duplicates: pairs by similarity, altered copies found, time and memory.

Altered copies of random rows are added to the rows of a data set, and the share of copies that is found is printed.
If ImageHash is installed (``pip install imagehash``), so is that of its perceptual hash, at the largest radius at
which it reports no more pairs among the unaltered rows. ``--rows`` measures time and memory on that many random
textures.

Example:
    python scripts/bench/bench_near_duplicates.py breastmnist --root dist
    python scripts/bench/bench_near_duplicates.py --rows 107180
"""

import io
import resource
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import PIL.Image
import typer

from medmnist_hf import console, load_arrays
from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import SPLITS
from medmnist_hf.console.program import Program
from medmnist_hf.conversion.near.filters import small_copies
from medmnist_hf.conversion.near.search import THRESHOLD, find_pairs

LEVELS: Final = (0.99, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
RNG: Final = np.random.default_rng(0)

app = Program(add_completion=False)


def compressed(image: UInt8Array, quality: int) -> UInt8Array:
    """Save as JPEG and read again."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(buffer))


def shifted(image: UInt8Array, down: int, right: int) -> UInt8Array:
    """Shift by pixels; the edge is repeated."""
    padded = np.pad(image, ((2, 2), (2, 2), *((0, 0) for _ in image.shape[2:])), mode="edge")
    return padded[2 - down : 2 - down + len(image), 2 - right : 2 - right + image.shape[1]]


def brightened(image: UInt8Array, factor: float) -> UInt8Array:
    """Multiply the pixels."""
    return np.asarray(np.clip(image * factor, 0, 255), np.uint8)


def noisy(image: UInt8Array) -> UInt8Array:
    """Add normal noise with a standard deviation of 5 gray levels."""
    return np.asarray(np.clip(image + RNG.normal(0, 5, image.shape), 0, 255), np.uint8)


ALTERATIONS: Final[dict[str, Callable[[UInt8Array], UInt8Array]]] = {
    "JPEG, quality 75": lambda image: compressed(image, 75),
    "JPEG, quality 50": lambda image: compressed(image, 50),
    "brightness x 1.2": lambda image: brightened(image, 1.2),
    "brightness x 1.5": lambda image: brightened(image, 1.5),
    "shift by 1 pixel": lambda image: shifted(image, 0, 1),
    "shift by 1 pixel along both axes": lambda image: shifted(image, 1, -1),
    "noise": noisy,
    "quarter turn": np.rot90,
    "mirrored": lambda image: image[:, ::-1],
    "all of x 1.15, JPEG 75, shift by 1": lambda image: shifted(compressed(brightened(image, 1.15), 75), 0, 1),
}


def hashes(images: UInt8Array) -> Any:
    """The 64 bits of ImageHash's pHash of each image, +1 and -1."""
    import imagehash  # type: ignore[import-not-found]

    bits = [imagehash.phash(PIL.Image.fromarray(np.ascontiguousarray(image))).hash.ravel() for image in images]
    return np.array(bits, np.float32) * 2 - 1


def measure(name: str, root: Path | None, copies: int) -> None:
    """Print the figures of one data set."""
    images = np.concatenate([load_arrays(name, split=split, root=root).images for split in SPLITS])
    volumes = images.ndim == 4 and images.shape[-1] != 3
    small = small_copies(images, 3 if volumes else 2)
    start = time.process_time()
    similarity = find_pairs(small, threshold=LEVELS[-1]).similarity
    print(f"{name}: {len(images):,} rows, {time.process_time() - start:.1f} s of processor time")
    print("  pairs: " + ", ".join(f"{int((similarity >= level).sum())} at {level}" for level in LEVELS))
    if volumes:
        return
    radius, own = -1, hashes(images) if find_spec("imagehash") else None
    if own is not None:
        distances = ((64 - own @ own.T) / 2)[np.triu_indices(len(own), 1)]
        counts = [int((distances <= limit).sum()) for limit in range(0, 66, 2)]
        wanted = int((similarity >= THRESHOLD).sum())
        radius = 2 * max(sum(count <= wanted for count in counts) - 1, 0)
        print(f"  pHash, pairs within 0, 2, ... 16 bits: {', '.join(map(str, counts[:9]))}")
    for alteration, alter in ALTERATIONS.items():
        rows = RNG.choice(len(images), copies, replace=False)
        altered = np.stack([alter(images[row]) for row in rows])
        pairs = find_pairs(np.concatenate([small, small_copies(altered, 2)]))
        found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
        share = np.mean([(row, len(images) + place) in found for place, row in enumerate(rows.tolist())])
        line = f"  {alteration}: {share:.0%} found"
        if own is not None:
            within = (64 - (hashes(altered) * own[rows]).sum(1)) / 2 <= radius
            line += f", {within.mean():.0%} by pHash within {radius} bits"
        print(line)


def measure_scale(rows: int) -> None:
    """Print time and memory for random textures, one of which is repeated with a shift."""
    blocks = []
    for start in range(0, rows, 4096):
        noise = RNG.normal(size=(min(4096, rows - start), 28, 28))
        for axis in (1, 2) * 4:
            noise = (np.roll(noise, 1, axis) + 2 * noise + np.roll(noise, -1, axis)) / 4
        blocks.append(np.clip(128 + 50 * noise / noise.std(), 0, 255).astype(np.uint8))
    images = np.concatenate(blocks)
    images[rows // 2] = np.roll(images[0], 1, 0)
    start_time = time.process_time()
    pairs = find_pairs(images)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    seconds = time.process_time() - start_time
    print(f"{rows:,} textures: {len(pairs.first)} pair, {seconds:.0f} s of processor time, {used:,.0f} MB of memory")


@app.command(epilog="Example: python scripts/bench/bench_near_duplicates.py breastmnist --root dist")
def main(
    data: Annotated[list[str] | None, typer.Argument(help="Data sets.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of builds or NPZ files.")] = None,
    copies: Annotated[int, typer.Option(help="Altered copies of each kind.", min=1)] = 150,
    rows: Annotated[int, typer.Option(help="Measure time and memory on this number of textures.", min=0)] = 0,
) -> None:
    """Measure the search for near duplicates."""
    for name in data or ():
        measure(name, root, copies)
    if rows:
        measure_scale(rows)


if __name__ == "__main__":
    console.run(app)
