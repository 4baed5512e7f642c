"""Reuse the memory of batches once they are freed: at 224 pixels, fresh pages cost more than the arithmetic."""

import weakref
from collections import deque
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Buffers:
    """Makes tensors whose memory is reused automatically.

    Memory is reused only after the tensor and all of its views and arrays have been freed. A pickled copy starts
    empty.

    Args:
        keep: Maximum number of unused blocks of memory to keep.
    """

    def __init__(self, keep: int = 4) -> None:
        self._keep = keep
        # Memory is returned by whichever thread frees the last tensor; a deque needs no lock for that.
        self._unused: deque[np.ndarray[Any, np.dtype[np.uint8]]] = deque(maxlen=keep)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Make a contiguous CPU tensor with arbitrary content.

        Args:
            shape: Shape of the tensor.
            dtype: Type of the tensor.
        """
        size = prod(shape) * dtype.itemsize
        try:
            block = self._unused.pop()
        except IndexError:
            block = np.empty(size, np.uint8)
        if block.nbytes < size:
            block = np.empty(size, np.uint8)
        # Only the tensor's storage refers to this view, so the view ends together with all tensors over the memory.
        view = block[:size]
        weakref.finalize(view, self._unused.append, block).atexit = False
        return torch.from_numpy(view).view(dtype).view(*shape)

    def __reduce__(self) -> tuple[type["Buffers"], tuple[int]]:
        return Buffers, (self._keep,)
