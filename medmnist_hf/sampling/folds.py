"""Divide rows into folds for cross-validation: stratified, and without a group in two folds where groups are known.

Example:
    >>> import numpy as np
    >>> fold_of_rows(np.array([0, 0, 0, 0, 1, 1]), 2).tolist()
    [0, 0, 1, 1, 0, 1]
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmnist_hf.array_types import IntArray
from medmnist_hf.errors import SourceError, counted
from medmnist_hf.sampling.groups import group_numbers, read_column
from medmnist_hf.sampling.labels import read_names
from medmnist_hf.sampling.stratify import check_labels, one_hot, parts, priorities, stratified_order


def folds(
    dataset: Any, k: int = 5, seed: int = 0, groups: str | Sequence[Any] | NDArray[Any] | None = None
) -> list[tuple[IntArray, IntArray]]:
    """Divide the rows of a data set into folds for cross-validation.

    The folds depend on the labels, the groups and the seed alone: they are the same on any machine. Each row is held
    out in one fold. The class frequencies of each fold are those of all rows, up to rounding; with groups, which can
    be uneven, as nearly as placing the largest groups first makes them.

    Args:
        dataset: A `datasets.Dataset` of one split, or the `Arrays` of `medmnist_hf.load_arrays`.
        k: Number of folds.
        seed: Seed of the assignment.
        groups: Group of each row, such as its patient, or the column that holds it, e.g. ``group`` of a build with
            source IDs: rows of a group are in the same fold.

    Returns:
        For each fold the numbers of the rows to train on and of the rows held out, ascending, for
        ``dataset.select(rows)``.

    Raises:
        SourceError: There are fewer rows or groups than folds or fewer than two folds, there is not one group per row,
            or `dataset` is something else, such as a stream.
    """
    labels, _ = read_names(dataset, "folds")
    groups = (
        read_column(dataset, groups, "give another column, or one group per row")
        if isinstance(groups, str)
        else groups
    )
    fold = fold_of_rows(labels, k, seed=seed, groups=groups)
    return [(np.flatnonzero(fold != at), np.flatnonzero(fold == at)) for at in range(k)]


def fold_of_rows(
    labels: NDArray[Any], k: int, *, seed: int = 0, groups: Sequence[Any] | NDArray[Any] | None = None
) -> IntArray:
    """Assign each row to a fold, see `folds`.

    Args:
        labels: Class ids, shape (N,), or zeros and ones, shape (N, L).
        k: Number of folds.
        seed: Seed of the assignment.
        groups: Group of each row.

    Returns:
        Number of the fold of each row, 0 to k - 1, intp of shape (N,).

    Raises:
        SourceError: There are fewer rows or groups than folds or fewer than two folds, there is not one group per row,
            or the labels have another shape.
    """
    check_labels(labels)
    if k < 2:
        raise SourceError(f"k is {k}: must be 2 or more folds")
    group = np.arange(len(labels)) if groups is None else group_numbers(groups, len(labels))
    units = int(group.max()) + 1
    if units < k:
        raise SourceError(f"{counted(units, 'row' if groups is None else 'group')} for {k} folds: use a smaller k")
    if groups is not None:
        return _grouped(labels, k, seed, group)
    if labels.ndim == 2:
        return parts(labels, k, priorities(len(labels), seed))
    fold = np.empty(len(labels), np.intp)
    order = stratified_order(labels, seed)
    by_class = order[np.argsort(labels[order], kind="stable")]
    fold[by_class] = np.arange(len(labels)) % k  # dealt on from class to class, which balances the folds
    return fold


def _grouped(labels: NDArray[Any], k: int, seed: int, group: IntArray) -> IntArray:
    """Place the largest groups first, each in the fold that then differs least from the class frequencies of all."""
    hot = one_hot(labels)
    hot = np.concatenate([hot, np.ones((len(hot), 1), bool)], axis=1)  # the last column counts rows
    counts = np.zeros((int(group.max()) + 1, hot.shape[1]), np.int64)
    np.add.at(counts, group, hot)
    weight = (len(labels) / np.maximum(counts.sum(0), 1)) ** 2
    fold_counts = np.zeros((k, hot.shape[1]), np.int64)
    fold_of_group = np.empty(len(counts), np.intp)
    for at in np.lexsort((priorities(len(counts), seed), -counts[:, -1])):
        # How much the sum of squared shares grows; rounded, so that the order of summation cannot change the choice.
        growth = (counts[at] * (2 * fold_counts + counts[at]) * weight).sum(1).round(6)
        chosen = int(np.argmin(growth))
        fold_of_group[at] = chosen
        fold_counts[chosen] += counts[at]
    return fold_of_group[group]
