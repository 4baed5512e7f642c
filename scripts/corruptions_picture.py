"""Draw the picture of the page on corruptions: each function of MedMNIST-C at severities 1, 3 and 5.

They corrupt a test pattern of 224 pixels, the published size, which the picture marks as synthetic.

Example: python scripts/corruptions_picture.py --out docs/_static/corruptions.png
"""

from pathlib import Path
from typing import Annotated, Final

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import typer

from medmnist_hf import console
from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import subset
from medmnist_hf.console.program import Program
from medmnist_hf.corruptions.arrays import corrupt_rows
from medmnist_hf.corruptions.registry import PUBLISHED_SIZE, Corruption, corruptions
from medmnist_hf.errors import MedMNISTError, cannot_write
from medmnist_hf.exporting.montage import save_png
from medmnist_hf.manifest import Provenance

app = Program(add_completion=False)

SEVERITIES: Final = (1, 3, 5)
ACROSS: Final = 3
"""Corruptions side by side."""

TILE: Final = 112
GAP: Final = 10
TEXT: Final = 20
"""Edge length of a tile, space between corruptions and height of a line of text, in pixels."""

SPOKES: Final = 12
"""Number of spokes of each color."""

ORDER: Final = ("dermamnist", "pathmnist", "chestmnist")
"""The subsets whose corruptions are drawn; each function once."""


@app.command(epilog="Example: python scripts/corruptions_picture.py --out docs/_static/corruptions.png")
def draw(out: Annotated[Path, typer.Option(help="PNG file to write.")]) -> None:
    """Draw each function once, with the parameters of the first subset that has it."""
    chosen = {each.function: each for flag in reversed(ORDER) for each in reversed(corruptions(flag))}
    drawn = [each for flag in ORDER for each in corruptions(flag) if chosen[each.function] is each]
    color = pattern()
    gray = np.asarray(PIL.Image.fromarray(color).convert("L"))
    width, height = len(SEVERITIES) * TILE, TEXT + TILE
    lines = -(-len(drawn) // ACROSS)
    canvas = PIL.Image.new("RGB", (ACROSS * (width + GAP) - GAP, TEXT + GAP + lines * (height + GAP) - GAP), "white")
    write(canvas, 0, 0, Provenance.SYNTHETIC.mark("a test pattern, corrupted at severities 1, 3 and 5"))
    for number, corruption in enumerate(drawn):
        left = number % ACROSS * (width + GAP)
        top = TEXT + GAP + number // ACROSS * (height + GAP)
        write(canvas, left, top, f"{corruption.name} ({corruption.subset})")
        for place, severity in enumerate(SEVERITIES):
            image = color if subset(corruption.subset).channels == 3 else gray
            canvas.paste(tile(image, corruption, severity), (left + place * TILE, top + TEXT))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_png(canvas.quantize(dither=PIL.Image.Dither.NONE), out)
    except OSError as error:
        raise MedMNISTError(cannot_write(out, error, "check the folder")) from None
    console.echo(f"{out}: {len(drawn)} functions")


def pattern() -> UInt8Array:
    """A disk of red and yellow spokes on blue, uint8 (224, 224, 3)."""
    y, x = np.mgrid[:PUBLISHED_SIZE, :PUBLISHED_SIZE] - (PUBLISHED_SIZE - 1) / 2
    image = np.full((PUBLISHED_SIZE, PUBLISHED_SIZE, 3), (90, 120, 160), np.uint8)
    spokes = np.floor(np.arctan2(y, x) / np.pi * SPOKES) % 2
    inside = np.hypot(x, y) < PUBLISHED_SIZE * 0.36
    image[inside & (spokes == 0)] = (190, 60, 70)
    image[inside & (spokes == 1)] = (230, 190, 130)
    return image


def tile(image: UInt8Array, corruption: Corruption, severity: int) -> PIL.Image.Image:
    """A corrupted image, reduced."""
    (corrupted,) = corrupt_rows(image[None], corruption, severity, [0])
    return PIL.Image.fromarray(corrupted).convert("RGB").resize((TILE, TILE), PIL.Image.Resampling.LANCZOS)


def write(canvas: PIL.Image.Image, left: int, top: int, text: str) -> None:
    """Write a line of text."""
    PIL.ImageDraw.Draw(canvas).text((left, top + 2), text, fill="black", font=PIL.ImageFont.load_default(TEXT - 7))


if __name__ == "__main__":
    console.run(app)
