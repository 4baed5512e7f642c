"""Divide a stream of rows, which comes in blocks of any length, into blocks of given lengths."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

_Rows = TypeVar("_Rows", bound=np.ndarray[Any, Any])


def regroup(blocks: Iterable[_Rows], counts: Iterable[int]) -> Iterator[_Rows]:
    """Yield the rows of all blocks in groups of given lengths.

    A group that lies within one block is a view of it; others are copied.

    Args:
        blocks: Arrays of shape (n, ...), read only as far as needed.
        counts: Length of each group, 1 or more.

    Raises:
        ValueError: The blocks have fewer rows.
    """
    source = iter(blocks)
    pending: list[_Rows] = []
    available = 0
    for count in counts:
        while available < count:
            block = next(source, None)
            if block is None:
                raise ValueError(f"{available} rows are left where {count} are needed")
            pending.append(block)
            available += len(block)
        merged = pending[0] if len(pending) == 1 or len(pending[0]) >= count else np.concatenate(pending)
        if merged is not pending[0]:
            pending = [merged]  # type: ignore[list-item]  # NumPy's types lose the bound
        yield merged[:count]  # type: ignore[misc]
        rest = merged[count:]
        pending = [rest, *pending[1:]] if len(rest) else pending[1:]  # type: ignore[list-item]
        available -= count
