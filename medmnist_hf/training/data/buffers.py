"""Memory of batches, used again once nobody holds them: at 224 pixels fresh pages cost more than the arithmetic."""

import weakref
from collections import deque
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Buffers:
    """Makes tensors whose memory comes back by itself.

    A tensor, its views and its arrays may be kept as long as anyone likes: only when the last of them is gone does
    the memory serve another tensor. A pickled copy starts empty.

    Args:
        keep: Most blocks of unused memory that are kept; a block is as large as the largest tensor it served.
    """

    def __init__(self, keep: int = 4) -> None:
        self._keep = keep
        # Memory comes back in whatever thread drops the last tensor, at any point: a deque needs no lock for that.
        self._unused: deque[np.ndarray[Any, np.dtype[np.uint8]]] = deque(maxlen=keep)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A contiguous CPU tensor with any content.

        Args:
            shape: Its shape.
            dtype: Its type.
        """
        size = prod(shape) * dtype.itemsize
        try:
            block = self._unused.pop()
        except IndexError:
            block = np.empty(size, np.uint8)
        if block.nbytes < size:
            block = np.empty(size, np.uint8)
        # The tensor's storage holds this view, and the view alone: its end is the end of all tensors over the memory.
        view = block[:size]
        weakref.finalize(view, self._unused.append, block).atexit = False
        return torch.from_numpy(view).view(dtype).view(*shape)

    def __reduce__(self) -> tuple[type["Buffers"], tuple[int]]:
        return Buffers, (self._keep,)
