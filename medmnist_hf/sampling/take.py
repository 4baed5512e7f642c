"""Take a fraction or a few rows of each class from a data set: the same rows on any machine.

Example:
    >>> import medmnist_hf
    >>> data = medmnist_hf.load("pathmnist", 28)  # doctest: +SKIP
    >>> medmnist_hf.take(data, shots=5)["train"].num_rows  # doctest: +SKIP
    45
"""

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from medmnist_hf.array_types import IntArray
from medmnist_hf.data.arrays import Arrays
from medmnist_hf.errors import SourceError
from medmnist_hf.sampling.groups import group_numbers, labels_of_groups, read_column
from medmnist_hf.sampling.labels import read_names
from medmnist_hf.sampling.rows import choose_rows, warn_if_scarce

_Data = TypeVar("_Data")

_REDUCED: Final = ("train", "validation")
"""Splits that may be reduced; test never is, so that scores stay comparable."""


def take(
    dataset: _Data,
    *,
    fraction: float | None = None,
    shots: int | None = None,
    seed: int = 0,
    by: str | None = None,
    few_validation: bool = False,
) -> _Data:
    """Take a fraction of the rows, with the class frequencies of all, or a number of rows of each class.

    The rows depend on the labels and the seed alone: they are the same on any machine, for any size of the images and
    with any release of the libraries. With the same seed, a smaller fraction is part of a larger one, and fewer shots
    are part of more. A class with fewer rows, or groups, than `shots` is taken completely, which a warning reports.

    Args:
        dataset: A `datasets.Dataset` of one split; a `datasets.DatasetDict`, of which only train is reduced; or the
            `Arrays` of `medmnist_hf.load_arrays`, of which the rows are copied.
        fraction: Fraction of the rows, above 0 and up to 1. Every class or finding that occurs is taken at least once.
        shots: Number of rows of each class. For the multi-label task: of each finding and of rows without a finding,
            where a row counts for each of its findings.
        seed: Seed of the choice.
        by: Column with groups, e.g. ``group`` of a build with source IDs, that are taken as a whole: `fraction` and
            `shots` then count groups, such as patients, and a group counts for each class that it has.
        few_validation: Reduce the split validation of a `DatasetDict` in the same way.

    Returns:
        The same type as `dataset`, with the rows in their order.

    Raises:
        SourceError: Not exactly one of `fraction` and `shots` is given, a value is out of range, there is no column
            `by`, a row has no group, or `dataset` is something else, such as a stream.
    """
    taken: Any = _take(dataset, _Choice(fraction, shots, seed, by), few_validation=few_validation)
    return taken  # type: ignore[no-any-return]  # it has the type of dataset


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which rows to take; attributes are the arguments of `take`."""

    fraction: float | None
    shots: int | None
    seed: int
    by: str | None


def _take(data: Any, choice: _Choice, *, few_validation: bool) -> Any:
    if not isinstance(data, Arrays):
        import datasets

        if isinstance(data, datasets.DatasetDict):
            splits = _REDUCED if few_validation else _REDUCED[:1]
            if missing := [split for split in splits if split not in data]:
                raise SourceError(
                    f"the data set has no split {missing[0]}, only {', '.join(data)}: pass one of them to take"
                )
            return datasets.DatasetDict(
                {
                    split: part.select(_rows(part, split, choice)) if split in splits else part
                    for split, part in data.items()
                }
            )
    if few_validation:
        raise SourceError("few_validation is for a DatasetDict with a split validation: take from that split directly")
    rows = _rows(data, str(getattr(data, "split", None) or "the split"), choice)
    return Arrays(data.images[rows], data.labels[rows]) if isinstance(data, Arrays) else data.select(rows)


def _rows(data: Any, split: str, choice: _Choice) -> Any:
    labels, names = read_names(data, "take")
    limits: dict[str, Any] = {"fraction": choice.fraction, "shots": choice.shots, "seed": choice.seed}
    group: IntArray | None = None
    if choice.by is not None:
        groups = read_column(data, choice.by, "give the name of a column")
        group = group_numbers(groups, len(labels))
        rows = np.flatnonzero(np.isin(group, choose_rows(labels_of_groups(labels, group), **limits)))
    else:
        rows = choose_rows(labels, **limits)
    if choice.shots is not None:
        warn_if_scarce(labels, choice.shots, names, split, group)
    return rows
