"""Corrupted test splits as NPZ files, in the layout of MedMNIST-C, see `medmnist_hf.corruptions.npz`."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.corruptions.npz import corrupted_path
from medmnist_hf.corruptions.registry import SEVERITIES, Corruption
from medmnist_hf.data.npz_members import NpzMembers
from medmnist_hf.data.rows import Rows
from medmnist_hf.errors import TrainingError

_IMAGES: Final = "test_images.npy"
_LABELS: Final = "test_labels.npy"


def read_corrupted(
    folder: Path, rows: Rows, corruption: Corruption, counts: Sequence[int]
) -> Iterator[tuple[UInt8Array, int]]:
    """Stream the images of a file, by ascending severity.

    Args:
        folder: The folder with a folder for each subset.
        rows: The clean rows; those of the file must be of the same number, shape and labels.
        corruption: The corruption.
        counts: Rows of each batch; their sum is the number of test rows.

    Yields:
        A batch, uint8 (n, H, W) or (n, H, W, 3), and its severity.

    Raises:
        TrainingError: The file is missing or of other images.
        ReadError: It is damaged.
    """
    path = corrupted_path(rows, corruption, folder)
    if not path.is_file():
        raise TrainingError(
            f"{path} is missing: make it with medmnist-hf corrupt, or name the corruptions that are there with "
            "--corruptions"
        )
    members = NpzMembers(path, [_IMAGES, _LABELS])
    labels = rows.labels("test")
    total = len(SEVERITIES) * len(labels)
    _check_labels(members, np.tile(labels, (len(SEVERITIES), 1)))
    stream, dtype, shape = members.open(_IMAGES)
    with closing(stream):
        if dtype != np.uint8 or shape != (total, *rows.shape):
            raise _other(members, _IMAGES, f"{dtype} {shape}, not uint8 {(total, *rows.shape)}")
        for severity in SEVERITIES:
            for count in counts:
                pixels = stream.read(count * prod(rows.shape))
                yield np.frombuffer(pixels, np.uint8).reshape(count, *rows.shape), severity
        stream.finish()


def _check_labels(members: NpzMembers, expected: UInt8Array) -> None:
    stream, dtype, shape = members.open(_LABELS)
    with closing(stream):
        if dtype.kind not in "iu" or shape != expected.shape:
            raise _other(members, _LABELS, f"{dtype} {shape}, not integers {expected.shape}")
        found: Any = np.frombuffer(stream.read(prod(shape) * dtype.itemsize), dtype).reshape(shape)
        stream.finish()
    if not np.array_equal(found, expected):
        raise _other(members, _LABELS, "other labels than the clean images")


def _other(members: NpzMembers, name: str, what: str) -> TrainingError:
    return TrainingError(f"{members.where(name)} holds {what}: name files of the same test split")
