"""Groups of rows, such as those of a patient, which are chosen and divided as a whole."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmnist_hf.array_types import IntArray
from medmnist_hf.errors import SourceError
from medmnist_hf.sampling.stratify import one_hot


def read_column(data: Any, name: str, remedy: str) -> list[Any]:
    """Read the groups of the rows of a data set from a column.

    Args:
        data: A `datasets.Dataset`.
        name: Name of the column.
        remedy: What to do without it.

    Raises:
        SourceError: There is no such column.
    """
    if not hasattr(data, "column_names"):
        raise SourceError(f"arrays have no column {name}: give rows of medmnist_hf.load, which have columns")
    if name not in data.column_names:
        known = "; medmnist-hf build --source-ids adds it" if name == "group" else ""
        raise SourceError(f"the data set has no column {name}: {remedy}{known}")
    return list(data[name])


def group_numbers(groups: Sequence[Any] | NDArray[Any], rows: int) -> IntArray:
    """Number the groups from 0 in the order of their names.

    Args:
        groups: Group of each row.
        rows: Number of rows.

    Returns:
        Number of the group of each row, intp of shape (N,).

    Raises:
        SourceError: There is not one group per row, or groups are of several types.
    """
    names = np.asarray(groups)
    if names.shape != (rows,):
        raise SourceError(f"groups have shape {names.shape} but there are {rows} rows: give one group per row")
    try:
        return np.unique(names, return_inverse=True)[1]
    except TypeError:
        raise SourceError("groups mix text, numbers or None: give values of one type, without gaps") from None


def labels_of_groups(labels: NDArray[Any], group: IntArray) -> NDArray[np.uint8]:
    """Which classes, or findings, occur in each group.

    Args:
        labels: Class ids, shape (N,), or zeros and ones, shape (N, L).
        group: Number of the group of each row, shape (N,).

    Returns:
        Zeros and ones of shape (G, K), where K is the number of classes that occur, or of findings.
    """
    hot = one_hot(labels)
    of_groups = np.zeros((int(group.max()) + 1, hot.shape[1]), np.uint8)
    np.maximum.at(of_groups, group, hot.astype(np.uint8))
    return of_groups
