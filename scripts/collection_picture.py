"""Draw the picture of the README: a labeled strip of images per subset, only from official files or verified builds.

Example: python scripts/collection_picture.py --root npz --out docs/_static/montage.png
"""

from pathlib import Path
from typing import Annotated, Final

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import typer
from numpy.typing import NDArray

from medmnist_hf import console
from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import DEFAULT_SIZE, Subset, subsets
from medmnist_hf.console.program import Program
from medmnist_hf.data.rows import Rows, open_rows
from medmnist_hf.errors import MedMNISTError, cannot_write
from medmnist_hf.exporting.montage import montage, save_png
from medmnist_hf.files import expand_user
from medmnist_hf.manifest import Provenance, read_manifest
from medmnist_hf.places.resolver import Build, find_below

app = Program(add_completion=False)

TEXT_WIDTH: Final = 350
"""Width of the column of names, in pixels."""

GAP: Final = 14
"""Pixels between two strips."""


@app.command(epilog="Example: python scripts/collection_picture.py --root npz --out docs/_static/montage.png")
def draw(
    root: Annotated[Path, typer.Option(help="Folder of builds or of official NPZ files.")],
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    columns: Annotated[int, typer.Option(min=1, help="Images per row of a strip.")] = 12,
    lines: Annotated[int, typer.Option(min=1, help="Rows of images in a strip.")] = 2,
    scale: Annotated[int, typer.Option(min=1, help="Factor by which pixels are repeated.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of images.")] = 0,
) -> None:
    """Draw all subsets whose official data is in a folder, at size 28, each with images of all classes of train."""
    official = [(entry, rows) for entry in subsets() if (rows := official_rows(entry, expand_user(root))) is not None]
    if not official:
        raise MedMNISTError(f"no official file and no verified build in {root}: give the folder of the NPZ files")
    strips = [strip(rows, columns, lines, scale, seed) for _, rows in official]
    width = TEXT_WIDTH + max(picture.width for picture in strips)
    canvas = PIL.Image.new("RGB", (width, sum(picture.height + GAP for picture in strips) - GAP), "white")
    top = 0
    for (entry, _), picture in zip(official, strips, strict=True):
        write_name(canvas, entry, top, picture.height)
        canvas.paste(picture, (TEXT_WIDTH, top))
        top += picture.height + GAP
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_png(canvas, out)
    except OSError as error:
        raise MedMNISTError(cannot_write(out, error, "check the folder")) from None
    print(f"{out}: {', '.join(entry.python_class for entry, _ in official)}")


def official_rows(entry: Subset, root: Path) -> Rows | None:
    """Open a subset at size 28 in a folder; None if it is missing, or not verified as official data."""
    place = find_below(root, entry, DEFAULT_SIZE, npz=True)
    if place is None:
        return None
    if isinstance(place, Build):
        verified = read_manifest(place.folder).source.provenance is Provenance.VERIFIED
        return open_rows(place.folder.parent, DEFAULT_SIZE) if verified else None
    rows = open_rows(place.path, DEFAULT_SIZE)
    return rows if getattr(rows, "provenance", None) is Provenance.VERIFIED else None


def choose_rows(labels: UInt8Array, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose random rows, balanced over the classes as far as possible, in the order of the classes.

    Args:
        labels: uint8 of shape (N, 1) with class ids, or (N, L) with 0 and 1 for findings; the first finding of a row
            is its class.
        count: Number of rows, at most N.
        rng: Random generator.
    """
    classes = labels[:, 0] if labels.shape[1] == 1 else np.where(labels.any(axis=1), labels.argmax(axis=1), 255)
    shuffled = rng.permutation(len(labels))
    turn = np.empty(len(labels), np.int64)  # number of earlier rows of the same class
    for label in np.unique(classes):
        members = shuffled[classes[shuffled] == label]
        turn[members] = np.arange(len(members))
    rows = shuffled[np.argsort(turn[shuffled], kind="stable")][:count]
    return rows[np.argsort(classes[rows], kind="stable")]


def strip(rows: Rows, columns: int, lines: int, scale: int, seed: int) -> PIL.Image.Image:
    """Draw images of the train split as tiles; volumes by their middle slice along the depth."""
    count = min(columns * lines, rows.count("train"))
    images = rows.sample("train", choose_rows(rows.labels("train"), count, np.random.default_rng(seed)))
    if rows.entry.ndim == 3:
        images = images[:, images.shape[1] // 2]
    return montage(images, columns, border=1, scale=scale).convert("RGB")


def write_name(canvas: PIL.Image.Image, entry: Subset, top: int, height: int) -> None:
    """Write name, modality and task of a subset next to its strip."""
    kind = "volumes" if entry.ndim == 3 else "images"
    texts = [(entry.python_class, 36, "black"), (entry.modality, 25, "#333")]
    texts.append((f"{len(entry.labels)} classes, {entry.counts.total:,} {kind}", 25, "#333"))
    if entry.ndim == 3:
        texts.append(("middle slices shown", 25, "#333"))
    draw = PIL.ImageDraw.Draw(canvas)
    spacing = 6
    y = top + (height - sum(size + spacing for _, size, _ in texts)) // 2
    for text, size, color in texts:
        draw.text((4, y), text, fill=color, font=PIL.ImageFont.load_default(size))
        y += size + spacing


if __name__ == "__main__":
    console.run(app)
