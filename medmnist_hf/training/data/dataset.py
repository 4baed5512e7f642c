"""Arrays as a torch data set that gathers whole batches at once, from memory or from a memory-mapped file."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data._utils.collate import default_collate_fn_map

from medmnist_hf.array_types import Int64Array, IntArray
from medmnist_hf.errors import TrainingError, counted
from medmnist_hf.statistics.sums import PixelSums
from medmnist_hf.training.data.buffers import Buffers
from medmnist_hf.training.data.mapping import find_mapping, is_changed

Draws = tuple[tuple[Tensor, ...], ...]
"""The random parameters of each augmentation, each with one entry per sample."""


def on_device(draws: Draws, device: torch.device) -> Draws:
    """Copy random parameters to a device."""
    return tuple(tuple(parameter.to(device) for parameter in parameters) for parameters in draws)


@dataclass(frozen=True, slots=True)
class ArrayBatch:
    """A batch of samples as stored.

    Attributes:
        images: uint8 (B, H, W), (B, H, W, 3) or (B, D, H, W).
        labels: int64 (B,), or float32 (B, L) of zeros and ones.
        indices: int64 (B,), positions of the samples in the data set; always on the CPU.
        epoch: The epoch in which the samples were drawn, 0 if unknown.
        statistics: Pixel statistics of the data set, if it has them.
        draws: What `BatchTransform.draw` returns for this batch, on the device of the images; None lets the transform
            draw it.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    epoch: int = 0
    statistics: PixelSums | None = None
    draws: Draws | None = None

    def to(self, device: torch.device) -> "ArrayBatch":
        """Copy the batch to a device, asynchronously if it is in pinned memory."""
        images, labels = (part.to(device, non_blocking=True) for part in (self.images, self.labels))
        draws = None if self.draws is None else on_device(self.draws, device)
        return replace(self, images=images, labels=labels, draws=draws)

    def as_dict(self) -> dict[str, Tensor]:
        """The dictionary of ``images``, ``labels`` and ``indices``."""
        return {"images": self.images, "labels": self.labels, "indices": self.indices}


class ArrayDataset(Dataset[dict[str, Tensor]]):
    """A map-style data set over arrays, made as ``ArrayDataset(*arrays)`` or ``ArrayDataset(images, labels)``.

    A sample is a dictionary of ``images``, ``labels`` and ``indices``. A torch `DataLoader` and its workers, a
    `transformers.Trainer` and Accelerate request whole batches, each of which is one gather. Pass a `BatchTransform`
    as ``collate_fn``; without one, batches have the same three keys as samples.

    Arrays are copied only if they are not contiguous, and memory-mapped files are never read as a whole. A pickled
    copy reopens a memory-mapped array by its file name. If it is a copy-on-write mapping that was written to, its rows
    are pickled instead.

    Args:
        images: uint8 (N, H, W), (N, H, W, 3) or (N, D, H, W).
        labels: Class ids (N,), or zeros and ones (N, L).
        rows: Numbers of the rows to use, in this order; None for all. Their images are gathered batch by batch.
        statistics: Statistics for ``BatchTransform(stats="dataset")``: those of the train split, for every split.

    Raises:
        TrainingError: The arrays have other types or shapes, are empty or differ in length.
    """

    groups: Int64Array | None = None
    """The group of each sample that training is to draw equally often, see `JointDataset`; None draws all once."""

    statistics: PixelSums | None = None

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[Any],
        rows: IntArray | None = None,
        *,
        statistics: PixelSums | None = None,
    ) -> None:
        _check(images, labels)
        self.statistics = statistics
        array = np.ascontiguousarray(images)
        self._mapping = find_mapping(array)
        self._images = _tensor_over(array)
        self._rows = None if rows is None else torch.from_numpy(_checked_rows(rows, len(images)))
        labels = labels if rows is None else labels[rows]
        self.labels = torch.tensor(labels, dtype=torch.int64 if labels.ndim == 1 else torch.float32)
        """The labels of all samples, int64 (N,) or float32 (N, L)."""
        self._buffers = Buffers()

    @property
    def stored_bytes(self) -> int:
        """Size of all images as stored, in bytes."""
        return len(self) * prod(self.image_shape)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image as stored: (H, W), (H, W, 3) or (D, H, W)."""
        return tuple(self._images.shape[1:])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample, copied."""
        position = range(len(self))[index]
        batch = self.gather([position])
        return {name: part[0] for name, part in batch.as_dict().items()}

    def __getitems__(self, indices: Sequence[int]) -> list[ArrayBatch]:
        """Called by torch's fetcher: a list that contains the whole batch."""
        return [self.gather(indices, epoch=getattr(indices, "epoch", 0))]

    def gather(self, indices: Sequence[int], *, epoch: int = 0, pin: bool = False) -> ArrayBatch:
        """Copy samples into a batch.

        Args:
            indices: Positions of the samples, in 0..N-1.
            epoch: The epoch to record in the batch.
            pin: Use page-locked memory for images and labels, from which copies to an accelerator are asynchronous.

        Raises:
            IndexError: An index is out of range.
        """
        positions = torch.from_numpy(np.array(indices, np.int64))
        shape = (len(positions), *self.image_shape)
        # torch itself reuses page-locked memory.
        images = (
            torch.empty(shape, dtype=torch.uint8, pin_memory=True) if pin else self._buffers.empty(shape, torch.uint8)
        )
        rows = positions if self._rows is None else self._rows.index_select(0, positions)
        torch.index_select(self._images, 0, rows, out=images)
        labels = self.labels.index_select(0, positions)
        return ArrayBatch(images, labels.pin_memory() if pin else labels, positions, epoch, self.statistics)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        if self._mapping is not None and is_changed(self._images.numpy(), self._mapping):
            state["_mapping"] = None
        elif self._mapping is not None:
            del state["_images"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._mapping is not None:
            self._images = _tensor_over(self._mapping.open())


def derive_seed(seed: int, *more: int | bytes) -> int:
    """Derive a 63-bit seed from a seed and further values; close seeds or epochs give unrelated results.

    Args:
        seed: The user's seed.
        *more: Further values that draws depend on.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in (seed, *more):
        content = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return int.from_bytes(digest.digest(), "little") >> 1


def _check(images: NDArray[Any], labels: NDArray[Any]) -> None:
    if not isinstance(images, np.ndarray) or not isinstance(labels, np.ndarray):
        types = f"{type(images).__name__} and {type(labels).__name__}"
        raise TrainingError(f"images and labels are {types}: give two NumPy arrays, as load_arrays returns")
    if images.dtype != np.uint8 or images.ndim not in {3, 4} or not prod(images.shape):
        raise TrainingError(
            f"images are {images.dtype} of shape {images.shape}: "
            "give uint8 of shape (N, H, W), (N, H, W, 3) or (N, D, H, W), N at least 1"
        )
    kinds = "iub" if labels.ndim == 1 else "iubf"  # `load_arrays` returns multi-hot labels as float32
    if labels.dtype.kind not in kinds or labels.ndim not in {1, 2} or labels.shape[1:] == (1,):
        raise TrainingError(
            f"labels are {labels.dtype} of shape {labels.shape}: give class ids (N,), or zeros and ones (N, L)"
        )
    if len(labels) != len(images):
        raise TrainingError(
            f"{counted(len(images), 'image')} but {counted(len(labels), 'label')}: give one label per image"
        )


def _checked_rows(rows: IntArray, count: int) -> NDArray[np.int64]:
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows) or rows.min() < 0 or rows.max() >= count:
        raise TrainingError(
            f"rows are not row numbers of {count} images: give integers in 0..{count - 1}, at least one"
        )
    return rows.astype(np.int64)


def _tensor_over(array: NDArray[np.uint8]) -> Tensor:
    with warnings.catch_warnings():
        # The tensor is never written to: every access gathers into other memory.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)


def _collate_arrays(batches: list[ArrayBatch], *, collate_fn_map: Any = None) -> dict[str, Tensor]:
    return batches[0].as_dict()


default_collate_fn_map[ArrayBatch] = _collate_arrays
