"""Several subsets as one array data set, whose images are gathered from the arrays of each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from medmnist_hf.training.data.buffers import Buffers
from medmnist_hf.training.data.dataset import ArrayBatch, ArrayDataset


class JointDataset(ArrayDataset):
    """The rows of several data sets, one after the other; nothing is copied before a batch is gathered.

    Gray images among RGB images are repeated to three channels. Labels are those of `medmnist_hf.training.losses` for
    several subsets: float32 (B, 1 + W) with the position of the subset, then the class id or the findings.

    Args:
        parts: The data sets, with images of the same size.
        balance: Whether training is to draw all of them equally often.
    """

    def __init__(self, parts: Sequence[ArrayDataset], *, balance: bool = False) -> None:
        self.parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in parts])
        self._width = max(part.labels.shape[1] if part.labels.ndim == 2 else 1 for part in parts)
        self._buffers = Buffers()
        if balance:
            self.groups = np.repeat(np.arange(len(parts)), [len(part) for part in parts])

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image in a batch; see `ArrayDataset`."""
        return max((part.image_shape for part in self.parts), key=len)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def gather(self, indices: Sequence[int], *, epoch: int = 0, pin: bool = False) -> ArrayBatch:
        """Copy samples into a batch; see `ArrayDataset.gather`."""
        positions = np.array(indices, np.int64)
        if positions.size and not 0 <= positions.min() <= positions.max() < len(self):
            raise IndexError(f"an index is not in 0..{len(self) - 1}")
        owners = np.searchsorted(self._ends, positions, side="right")
        shape = (len(positions), *self.image_shape)
        images = (
            torch.empty(shape, dtype=torch.uint8, pin_memory=True) if pin else self._buffers.empty(shape, torch.uint8)
        )
        labels = torch.zeros(len(positions), 1 + self._width, pin_memory=pin)
        labels[:, 0] = torch.from_numpy(owners)
        for number in np.unique(owners):
            rows, part = np.flatnonzero(owners == number), self.parts[number]
            own = part.gather(positions[rows] - self._ends[number] + len(part))
            images[rows] = (
                own.images if own.images.ndim == len(shape) else own.images[..., None].expand(-1, *shape[1:])
            )
            values = own.labels.reshape(len(rows), -1).float()
            labels[rows, 1 : 1 + values.shape[1]] = values
        return ArrayBatch(images, labels, torch.from_numpy(positions), epoch)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
