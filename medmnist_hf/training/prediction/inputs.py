"""Images to predict, read block by block: a folder of images, an NPZ file or a data set."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import NPZ_SPLITS, Subset, split_name
from medmnist_hf.data.npz_members import NpzMembers
from medmnist_hf.errors import TrainingError, cannot_read, first_line
from medmnist_hf.files import expand_user, open_regular
from medmnist_hf.loading.load import load_arrays
from medmnist_hf.places.names import parse_name

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
"""Suffixes of the files of a folder that are read as images; other files are ignored."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Images to predict.

    Attributes:
        where: The folder, file or data set.
        count: Number of images.
        names: File name of each image; empty if they have none.
        blocks: Called with a number of rows; yields consecutive images, uint8 (n, H, W), (n, H, W, 3) or (n, D, H, W).
    """

    where: str
    count: int
    names: tuple[str, ...]
    blocks: Callable[[int], Iterator[UInt8Array]]


def open_inputs(
    images: str, entry: Subset, size: int, *, split: str | None = None, root: Path | None = None
) -> Inputs:
    """Find images, and check that a model for a subset can read them.

    Args:
        images: A folder of images, an NPZ file with the keys of the official files, or the name of a data set as for
            `medmnist_hf.load_arrays`.
        entry: The subset on which the model was trained.
        size: The size of its images.
        split: Split of a file or data set; None for test.
        root: Folder of builds in which to find a data set.

    Raises:
        TrainingError: There are no images, or they have another shape than those of the subset, or a split is given
            for a folder.
        MedMNISTError: A data set was not found, or a file cannot be read.
    """
    shape, path = entry.file(size).image_shape, expand_user(images)
    names = _image_names(path)
    if names:
        if split is not None:
            raise TrainingError(f"{images} is a folder of images, which has no splits: leave out --split")
        if entry.ndim == 3:
            raise TrainingError(f"{images} is a folder of images, but the model reads volumes: give an NPZ file")
        return Inputs(images, len(names), names, lambda rows: _from_files(path, names, shape, rows))
    part = split_name(split or "test")
    if path.suffix == ".npz":
        return _in_npz(path, part, shape)
    name = parse_name(images)
    arrays = load_arrays(images, name.size or (None if name.path else size), part, root).images
    _check_shape(f"{images}: split {part}", arrays.shape, shape)
    return Inputs(
        f"{images}, {part}",
        len(arrays),
        (),
        lambda rows: (arrays[at : at + rows] for at in range(0, len(arrays), rows)),
    )


def _image_names(folder: Path) -> tuple[str, ...]:
    """The names of the images in a folder, in the order of `_by_number`; none if it is not a folder."""
    try:
        if not folder.is_dir():
            return ()
        names = [path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    except OSError as error:
        raise TrainingError(cannot_read(folder, error, "give another folder")) from None
    return tuple(sorted(names, key=_by_number))


def _by_number(name: str) -> tuple[list[str | int], str]:
    """Sort key in which test2_0.png is before test10_0.png: images with official names get the order of their rows."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], name


def _from_files(folder: Path, names: tuple[str, ...], shape: tuple[int, ...], rows: int) -> Iterator[UInt8Array]:
    for at in range(0, len(names), rows):
        yield np.stack([_decode(folder / name, shape) for name in names[at : at + rows]])


def _decode(path: Path, shape: tuple[int, ...]) -> UInt8Array:
    """Decode an image. Raises a `TrainingError` if it cannot be read, or has another size or other channels."""
    mode = "RGB" if len(shape) == 3 else "L"
    try:
        with open_regular(path) as file, Image.open(file) as image:
            if image.size != (shape[1], shape[0]) or image.mode != mode:
                found = f"{image.width} x {image.height} pixels in mode {image.mode}"
                raise TrainingError(
                    f"{path} has {found}, but the model was trained on {shape[1]} x {shape[0]} in mode {mode}: "
                    "convert it, e.g. by Pillow"
                )
            return np.array(image, np.uint8)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else first_line(error)
        raise TrainingError(f"cannot read {path} ({reason}): fix or remove it") from None


def _in_npz(path: Path, split: str, shape: tuple[int, ...]) -> Inputs:
    name = f"{NPZ_SPLITS[split]}_images.npy"
    members = NpzMembers(path, [name])
    stream, dtype, found = members.open(name)
    stream.close()
    where = members.where(name)
    if dtype != np.uint8:
        raise TrainingError(f"{where} is {dtype}: give uint8 images, as in the official files")
    _check_shape(where, found, shape)

    def blocks(rows: int) -> Iterator[UInt8Array]:
        stream, _, _ = members.open(name)
        with closing(stream):
            for at in range(0, found[0], rows):
                count = min(rows, found[0] - at)
                yield np.frombuffer(stream.read(count * prod(shape)), np.uint8).reshape(count, *shape)
            stream.finish()

    return Inputs(str(path), found[0], (), blocks)


def _check_shape(where: str, found: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if len(found) != len(shape) + 1 or found[1:] != shape:
        one, other = (" x ".join(map(str, sides)) for sides in (found[1:], shape))
        raise TrainingError(f"{where} has images of {one}, but the model was trained on {other}: give such images")
    if not found[0]:
        raise TrainingError(f"{where} has no images: give at least one")
