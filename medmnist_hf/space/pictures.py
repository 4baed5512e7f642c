"""Pictures of rows as sprites: one PNG with a tile per image, or with a line of slices per volume."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import Task
from medmnist_hf.data.configs import config_at
from medmnist_hf.data.rows import BuiltRows, NpzRows, Rows
from medmnist_hf.embeddings.manifest import config_name
from medmnist_hf.errors import SourceError
from medmnist_hf.exporting.montage import first_slice, montage
from medmnist_hf.manifest import Provenance
from medmnist_hf.places.resolver import NpzFile, Place
from medmnist_hf.space.record import ATLAS, GALLERY, PICTURES, Pictures, compact

_IMAGES: Final = {2: 96, 3: 24}
"""Dimensions -> number of images in a gallery, unless there are many classes."""

_FEWEST: Final = {2: 4, 3: 2}
"""Dimensions -> least number of images per class."""

_COLUMNS: Final = 12
_COVER: Final = (6, 3)
"""Tiles of a cover, across and down."""


@dataclass(frozen=True, slots=True, eq=False)
class PictureFiles:
    """Pictures with the content of their files.

    Attributes:
        record: Their record.
        files: Path -> content.
    """

    record: Pictures
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Sprite:
    """A PNG of tiles.

    Attributes:
        png: The file.
        facts: Its layout, for the page: edge length of a ``tile``, number of ``columns``, of lines (``down``) and of
            slices per row (``depth``, 1 for images).
    """

    png: bytes
    facts: dict[str, int]


def open_place(place: Place) -> tuple[Rows, Provenance]:
    """Open a config for reading, with its provenance; errors as in `medmnist_hf.data.rows.open_rows`."""
    if isinstance(place, NpzFile):
        rows = NpzRows(place)
        return rows, rows.provenance
    config = config_at(place)
    return BuiltRows(config), config.manifest.source.provenance


def draw_gallery(rows: Rows, provenance: Provenance, split: str, images: int | None = None) -> PictureFiles:
    """Draw images of every class, spread evenly over the rows of a split.

    Args:
        rows: The config.
        provenance: Its provenance.
        split: Name of the split.
        images: Number of images, divided equally among the classes; by default 96, or 24 volumes.

    Raises:
        CatalogError: Unknown split.
        SourceError: The split is missing or holds something else, or the config is of a variant.
        BuildError: A shard is missing or damaged.
        ReadError: The NPZ file is damaged.
    """
    entry = rows.entry
    if entry.variant:
        raise SourceError(f"{rows.where} is {entry.flag}: the page shows the rows of {entry.base}, so name that")
    hot = hot_labels(rows, split)
    per_class = max(_FEWEST[entry.ndim], (images or _IMAGES[entry.ndim]) // len(entry.labels))
    chosen = spread(hot, per_class)
    pixels = rows.sample(split, chosen)
    facts = {
        "split": split,
        "rows": chosen.tolist(),
        "labels": label_lists(hot[chosen]),
        "counts": hot.sum(axis=0).tolist(),
        "split_rows": len(hot),
    }
    return picture_files(rows, provenance, facts, sprite(pixels), cover=_cover(pixels, hot[chosen]))


def picture_files(
    rows: Rows, provenance: Provenance, facts: Mapping[str, Any], sheet: Sprite, *, model: str = "", cover: bytes = b""
) -> PictureFiles:
    """Name the files of a gallery or an atlas: a sprite, the JSON that describes it, and the cover of a gallery.

    Args:
        rows: The config.
        provenance: Its provenance.
        facts: Content of the JSON; the subset, the size, the provenance and the layout of the sprite are added.
        sheet: The sprite.
        model: Model of the features of an atlas.
        cover: The cover of a gallery.
    """
    flag = rows.entry.flag
    stem = f"{flag}-{config_name(rows.size, model)}" if model else flag
    sprite_path, data_path = f"{PICTURES}/{stem}.png", f"{PICTURES}/{stem}.json"
    about = {"subset": flag, "size": rows.size, "provenance": provenance, "warning": provenance.warning}
    about |= {**facts, **sheet.facts, "sprite": sprite_path}
    files = {sprite_path: sheet.png, data_path: compact(about).encode()}
    cover_path = f"{PICTURES}/{stem}-cover.png" if cover else ""
    if cover:
        files[cover_path] = cover
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    kind = ATLAS if model else GALLERY
    return PictureFiles(Pictures(kind, flag, rows.size, model, provenance, data_path, cover_path, digests), files)


def hot_labels(rows: Rows, split: str) -> NDArray[np.bool_]:
    """Which labels each row of a split has, bool of shape ``(N, L)``.

    Raises:
        SourceError: The split has no rows, or cannot be read.
    """
    targets = rows.targets(split)
    if not len(targets):
        raise SourceError(f"{rows.where} has no rows in {split}: name another split")
    if rows.entry.task is Task.MULTI_LABEL:
        return targets.astype(np.bool_)
    return np.asarray(targets[:, None] == np.arange(len(rows.entry.labels)))


def label_lists(hot: NDArray[np.bool_]) -> list[list[int]]:
    """The ids of the labels of each row."""
    return [np.flatnonzero(row).tolist() for row in hot]


def spread(hot: NDArray[np.bool_], per_class: int) -> NDArray[np.int64]:
    """Row numbers of up to `per_class` rows of each class, spread evenly, and as many without any label; ascending."""
    chosen: set[int] = set()
    for column in (*hot.T, ~hot.any(axis=1)):
        found = np.flatnonzero(column)
        count = min(per_class, len(found))
        chosen.update(found[np.arange(count) * len(found) // count].tolist() if count else ())
    return np.array(sorted(chosen), np.int64)


def sprite(pixels: UInt8Array) -> Sprite:
    """Arrange images in lines of twelve, or the slices of each volume in a line of its own.

    Args:
        pixels: uint8 of shape ``(N, H, W)``, ``(N, H, W, 3)`` or, for volumes, ``(N, D, H, W)``.
    """
    volumes = pixels.ndim == 4 and pixels.shape[-1] != 3
    depth = pixels.shape[1] if volumes else 1
    tiles = pixels.reshape(-1, *pixels.shape[2:]) if volumes else pixels
    columns = depth if volumes else min(_COLUMNS, len(tiles))
    facts = {"tile": tiles.shape[1], "columns": columns, "down": -(-len(tiles) // columns), "depth": depth}
    return Sprite(png(montage(tiles, columns, border=0, background=0)), facts)


def png(picture: PIL.Image.Image) -> bytes:
    """A picture as PNG; the same picture gives the same bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def middle_slices(volumes: UInt8Array) -> UInt8Array:
    """The slice of each volume that shows the most of it, near the middle: (N, D, H, W) -> (N, H, W)."""
    return np.asarray(volumes[:, first_slice(volumes)])


def _cover(pixels: UInt8Array, hot: NDArray[np.bool_]) -> bytes:
    """A few images, of all classes in turn; of volumes a slice each."""
    across, down = _COVER
    turn = [np.flatnonzero(column) for column in hot.T]
    longest = max(map(len, turn))
    order = [int(found[place]) for place in range(longest) for found in turn if place < len(found)]
    chosen = list(dict.fromkeys(order))[: across * down]
    images = pixels[chosen]
    if images.ndim == 4 and images.shape[-1] != 3:
        images = middle_slices(images)
    return png(montage(images, across, border=0, background=0))
