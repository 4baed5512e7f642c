"""Write corrupted test splits as NPZ files, in the layout of the published ones.

A file holds one corruption of one subset at all severities, the images of severity 1 first::

    OUT/breastmnist/motion_blur.npz      test_images (5 N, 224, 224), test_labels (5 N, 1), uint8
    OUT/breastmnist_28/motion_blur.npz   the same at another size, which is not published
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.lib import format as npy

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.corruptions.apply import releases
from medmnist_hf.corruptions.arrays import corrupt_blocks, warn_of_size
from medmnist_hf.corruptions.registry import PUBLISHED_SIZE, SEVERITIES, Corruption
from medmnist_hf.data.rows import Rows
from medmnist_hf.errors import MedMNISTError, cannot_write
from medmnist_hf.files import sole_process, sync_folder

_DEFLATE_LEVEL: Final = 6
"""The level of `numpy.savez_compressed`."""

_SPLIT: Final = "test"


def corrupted_path(rows: Rows, corruption: Corruption, out: Path) -> Path:
    """The file of a corruption below a folder."""
    flag = rows.entry.flag
    return out / (flag if rows.size == PUBLISHED_SIZE else f"{flag}_{rows.size}") / f"{corruption.name}.npz"


def write_corrupted(
    rows: Rows,
    corruption: Corruption,
    out: Path,
    *,
    force: bool = False,
    on_progress: Callable[[int], object] = lambda rows: None,
) -> bool:
    """Write a corruption of the test split of a config. Memory is bounded by one block of rows and the labels.

    The file is complete or absent. One that is there already is kept if it was made from the same labels and the same
    first image, by the same releases of the packages that determine pixels.

    Args:
        rows: The config, see `medmnist_hf.data.rows.open_rows`.
        corruption: A corruption of its subset.
        out: Folder that receives the file, see `corrupted_path`; created if needed.
        force: Replace an existing file.
        on_progress: Called with the number of images just written.

    Returns:
        Whether the file was written; False if it was kept.

    Raises:
        MedMNISTError: The file exists and is another, or cannot be written; or the corruption needs OpenCV.
        SourceError: The config lacks the split or holds something else.
        BuildError: A shard is missing or damaged.
        ReadError: The NPZ file is damaged.
    """
    target = corrupted_path(rows, corruption, out)
    temporary = target.with_name(f".{target.name}.tmp")
    labels = rows.labels(_SPLIT)
    comment = _comment(rows, corruption, labels)
    warn_of_size(rows.entry.flag, rows.size)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with sole_process(target.parent / ".lock", f"writing to {target.parent}"):
            if not force and target.exists():
                if _comment_of(target) == comment:
                    return False
                raise MedMNISTError(f"{target} is of other rows or releases: pass --force to replace it")
            try:
                _write(rows, corruption, labels, temporary, comment, on_progress)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            sync_folder(target.parent)
    except OSError as error:
        raise MedMNISTError(cannot_write(target, error, "check the folder")) from None
    return True


def _write(  # noqa: PLR0917
    rows: Rows,
    corruption: Corruption,
    labels: UInt8Array,
    path: Path,
    comment: bytes,
    on_progress: Callable[[int], object],
) -> None:
    repeated = np.tile(labels, (len(SEVERITIES), 1))
    with path.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_DEFLATE_LEVEL) as archive:
            archive.comment = comment
            with archive.open("test_images.npy", "w", force_zip64=True) as member:
                _write_header(member, (len(repeated), *rows.shape))
                for severity in SEVERITIES:
                    for block in corrupt_blocks(rows.images(_SPLIT), corruption, severity):
                        member.write(block.data)
                        on_progress(len(block))
            with archive.open("test_labels.npy", "w", force_zip64=True) as member:
                _write_header(member, repeated.shape)
                member.write(repeated.tobytes())
        file.flush()
        os.fsync(file.fileno())


def _write_header(member: IO[bytes], shape: tuple[int, ...]) -> None:
    npy.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _comment(rows: Rows, corruption: Corruption, labels: UInt8Array) -> bytes:
    """What determines a file's content, as JSON in the comment of its archive, which NumPy ignores."""
    first = next(rows.images(_SPLIT))[:1]
    facts = {
        "made_by": releases(),
        "subset": rows.entry.flag,
        "size": rows.size,
        "corruption": corruption.name,
        "labels_and_first_image_sha256": hashlib.sha256(labels.tobytes() + first.tobytes()).hexdigest(),
    }
    return json.dumps(facts).encode()


def _comment_of(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment
    except (OSError, zipfile.BadZipFile):
        return b""
