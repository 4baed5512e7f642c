"""The classes of several subsets as one list, and the way back to the classes of each.

Example:
    >>> from medmnist_hf.joint.labels import JointLabels
    >>> joint = JointLabels.of(["breastmnist", "pneumoniamnist"])
    >>> joint.names[2], joint.split(3)
    ('pneumoniamnist/normal', ('pneumoniamnist', 1))
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from medmnist_hf.array_types import BoolArray, IntArray
from medmnist_hf.catalog import ALL, Subset, Task, subset, subsets
from medmnist_hf.errors import CatalogError, shorten

ALL_OF: Final = {"all-2d": 2, "all-3d": 3}
"""Name that stands for several subsets -> dimensions of their images."""


@dataclass(frozen=True)
class JointLabels:
    """Global class ids over several subsets: the classes of a subset are consecutive, in the order of the subsets.

    Attributes:
        subsets: The subsets in order; their positions are the ids of the column ``subset``.
    """

    subsets: tuple[Subset, ...]

    def __post_init__(self) -> None:
        """Check the subsets.

        Raises:
            CatalogError: There are none, one is given twice, or they mix 2D images and volumes.
        """
        if not self.subsets:
            raise CatalogError(f"no subset is given: name one or more, or {' or '.join(ALL_OF)}")
        flags = [entry.flag for entry in self.subsets]
        if twice := next((flag for flag in flags if flags.count(flag) > 1), None):
            raise CatalogError(f"{twice} is given twice: give each subset once")
        first = self.subsets[0]
        if other := next((entry for entry in self.subsets if entry.ndim != first.ndim), None):
            flat, deep = (first, other) if first.ndim == 2 else (other, first)
            raise CatalogError(
                f"{flat.flag} has 2D images and {deep.flag} has volumes: combine subsets of one kind, "
                f"{' or '.join(ALL_OF)}"
            )

    @classmethod
    def of(cls, source: Any) -> "JointLabels":
        """The classes of named subsets, or of a data set of `medmnist_hf.load_many`.

        Args:
            source: Flags, in a sequence or separated by commas; ``all-2d`` or ``all-3d``; or a data set with the
                column ``subset``, or a dictionary of its splits.

        Raises:
            CatalogError: A flag is unknown, the subsets cannot be combined, or a data set has no such column.
        """
        if isinstance(source, Mapping):
            source = next(iter(source.values()))
        if not isinstance(source, str) and hasattr(source, "column_names"):
            names = getattr((source.features or {}).get("subset"), "names", None)
            if names is None:
                raise CatalogError("the data set has no column subset with the names of subsets: use load_many")
            source = names
        return cls(tuple(subset(str(name)) for name in expand_names(source)))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first global id of each subset, and the number of all classes."""
        return (0, *accumulate(len(entry.labels) for entry in self.subsets))

    @property
    def count(self) -> int:
        """Number of classes of all subsets."""
        return self.starts[-1]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all classes, indexed by global id, e.g. ``pathmnist/adipose``."""
        return tuple(f"{entry.flag}/{label}" for entry in self.subsets for label in entry.labels)

    @property
    def multi_label(self) -> bool:
        """Whether a row may have several classes, because a multi-label subset is among them."""
        return any(entry.task is Task.MULTI_LABEL for entry in self.subsets)

    def columns(self, flag: str) -> slice:
        """The global ids of a subset's classes, to slice the columns of scores.

        Raises:
            CatalogError: The subset is not among them.
        """
        flags = [entry.flag for entry in self.subsets]
        if flag not in flags:
            raise CatalogError(f"{shorten(flag)} is not among {', '.join(flags)}: name one of them")
        number = flags.index(flag)
        return slice(self.starts[number], self.starts[number + 1])

    @property
    def mask(self) -> BoolArray:
        """Which classes belong to each subset, shape ``(S, C)``: index it with the column ``subset`` for a loss."""
        owner = np.repeat(np.arange(len(self.subsets)), np.diff(self.starts))
        return np.asarray(np.arange(len(self.subsets))[:, None] == owner)

    def split(self, label: int) -> tuple[str, int]:
        """The flag of the subset and the class id within it of one global id.

        Raises:
            CatalogError: There is no such id.
        """
        numbers, local = self.split_all([label])
        return self.subsets[int(numbers[0])].flag, int(local[0])

    def split_all(self, labels: ArrayLike) -> tuple[IntArray, IntArray]:
        """The position of the subset and the class id within it of each global id.

        Args:
            labels: Global ids of any shape.

        Returns:
            Two arrays of that shape.

        Raises:
            CatalogError: There is no such id.
        """
        ids = np.asarray(labels)
        if ids.size and (ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= self.count):
            wrong = ids if ids.dtype.kind not in "iu" else ids[(ids < 0) | (ids >= self.count)]
            raise CatalogError(f"{wrong.flat[0]} is not a global id: they run from 0 to {self.count - 1}")
        ids = ids.astype(np.intp)
        numbers = np.searchsorted(self.starts, ids, side="right") - 1
        return numbers, ids - np.asarray(self.starts, np.intp)[numbers]


def expand_names(names: str | Path | Iterable[str | Path]) -> list[str | Path]:
    """The names in a sequence or in a text with commas, with ``all-2d`` and ``all-3d`` replaced by the flags.

    Raises:
        CatalogError: ``all`` is among them, which would mix 2D images and volumes.
    """
    parts = names.split(",") if isinstance(names, str) else [names] if isinstance(names, Path) else names
    expanded: list[str | Path] = []
    for part in parts:
        name = part.strip() if isinstance(part, str) else part
        if name == ALL:
            raise CatalogError(f"all would mix 2D images and volumes: choose {' or '.join(ALL_OF)}")
        ndim = ALL_OF.get(name.lower()) if isinstance(name, str) else None
        expanded += [name] if ndim is None else [entry.flag for entry in subsets() if entry.ndim == ndim]
    return expanded
