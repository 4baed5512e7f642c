"""Pictures and files: montages as ``skimage.util.montage`` draws them, and one file per image with a CSV.

Functions have the names and arguments of ``medmnist.utils``, and draw and write the same.
"""

import math
import secrets
import shutil
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.errors import MedMNISTError, cannot_write
from medmnist_hf.exporting.images import FRAME_MS
from medmnist_hf.files import write_atomically
from medmnist_hf.official.errors import ArgumentError

SPLIT_DICT: Final = {"train": "TRAIN", "val": "VALIDATION", "test": "TEST"}
"""Split -> its name in the CSV, that of Vertex AI."""

_BAR_AFTER: Final = 2.0
"""Seconds after which a progress bar appears."""

FilePath = str | Path


def montage2d(imgs: UInt8Array, n_channels: int, sel: NDArray[np.intp]) -> PIL.Image.Image:
    """Draw images as a square of tiles without borders, row by row.

    Args:
        imgs: uint8 of shape (N, H, W) or (N, H, W, 3).
        n_channels: 1 or 3.
        sel: Numbers of the rows to draw. Empty places get the mean of these images, per channel.
    """
    tiles = np.asarray(imgs[sel])
    side = math.isqrt(len(tiles) - 1) + 1
    color = (n_channels,) * (n_channels == 3)
    canvas = np.empty((side * side, *tiles.shape[1:3], *color), np.uint8)
    canvas[: len(tiles)] = tiles
    canvas[len(tiles) :] = tiles.mean(axis=(0, 1, 2)).astype(np.uint8)
    height, width = tiles.shape[1:3]
    grid = canvas.reshape(side, side, height, width, *color).swapaxes(1, 2)
    return PIL.Image.fromarray(grid.reshape(side * height, side * width, *color))


def montage3d(imgs: UInt8Array, n_channels: int, sel: NDArray[np.intp]) -> list[PIL.Image.Image]:
    """Draw volumes as a square of tiles, one picture per slice along the depth; arguments as in `montage2d`.

    `imgs` has shape (N, D, H, W).
    """
    chosen = np.asarray(imgs[sel])
    every = np.arange(len(chosen))
    return [montage2d(chosen[:, depth], n_channels, every) for depth in range(chosen.shape[1])]


def load_frames(arr: UInt8Array) -> list[PIL.Image.Image]:
    """The slices of a volume, uint8 of shape (D, H, W), as pictures."""
    return [PIL.Image.fromarray(piece) for piece in arr]


def save_frames_as_gif(frames: Sequence[PIL.Image.Image], path: FilePath, duration: int = FRAME_MS) -> None:
    """Write pictures as an endless GIF, atomically.

    Args:
        frames: At least one picture.
        path: The file, ``*.gif``; its folder must exist.
        duration: Milliseconds per frame.

    Raises:
        ArgumentError: The name does not end in ``.gif``.
        MedMNISTError: The file cannot be written.
    """
    if Path(path).suffix != ".gif":
        raise ArgumentError(f"{path} does not end in .gif: name such a file")
    buffer = BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0)
    write_file(Path(path), buffer.getvalue())


def write_picture(picture: PIL.Image.Image, path: Path) -> None:
    """Write a picture in the format that the suffix names; errors as in `write_file`."""
    buffer = BytesIO()
    picture.save(buffer, PIL.Image.registered_extensions()[path.suffix])
    write_file(path, buffer.getvalue())


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file atomically; its folder is created if missing.

    Raises:
        MedMNISTError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise MedMNISTError(cannot_write(path, error, "check the folder")) from None


def save2d(  # noqa: PLR0917  (the official order)
    imgs: UInt8Array, labels: UInt8Array, img_folder: FilePath, split: str, postfix: str, csv_path: FilePath | None
) -> None:
    """Write each image of a split to a file of the format that `postfix` names; see `save_fn`.

    Raises:
        ArgumentError: Pillow does not write such files.
        MedMNISTError: A file cannot be written.
    """
    PIL.Image.init()
    if PIL.Image.EXTENSION.get(Path(f"_.{postfix}").suffix.lower()) not in PIL.Image.SAVE:
        raise ArgumentError(f"images cannot be saved as {postfix}: choose another format, such as png")
    save_fn(imgs, labels, img_folder, split, postfix, csv_path, PIL.Image.fromarray, lambda img, path: img.save(path))


def save3d(  # noqa: PLR0917  (the official order)
    imgs: UInt8Array, labels: UInt8Array, img_folder: FilePath, split: str, postfix: str, csv_path: FilePath | None
) -> None:
    """Write each volume of a split as a GIF, one frame per slice; see `save_fn`."""
    save_fn(imgs, labels, img_folder, split, postfix, csv_path, load_frames, save_frames_as_gif)


def save_fn(  # noqa: PLR0917  (the official order)
    imgs: UInt8Array,
    labels: UInt8Array,
    img_folder: FilePath,
    split: str,
    postfix: str,
    csv_path: FilePath | None,
    load_fn: Callable[[Any], Any],
    save_fn: Callable[[Any, str], object],
) -> None:
    """Write each row of a split to a file, and a line per file to a CSV.

    Files are named ``{split}{row}_{labels}.{postfix}`` and appear in their folder once all of them are written; then
    the lines ``SPLIT,file,label,...`` are added to the CSV. In ``{img_folder}.csv``, which is the CSV of this folder
    alone, they replace those of the same split.

    Args:
        imgs: Images or volumes, uint8, N rows.
        labels: Labels of shape (N, 1) or (N, L).
        img_folder: Folder of the files; created if missing.
        split: ``train``, ``val`` or ``test``.
        postfix: Suffix of the files, without a dot.
        csv_path: The CSV; None writes none.
        load_fn: Converts a row to what `save_fn` takes.
        save_fn: Writes a converted row to a path.

    Raises:
        ArgumentError: The numbers of rows differ.
        MedMNISTError: A file cannot be written; then none appears, and the CSV is unchanged.
    """
    from huggingface_hub import utils

    if len(imgs) != len(labels):
        raise ArgumentError(f"{len(imgs)} images but {len(labels)} labels: pass as many labels")
    bars: Any = utils  # its stubs do not export tqdm
    folder = Path(img_folder)
    stage = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    lines = []
    try:
        stage.mkdir(parents=True)
        for index, label in enumerate(bars.tqdm(labels, desc=f"saving {split}", unit="row", delay=_BAR_AFTER)):
            texts = [str(value) for value in label.tolist()]
            name = f"{split}{index}_{'_'.join(texts)}.{postfix}"
            save_fn(load_fn(imgs[index]), str(stage / name))
            lines.append(f"{SPLIT_DICT[split]},{name},{','.join(texts)}\n")
        folder.mkdir(parents=True, exist_ok=True)
        for file in stage.iterdir():
            file.replace(folder / file.name)
    except OSError as error:
        raise MedMNISTError(cannot_write(folder, error, "check the folder")) from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    if csv_path is not None:
        table = Path(csv_path)
        before = _lines(table)
        if table == folder.with_name(f"{folder.name}.csv"):
            before = [line for line in before if not line.startswith(f"{SPLIT_DICT[split]},")]
        write_file(table, "".join(before + lines))


def _lines(path: Path) -> list[str]:
    """The lines of a file; none if there is no file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(file)
    except FileNotFoundError:
        return []
