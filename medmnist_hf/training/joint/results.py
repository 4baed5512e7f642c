"""The scores of a run on several subsets, as typed records and as the JSON files of the run: each subset and the mean.

They are written under the names of `medmnist_hf.training.results`, and numbers have the same form.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from medmnist_hf.documents import parse_json
from medmnist_hf.errors import TrainingError
from medmnist_hf.training.recipe import Recipe, make_recipe
from medmnist_hf.training.results import (
    HEADLINE,
    SEED_RESULT_NAME,
    EnsembleResult,
    Facts,
    Measures,
    Score,
    SeedNumber,
    SeedResult,
    Spread,
    check_data,
    intact,
    read_file,
)
from medmnist_hf.typed_json import IN_FILE, decode, encode, text_of

_NAMES: Final = ("dataset", "size", "model", "method")
"""The first keys of ``results.json``."""

_Scored = TypeVar("_Scored", SeedResult, EnsembleResult)


@dataclass(frozen=True, slots=True)
class JointSeed:
    """The result of one seed.

    Attributes:
        seed: The seed.
        validation: Unweighted means of AUC and ACC over the subsets; nan if that of a subset is.
        test: The same on test; empty if test was not scored.
        subsets: Flag -> result of the subset among its own classes, without facts.
        facts: Further values that the method reports.
    """

    seed: SeedNumber
    validation: Measures[Score]
    test: Measures[Score]
    subsets: dict[str, SeedResult]
    facts: Facts

    def to_json(self) -> str:
        """The text of ``result.json``."""
        return text_of(self)

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "JointSeed":
        """Read a ``result.json``; `where` is its name in an error message. Raises `TrainingError` if it is damaged."""
        with intact(where):
            result: JointSeed = decode(parse_json(text), cls)
        return result


@dataclass(frozen=True, slots=True)
class SubsetResult:
    """The results of all seeds on one subset, or the means over the subsets.

    Attributes:
        validation: Means over the seeds on validation.
        test: Means over the seeds on test; empty if test was not scored.
        ensemble: Result of the mean of the seeds' scores; None for a single seed.
    """

    validation: Measures[Spread]
    test: Measures[Spread]
    ensemble: EnsembleResult | None


@dataclass(frozen=True, slots=True)
class JointResult:
    """The results of all seeds of a run on several subsets.

    Attributes:
        recipe: The recipe of the run.
        mean: Unweighted means of AUC and ACC over the subsets.
        subsets: Flag -> the results of the subset.
        seeds: Results of the seeds, one or more.
    """

    recipe: Recipe
    mean: SubsetResult
    subsets: dict[str, SubsetResult]
    seeds: tuple[JointSeed, ...] = field(metadata={IN_FILE: "runs"})

    def __post_init__(self) -> None:
        flags = [entry.flag for entry in self.recipe.subsets]
        if not self.seeds:
            raise ValueError("runs is empty")
        for found in (list(self.subsets), *(list(seed.subsets) for seed in self.seeds)):
            if found != flags:
                raise ValueError(f"it has results of {', '.join(found)}, not of {', '.join(flags)}")
        for part in self.recipe.parts:
            check_data(part, [seed.subsets[part.dataset].data for seed in self.seeds])

    @property
    def partial(self) -> tuple[int, ...]:
        """Seeds of the recipe that are missing."""
        existing = {result.seed for result in self.seeds}
        return tuple(seed for seed in self.recipe.seeds if seed not in existing)

    def to_json(self) -> str:
        """The text of ``results.json``, which begins with a summary of the recipe."""
        return text_of({name: getattr(self.recipe, name) for name in _NAMES} | encode(self))

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "JointResult":
        """Read a ``results.json``; `where` is its name in messages. Raises `TrainingError` if it is damaged."""
        with intact(where):
            table = decode(parse_json(text), dict[str, Any])
            names = {name: table.pop(name, None) for name in _NAMES}
            recipe = make_recipe(decode(table.get("recipe"), dict[str, Any], "recipe"))
        if not recipe.is_joint:
            raise TrainingError(f"{where} is of a run on one subset: read it with read_results")
        with intact(where):
            result: JointResult = decode(table | {"recipe": recipe}, cls)
            if names != {name: getattr(recipe, name) for name in _NAMES}:
                raise ValueError(f"{', '.join(_NAMES)} do not match its recipe")
        return result


def read_joint_results(path: Path) -> JointResult:
    """Read the ``results.json`` of a run on several subsets.

    Raises:
        TrainingError: The file cannot be read or is damaged, or the run is on one subset.
    """
    return JointResult.from_json(read_file(path), str(path))


def read_joint_seed(folder: Path) -> JointSeed | None:
    """Read the result in the folder of a seed; None if it has none. Raises `TrainingError` as `read_joint_results`."""
    path = folder / SEED_RESULT_NAME
    return JointSeed.from_json(read_file(path), str(path)) if path.is_file() else None


def mean_of(results: Sequence[_Scored], split: Callable[[_Scored], Mapping[str, float]]) -> Measures[float]:
    """The unweighted means of AUC and ACC over the results of subsets; empty if the split was not scored."""
    tables = [split(result) for result in results]
    return Measures({name: float(np.mean([table[name] for table in tables])) for name in HEADLINE if tables[0]})
