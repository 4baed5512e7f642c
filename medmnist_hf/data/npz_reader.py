"""Stream the rows of an official NPZ file, checked against the catalog, without a whole split in memory.

``numpy.load`` inflates a whole member (13.5 GB for the train split of PathMNIST at 224); this reader holds one block.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import cache, partial
from math import prod
from pathlib import Path

import numpy as np

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import NPZ_SPLITS, SplitCounts, Subset, Task
from medmnist_hf.data.npz_members import NpzMembers, dtype_name
from medmnist_hf.errors import ReadError, SourceError, cannot_read, counted
from medmnist_hf.files import open_regular
from medmnist_hf.manifest import Provenance
from medmnist_hf.places.resolver import NpzFile


class NpzReader:
    """The six arrays of one official NPZ file, checked against the catalog when it is opened.

    Opening reads the zip directory, the array headers and the labels; only `images` reads pixels.
    Several splits may be streamed at once: each stream has its own file handle.

    Args:
        path: The NPZ file.
        subset: The subset that it claims to hold.
        size: Edge length in pixels or voxels.
        counts: Number of rows that each split must have; if None, any number is accepted.

    Raises:
        ReadError: The file is damaged, or is not this subset in this size; the message names file and member.
    """

    def __init__(self, path: Path, subset: Subset, size: int, counts: SplitCounts | None) -> None:
        self.path = path
        self._subset = subset
        self._image_shape = subset.file(size).image_shape
        self._members = NpzMembers(
            path, [f"{prefix}_{kind}.npy" for prefix in NPZ_SPLITS.values() for kind in ("images", "labels")]
        )
        self._labels: dict[str, UInt8Array] = {}
        for split in NPZ_SPLITS:
            self._labels[split] = self._members.labels(split, subset, self._check_images(split, counts))

    def _check_images(self, split: str, counts: SplitCounts | None) -> int:
        name = f"{NPZ_SPLITS[split]}_images.npy"
        where = self._members.where(name)
        stream, dtype, shape = self._members.open(name)
        stream.close()
        if dtype != np.uint8:
            raise ReadError(f"{where} is {dtype_name(dtype)}, not uint8: is this a MedMNIST file?")
        if shape[1:] != self._image_shape or not shape:
            row = "x".join(map(str, self._image_shape))
            raise ReadError(
                f"{where} has shape {shape}, but {self._subset.flag} at size {self._image_shape[0]} "
                f"has rows of {row}: is it another subset or size?"
            )
        if not shape[0]:
            raise ReadError(f"{where} has no rows: fetch the file again")
        if counts is not None and shape[0] != counts[split]:
            raise ReadError(
                f"{where} has {counted(shape[0], 'row')} where the catalog has {counts[split]}: "
                "fetch the official file, or pass --allow-unverified to accept it"
            )
        return shape[0]

    def rows(self, split: str) -> int:
        """Number of rows of a split."""
        return len(self._labels[split])

    def labels(self, split: str) -> UInt8Array:
        """Labels of a split: class ids of shape ``(N,)``, or multi-hot ``(N, L)`` for the multi-label task."""
        labels = self._labels[split]
        return labels if self._subset.task is Task.MULTI_LABEL else labels[:, 0]

    def images(self, split: str, block_rows: Iterable[int]) -> Iterator[UInt8Array]:
        """Stream the pixels of a split in row order.

        Args:
            split: ``train``, ``validation`` or ``test``.
            block_rows: Number of rows of each yielded block. If they add up to all rows of the split, the member's
                end and CRC are checked as well, before the last block is yielded.

        Yields:
            uint8 arrays of shape ``(n, *image_shape)``, each owning its memory.

        Raises:
            ReadError: The member is truncated, damaged, or fails its CRC.
        """
        stream, _, _ = self._members.open(f"{NPZ_SPLITS[split]}_images.npy")
        left = self.rows(split)
        row_bytes = prod(self._image_shape)
        with closing(stream):
            for rows in block_rows:
                left -= rows
                block = np.frombuffer(stream.read(rows * row_bytes), np.uint8).reshape(rows, *self._image_shape)
                if not left:
                    stream.finish()
                yield block


def provenance_of(place: NpzFile) -> Provenance:
    """Verified for a file with the catalog's MD5, otherwise unverified: an NPZ file does not mark phantoms.

    Raises:
        SourceError: The file cannot be read.
    """
    official = place.entry.file(place.size).md5
    return Provenance.VERIFIED if md5_of(place.path) == official else Provenance.UNVERIFIED


def md5_of(path: Path) -> str:
    """MD5 of a file, 32 hex digits; an unchanged file is read only once.

    Raises:
        SourceError: The file cannot be read.
    """
    try:
        state = path.stat()
        return _md5_of_state(path.absolute(), state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise SourceError(cannot_read(path, error, "check the path")) from None


@cache
def _md5_of_state(path: Path, size: int, modified: int) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
