"""Conversion of tensors and lazy columns to values that numpy can read.

Example:
    >>> from medmnist_hf.scoring.inputs import plain
    >>> plain([[0.2, 0.8]])
    [[0.2, 0.8]]
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def plain(values: Any) -> Any:
    """Convert tensors, also inside a list of rows, to arrays, and slice lazy columns; return other values unchanged.

    Tensors may require gradients or be on a device. Types that numpy lacks, such as bfloat16, become float32.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        try:
            return values.numpy()
        except TypeError:
            return values.float().numpy()
    values = sliced(values)
    if isinstance(values, list | tuple) and any(map(_holds_tensor, values)):
        return [plain(row) for row in values]
    return values


def is_score_table(values: Any) -> bool:
    """Whether values must be scores rather than decisions: floats in two or more columns, not all of them 0 or 1."""
    try:
        table = np.asarray(plain(values))
    except ValueError:  # rows of several lengths
        return False
    return table.ndim == 2 and table.dtype.kind == "f" and table.shape[1] > 1 and not np.isin(table, (0, 1)).all()


def _holds_tensor(row: Any) -> bool:
    return hasattr(row, "detach") or (isinstance(row, list | tuple) and len(row) > 0 and hasattr(row[0], "detach"))


def sliced(values: Any) -> Any:
    """Slice a lazy column (any sequence other than a list, tuple, string or range); return other values unchanged."""
    if isinstance(values, Sequence) and not isinstance(values, list | tuple | str | bytes | range):
        return values[:]
    return values
