"""Montages of a subset: images as the tiles of a picture, volumes as the tiles of an animation through their slices.

Example:
    >>> import numpy as np
    >>> from medmnist_hf.exporting.montage import montage
    >>> montage(np.zeros((20, 28, 28), np.uint8), columns=5).size
    (146, 117)
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import Subset
from medmnist_hf.data.decode import decoded
from medmnist_hf.data.rows import Rows
from medmnist_hf.data.shards import SHARD_ERRORS, check_footer
from medmnist_hf.errors import BuildError, MedMNISTError, cannot_read, cannot_write, counted
from medmnist_hf.exporting.captions import HEIGHT, caption, captioned_scale, class_names
from medmnist_hf.exporting.export import rows_of
from medmnist_hf.exporting.images import FRAME_MS
from medmnist_hf.files import expand_user, regular_size, write_atomically

_WIDTH: Final = 600
"""Width in pixels of a picture for a card; about the width of the text column on the Hub."""

_SMALL: Final = 48
"""Tiles with a smaller edge length are drawn at double size."""

_LARGEST_BYTES: Final = 1 << 30
"""Size of the largest montage, in bytes of raw pixels."""

_FEWEST: Final = 3
"""Smallest number of columns, for tiles of any size."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Number and size of the tiles of a picture.

    Attributes:
        columns: Number of tiles per row.
        rows: Number of rows of tiles.
        scale: Factor by which pixels are repeated in both directions.
    """

    columns: int
    rows: int
    scale: int

    @property
    def tiles(self) -> int:
        """Total number of tiles."""
        return self.columns * self.rows


def layout(size: int, ndim: int) -> Layout:
    """The layout of a card's picture: about 600 pixels wide, square in 2D and a third as high in 3D.

    Args:
        size: Edge length of an image or a volume.
        ndim: 2 for images, 3 for volumes; animations have fewer tiles, since every tile has `size` frames.
    """
    scale = 2 if size < _SMALL else 1
    columns = max(_FEWEST, _WIDTH // (size * scale + 1))
    return Layout(columns=columns, rows=columns if ndim == 2 else max(1, columns // 3), scale=scale)


def montage(
    images: UInt8Array,
    columns: int | None = None,
    *,
    border: int = 1,
    scale: int = 1,
    background: int = 255,
    labels: Sequence[str] | None = None,
) -> PIL.Image.Image:
    """Arrange images as tiles, row by row.

    Args:
        images: uint8 array of shape (N, H, W) or (N, H, W, 3).
        columns: Number of tiles per row; by default, the montage is about square.
        border: Pixels between tiles and around them.
        scale: Factor by which pixels are repeated in both directions.
        background: Gray level of borders and empty places, 0 to 255.
        labels: N names to write below the tiles; small tiles are enlarged for them.

    Returns:
        A picture of mode ``L`` or ``RGB``.

    Raises:
        MedMNISTError: The array is not a stack of images, or an option is out of range.
    """
    if images.dtype != np.uint8 or images.ndim not in {3, 4} or images.shape[3:] not in {(), (3,)} or not images.size:
        raise MedMNISTError(
            f"cannot draw a montage of an array of {images.dtype} and shape {images.shape}: "
            "give uint8 of shape (N, H, W) or (N, H, W, 3)"
        )
    if (columns is not None and columns < 1) or border < 0 or scale < 1 or not 0 <= background <= 255:
        raise MedMNISTError(
            f"cannot draw a montage with columns={columns}, border={border}, scale={scale}, background={background}: "
            "columns and scale start at 1, border at 0, background is 0 to 255"
        )
    if labels is not None and len(labels) != len(images):
        raise MedMNISTError(
            f"cannot draw a montage of {counted(len(images), 'image')} with {counted(len(labels), 'label')}: give "
            "one label per image"
        )
    scale = scale if labels is None else captioned_scale(images.shape[2], scale)
    tiles = images.repeat(scale, axis=1).repeat(scale, axis=2)
    if labels is not None:
        names = np.stack([caption(label, tiles.shape[2]) for label in labels])
        names = names if images.ndim == 3 else names[..., np.newaxis].repeat(3, axis=-1)
        tiles = np.concatenate([tiles, names], axis=1)
    count, height, width = tiles.shape[:3]
    across = min(count, columns or math.ceil(math.sqrt(count)))
    down = math.ceil(count / across)
    shape = (down * (height + border) + border, across * (width + border) + border, *tiles.shape[3:])
    canvas = np.full(shape, background, np.uint8)
    for index, tile in enumerate(tiles):
        top = border + index // across * (height + border)
        left = border + index % across * (width + border)
        canvas[top : top + height, left : left + width] = tile
    return PIL.Image.fromarray(canvas)


def volume_montage(
    volumes: UInt8Array,
    columns: int | None = None,
    *,
    border: int = 1,
    scale: int = 1,
    background: int = 255,
    labels: Sequence[str] | None = None,
) -> list[PIL.Image.Image]:
    """Arrange volumes as tiles, with one frame per slice along the depth.

    Args:
        volumes: uint8 array of shape (N, D, H, W).
        columns: As for `montage`.
        border: As for `montage`.
        scale: As for `montage`.
        background: As for `montage`.
        labels: As for `montage`.

    Returns:
        D pictures of mode ``L``.

    Raises:
        MedMNISTError: The array is not a stack of volumes, or an option is out of range.
    """
    if volumes.ndim != 4 or not volumes.size:
        raise MedMNISTError(f"cannot draw an array of shape {volumes.shape}: give uint8 of shape (N, D, H, W)")
    slices = (volumes[:, depth] for depth in range(volumes.shape[1]))
    return [
        montage(each, columns, border=border, scale=scale, background=background, labels=labels) for each in slices
    ]


def first_slice(volumes: UInt8Array) -> int:
    """The slice that an animation starts with: one with good contrast, near the middle.

    Many volumes begin with black slices, and an animation that is not played shows its first frame.

    Args:
        volumes: uint8 array of shape (N, D, H, W).

    Returns:
        The slice nearest to the middle, the earlier of two, among those with at least half of the largest contrast.
        Contrast is the standard deviation of a slice's pixels over all volumes.
    """
    contrast = np.array([volumes[:, depth].std() for depth in range(volumes.shape[1])])
    (candidates,) = np.nonzero(contrast >= contrast.max() / 2)
    return int(candidates[np.argmin(np.abs(candidates - (volumes.shape[1] - 1) / 2))])


def animation(volumes: UInt8Array, frames: Sequence[PIL.Image.Image]) -> list[PIL.Image.Image]:
    """Rotate the frames to start with `first_slice`, which does not change an endless animation otherwise."""
    first = first_slice(volumes)
    return [*frames[first:], *frames[:first]]


def save_png(picture: PIL.Image.Image, path: Path) -> None:
    """Write a picture as PNG, atomically; the same picture gives the same bytes.

    Raises:
        OSError: The file cannot be written.
    """
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    write_atomically(path, buffer.getvalue())


def save_gif(frames: Sequence[PIL.Image.Image], path: Path, *, milliseconds: int = 100) -> None:
    """Write frames as an endless GIF, atomically; the same frames give the same bytes.

    Args:
        frames: At least one picture; all of the same size.
        path: The file; its folder must exist.
        milliseconds: Duration of each frame.

    Raises:
        MedMNISTError: `frames` is empty.
        OSError: The file cannot be written.
    """
    if not frames:
        raise MedMNISTError(f"cannot write {path} without frames: give at least one picture")
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=list(frames[1:]), duration=milliseconds, loop=0, optimize=False
    )
    write_atomically(path, buffer.getvalue())


def export_montage(
    rows: Rows,
    path: str | Path,
    *,
    split: str = "train",
    length: int = 20,
    seed: int | None = None,
    replace: bool = False,
    labels: bool = False,
    force: bool = False,
) -> Path:
    """Draw random rows of a split as a square of tiles: a PNG of images, or a GIF through the slices of volumes.

    The official `montage` draws the same rows in the same places after ``numpy.random.seed(seed)``. Its GIF starts at
    the first slice, this one at `first_slice`.

    Args:
        rows: The config, see `medmnist_hf.data.rows.open_rows`.
        path: The picture to write, ``*.png`` for images and ``*.gif`` for volumes; its folder is created if needed.
        split: Name of a split.
        length: Number of tiles in each direction.
        seed: Seed of the random choice, 0 to 2**32 - 1; None chooses other rows each time.
        replace: Draw rows with replacement.
        labels: Write the name of the class, or of the findings, below each tile; small tiles are enlarged for it. The
            official `montage` has no labels.
        force: Replace an existing file.

    Returns:
        The path of the picture.

    Raises:
        CatalogError: Unknown split.
        SourceError: The config lacks the split or holds something else.
        BuildError: A shard is missing or damaged.
        MedMNISTError: The suffix is wrong, the split has too few rows, the picture would be too large, or the file
            already exists or cannot be written.
    """
    path, entry = expand_user(path), rows.entry
    suffix, kind = (".gif", "volumes") if entry.ndim == 3 else (".png", "images")
    if path.suffix.lower() != suffix:
        raise MedMNISTError(
            f"cannot draw a montage of {entry.flag} as {path.name}: it holds {kind}, name a file *{suffix}"
        )
    count = rows_of(rows, [split])
    row_bytes = int(np.prod(rows.shape))
    if labels:
        scale = captioned_scale(rows.size, 1)
        row_bytes = row_bytes * scale * scale + row_bytes // rows.size * scale * HEIGHT
    if length < 1 or length * length * row_bytes > _LARGEST_BYTES:
        most = int((_LARGEST_BYTES // row_bytes) ** 0.5)
        raise MedMNISTError(
            f"cannot draw a montage of {length} x {length} {kind} at size {rows.size}: give a length of 1 to {most}"
        )
    if seed is not None and not 0 <= seed < 1 << 32:
        raise MedMNISTError(f"{seed} is not a valid seed: give one from 0 to {(1 << 32) - 1}")
    if length * length > count and not replace:
        raise MedMNISTError(
            f"{split} of {entry.flag} has {count} {kind}, but a montage of {length} x {length} needs "
            f"{length * length}: give a length of at most {int(count**0.5)}, or allow repeats with --with-replacement"
        )
    if path.is_dir() or (path.exists() and not force):
        raise MedMNISTError(f"{path} already exists: choose another name{'' if path.is_dir() else ' or pass --force'}")
    chosen = np.random.RandomState(seed).choice(count, length * length, replace)
    images, names = rows.sample(split, chosen), class_names(entry, rows.labels(split)[chosen]) if labels else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.ndim == 3:
            frames = volume_montage(images, length, border=0, labels=names)
            save_gif(animation(images, frames), path, milliseconds=FRAME_MS)
        else:
            save_png(montage(images, length, border=0, labels=names), path)
    except OSError as error:
        raise MedMNISTError(cannot_write(path, error, "check the folder")) from None
    return path


def sample_images(shard: Path, rows: int, subset: Subset, size: int, count: int) -> UInt8Array:
    """Images or volumes from the first row group of a Parquet shard, spread evenly over its rows.

    Only the ``image`` column of this row group is read, and only the sampled rows are decoded, so this is cheap for a
    shard of any size. Spreading them avoids neighboring slices of one scan.

    Args:
        shard: A Parquet file with the column ``image``, as written by this project.
        rows: Number of rows in the manifest.
        subset: The subset.
        size: Edge length of its images or volumes.
        count: Largest number of rows to sample.

    Returns:
        uint8 array of shape (n, H, W), (n, H, W, 3) or (n, D, H, W), with n = min(count, rows of the row group).

    Raises:
        BuildError: The file is missing or does not hold images of this subset and size.
    """
    try:
        regular_size(shard)
        with pq.ParquetFile(shard) as file:
            check_footer(file.metadata, rows, subset, size)
            column = file.read_row_group(0, columns=["image"]).column("image").combine_chunks()
        sampled = min(count, len(column))
        column = column.take(pa.array(np.arange(sampled) * len(column) // sampled))
        (images,) = decoded([(sampled, lambda: column)], subset.file(size).image_shape)
        return images
    except (*SHARD_ERRORS, ZeroDivisionError) as error:
        raise BuildError(cannot_read(f"images from {shard}", error, "build the config again")) from None


def draw_sample(shard: Path, rows: int, subset: Subset, size: int, path: Path) -> None:
    """Draw a card's picture from a split's first shard: a PNG of images, or a GIF through the slices of volumes.

    Args:
        shard: The first Parquet shard of a split.
        rows: Number of rows in the manifest.
        subset: The subset.
        size: Edge length of its images or volumes.
        path: The picture, written atomically; its folder must exist.

    Raises:
        BuildError: The shard is missing or does not hold images of this subset and size.
        OSError: The picture cannot be written.
    """
    plan = layout(size, subset.ndim)
    images = sample_images(shard, rows, subset, size, plan.tiles)
    if subset.ndim == 3:
        save_gif(animation(images, volume_montage(images, plan.columns, scale=plan.scale)), path)
    else:
        save_png(montage(images, plan.columns, scale=plan.scale), path)
