"""Compare lossless encoders with Pillow's default PNG: encoding speed, file size, and decoding time with Pillow.

Inputs are images from NPZ files: official ones in the folder MEDMNIST_ROOT, and phantoms.

Example: python scripts/bench/bench_encode.py --rows 200
"""

import io
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import imagecodecs
import numpy as np
import pyarrow as pa
import typer
from PIL import Image

from medmnist_hf import catalog, console
from medmnist_hf.array_types import UInt8Array
from medmnist_hf.console.program import Program
from medmnist_hf.conversion.encode import encode_png, encode_webp, png_releases
from medmnist_hf.conversion.sources.source import open_source
from medmnist_hf.data.npz_reader import NpzReader

app = Program(add_completion=False)

Encode = Callable[[UInt8Array], list[bytes] | pa.BinaryArray]
_ROUNDS = 5


def pillow_png(images: UInt8Array) -> list[bytes]:
    """Encode with Pillow's PNG defaults, as `datasets` does."""
    files = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


def each(encode: Callable[[UInt8Array], bytes | bytearray], images: UInt8Array) -> list[bytes]:
    """Encode one image at a time, with another encoder of imagecodecs."""
    return [bytes(encode(image)) for image in images]


def _files(encoded: list[bytes] | pa.BinaryArray) -> list[bytes]:
    return encoded if isinstance(encoded, list) else encoded.to_pylist()


def _decode(files: list[bytes]) -> None:
    for file in files:
        with Image.open(io.BytesIO(file)) as image:
            image.load()


def _inputs(rows: int) -> Iterator[tuple[str, UInt8Array]]:
    root = Path(os.environ.get("MEDMNIST_ROOT", os.devnull))
    for entry in catalog.subsets():
        path = root / entry.file(28).name
        if path.is_file():
            images = next(NpzReader(path, entry, 28, entry.counts).images("train", [rows]))
            # Volumes are encoded slice by slice: they have large flat areas, as in masks and CT.
            yield f"{entry.flag} 28 (official)", images.reshape(-1, 28, 28)[:rows] if entry.ndim == 3 else images
    phantom = open_source("phantom", phantom_rows=rows)
    for flag, size in (("dermamnist", 224), ("organamnist", 224), ("bloodmnist", 28)):
        entry = catalog.subset(flag)
        file = phantom.fetch(entry, size)
        yield f"{flag} {size} (phantom)", next(NpzReader(file.path, entry, size, None).images("train", [rows]))


@app.command(epilog="Example: python scripts/bench/bench_encode.py --rows 200")
def bench(rows: Annotated[int, typer.Option(min=1, max=500, help="Images per input.")] = 200) -> None:
    """Print MB/s of raw pixels on one core, file size and decoding time, compared with Pillow; best of five rounds."""
    columns = ("images", "encoder", "MB/s", "faster", "bytes / raw", "size", "decode us", "decode")
    table = console.table(*columns, text=("images", "encoder"))
    for name, images in _inputs(rows):
        encoders: dict[str, Encode] = {
            "Pillow PNG": pillow_png,
            "ours PNG": encode_png,
            "libpng, its defaults": partial(each, imagecodecs.png_encode),
            "libspng, level 1": partial(each, partial(imagecodecs.spng_encode, level=1)),
        }
        if images.ndim == 4:
            encoders["lossless WebP"] = encode_webp
        encoded = {label: _files(encode(images)) for label, encode in encoders.items()}
        for label, files in encoded.items():
            decoded = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
            if not np.array_equal(decoded, images):
                raise AssertionError(f"{label} changed pixels of {name}")
        # Encoders take turns, so that the state of the machine affects all of them equally.
        encoding, decoding = dict.fromkeys(encoders, float("inf")), dict.fromkeys(encoders, float("inf"))
        for _ in range(_ROUNDS):
            for label, encode in encoders.items():
                start = time.thread_time()
                encode(images)
                middle = time.thread_time()
                _decode(encoded[label])
                encoding[label] = min(encoding[label], middle - start)
                decoding[label] = min(decoding[label], time.thread_time() - middle)
        base = "Pillow PNG"
        for label, files in encoded.items():
            size, base_size = (sum(map(len, encoded_files)) for encoded_files in (files, encoded[base]))
            table.add_row(
                name,
                label,
                f"{images.nbytes / 1e6 / encoding[label]:.0f}",
                f"{encoding[base] / encoding[label]:.1f}x",
                f"{size / images.nbytes:.3f}",
                f"{size / base_size - 1:+.2%}",
                f"{decoding[label] / len(images) * 1e6:.0f}",
                f"{decoding[label] / decoding[base]:.2f}x",
            )
    console.terminal().print(table)
    print(f"ours: {', '.join(f'{name} {release}' for name, release in png_releases().items())}; one core")


if __name__ == "__main__":
    console.run(app)
