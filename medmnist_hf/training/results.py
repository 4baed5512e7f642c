"""What the seeds of a run scored, as typed records and as the JSON files that hold them.

``result.json`` in the folder of a seed is a `SeedResult`, ``results.json`` in the folder of the run a `RunResult`.
Numbers that are not finite, such as the AUC of a class without samples, are null in a file and nan when it is read.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args

from medmnist_hf.data.configs import BuiltConfig
from medmnist_hf.documents import parse_json
from medmnist_hf.errors import MedMNISTError, TrainingError, cannot_read
from medmnist_hf.files import read_document, write_atomically
from medmnist_hf.manifest import Provenance, SourceRecord
from medmnist_hf.scoring.confidence import Method
from medmnist_hf.training.recipe import Recipe, make_recipe
from medmnist_hf.typed_json import IN_FILE, Bounds, Count, OneOf, attributes, decode, encode

SEED_RESULT_NAME: Final = "result.json"
"""The file of a seed's result; that it is there says that the seed is done."""

RESULTS_NAME: Final = "results.json"
"""The file of a run's results, which is there once all its seeds are done."""

HEADLINE: Final = ("auc", "acc")
"""The measures that every split has."""

PROVENANCE: Final = "provenance"
"""What the data was, in words, at the head of both files; what it follows from is recorded with each seed."""

_NAMES: Final = ("dataset", "size", "model", "method", PROVENANCE)
"""What ``results.json`` begins with."""

_Value = TypeVar("_Value")

Score = Annotated[float, Bounds(-100, 100)]
"""A measure: of those there are, the mean absolute error has the widest range, 0 to the number of grades."""

_Seconds = Annotated[float, Bounds(0, 1e12)]
_Seed = Annotated[int, Bounds(0, (1 << 32) - 1)]
_Method = Annotated[str, OneOf(*get_args(Method))]
_Logged = Annotated[float, Bounds(-1e39, 1e39)]
"""A value that is logged in training: a float32."""


class Measures(dict[str, _Value]):
    """Measures of a split by name: AUC, ACC and, of test, further ones; empty where the split was not scored.

    Of AUC and ACC on test the ends of 95 % intervals are there too, as ``{name}_low`` and ``{name}_high``.
    """

    __slots__ = ()

    def __init__(self, *values: Mapping[str, _Value], **named: _Value) -> None:
        super().__init__(*values, **named)
        if self and not self.keys() >= set(HEADLINE):
            raise ValueError(f"measures lack {' or '.join(HEADLINE)}")
        for name in HEADLINE if self else ():
            value: Any = self[name]
            mean = value.mean if isinstance(value, Spread) else value
            if not (math.isnan(mean) or 0 <= mean <= 1):
                raise ValueError(f"{name} is {mean}, must be from 0 to 1")

    @property
    def auc(self) -> _Value:
        """The AUC; raises a `KeyError` where the split was not scored."""
        return self["auc"]

    @property
    def acc(self) -> _Value:
        """The ACC; raises a `KeyError` where the split was not scored."""
        return self["acc"]


@dataclass(frozen=True, slots=True)
class DataRecord:
    """The data that a run read, as the manifest of its build says.

    Attributes:
        source: What the data was built from.
        rows: Split -> its rows.
    """

    source: SourceRecord
    rows: dict[str, Count]

    @classmethod
    def of(cls, config: BuiltConfig) -> "DataRecord":
        """The record of a config that is about to be read."""
        return cls(config.manifest.source, {name: split.rows for name, split in config.manifest.splits.items()})

    @property
    def provenance(self) -> Provenance:
        """What the data is."""
        return self.source.provenance

    def to_json(self) -> str:
        """The text of a file that holds this alone."""
        return _text({PROVENANCE: self.provenance} | encode(self))


@dataclass(frozen=True, slots=True)
class Spread:
    """A measure over the seeds, written as ``0.733 ± 0.012``; without a deviation as ``0.733``.

    Attributes:
        mean: Its mean; nan where a seed has no value.
        std: Its sample standard deviation; None for one seed, which has none, and where a seed has no value.
    """

    mean: Score
    std: Annotated[float, Bounds(0, 100)] | None

    def __str__(self) -> str:
        return digits(self.mean) + ("" if self.std is None else f" ± {digits(self.std)}")


@dataclass(frozen=True, slots=True)
class Rank:
    """Places of a run's means among the published results of its subset, see `medmnist_hf.scoring.published.stand`.

    Attributes:
        auc: Place by test AUC, 1 for the best.
        acc: Place by test ACC.
        of: Number of places.
    """

    auc: Count
    acc: Count
    of: Count


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a seed ran on, written as its GPUs or, without any, as its processor.

    Attributes:
        processor: Name of the processor.
        cores: Cores that could be used; None where the system does not say.
        gpus: Names of the GPUs.
    """

    processor: str
    cores: Count | None
    gpus: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(self.gpus) or f"{self.processor}, {self.cores} cores"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a method reports of a seed besides its scores; what it does not report is None or empty.

    Attributes:
        origin: What the network started from, in words.
        parameters: Number of the network's parameters.
        trained_parameters: Number of those that were trained.
        best_epoch: The epoch that was kept, 1 for the first.
        epochs: Number of epochs trained.
        history: Entries as `transformers.Trainer` logs them; a value that was not finite is nan.
        engine: Name and release of the AutoML engine.
        inputs: What the engine read, in words.
        trials: Number of configurations that it tried.
        search_seconds: Seconds that it searched.
        partial: How its search was interrupted, whose best so far this is.
        seconds: Seconds that the seed took.
        hardware: What the seed ran on.
        releases: Library -> its release.
        further: What only this method reports, by name, as JSON.
        names: Names of everything reported, in the order of the report.
    """

    origin: str = ""
    parameters: Count | None = None
    trained_parameters: Count | None = None
    best_epoch: Count | None = None
    epochs: Count | None = None
    history: tuple[dict[str, _Logged], ...] = ()
    engine: str = ""
    inputs: str = ""
    trials: Count | None = None
    search_seconds: _Seconds | None = None
    partial: str = ""
    seconds: _Seconds | None = None
    hardware: Hardware | None = None
    releases: dict[str, str] = field(default_factory=dict)
    further: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @classmethod
    def from_json_value(cls, report: Mapping[str, Any], where: str = "facts") -> "Facts":
        """Take a report apart.

        Args:
            report: What a method reports, by name.
            where: What to call the report in an error.

        Raises:
            ValueError: A value is of another type than its attribute.
        """
        report = decode(encode(report), dict[str, Any], where)
        types = {name: kind for name, (_, kind) in attributes(cls).items() if name not in {"further", "names"}}
        typed = {name: decode(report[name], types[name], f"{where}.{name}") for name in report if name in types}
        further = {name: value for name, value in report.items() if name not in types}
        return cls(**typed, further=further, names=tuple(report))

    def to_json_value(self) -> dict[str, Any]:
        """The report again, in its order."""
        return {name: self.further[name] if name in self.further else getattr(self, name) for name in self.names}


@dataclass(frozen=True, slots=True)
class EnsembleResult:
    """What the mean of the seeds' scores scored; attributes as those of `SeedResult`."""

    validation: Measures[Score]
    test: Measures[Score]
    per_class: dict[str, dict[str, Score]]
    intervals: dict[str, _Method] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What one seed scored.

    Attributes:
        seed: The seed.
        validation: AUC and ACC on validation, by which choices were made.
        test: Measures on test; empty if test was not scored.
        per_class: Name of a label -> its measures on test.
        facts: What the method reports besides.
        data: The data it was trained and scored on.
        intervals: Measure on test -> how its interval is made, see `medmnist_hf.scoring.intervals`.
    """

    seed: _Seed
    validation: Measures[Score]
    test: Measures[Score]
    per_class: dict[str, dict[str, Score]]
    facts: Facts
    data: DataRecord
    intervals: dict[str, _Method] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of ``result.json``, which begins with what the data was."""
        return _text({PROVENANCE: self.data.provenance} | encode(self))

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "SeedResult":
        """Read a ``result.json``.

        Args:
            text: Its content; bytes are UTF-8.
            where: What to call it in an error.

        Raises:
            TrainingError: It is damaged.
        """
        with _intact(where):
            table = decode(parse_json(text), dict[str, Any])
            provenance = table.pop(PROVENANCE, None)
            result: SeedResult = decode(table, cls)
            if provenance != result.data.provenance:
                raise ValueError(f"{PROVENANCE} is not that of its data")
        return result


@dataclass(frozen=True, slots=True)
class RunResult:
    """What all seeds of a run scored.

    Attributes:
        recipe: What was run.
        validation: Means over the seeds on validation.
        test: Means over the seeds on test; empty if test was not scored.
        rank: Place of the test scores among the published results; None where there are none, of data that is not
            verified, of a run that is not whole, and where a score is undefined.
        ensemble: What the mean of the seeds' scores scored; None for one seed.
        seeds: The seeds, one or more.
        hardware: What the last seed ran on.
        releases: Library -> its release, when the last seed ran.
    """

    recipe: Recipe
    validation: Measures[Spread]
    test: Measures[Spread]
    rank: Rank | None
    ensemble: EnsembleResult | None
    seeds: tuple[SeedResult, ...] = field(metadata={IN_FILE: "runs"})
    hardware: Hardware
    releases: dict[str, str]

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("runs is empty")
        source = self.data.source
        if any(seed.data != self.data for seed in self.seeds):
            raise ValueError("its seeds are of different data")
        if source.verified and (source.synthetic or source.md5 != self.recipe.subset.file(self.recipe.size).md5):
            raise ValueError("its data is called verified but is not the official file")

    @property
    def data(self) -> DataRecord:
        """The data of all seeds."""
        return self.seeds[0].data

    @property
    def provenance(self) -> Provenance:
        """What the data is."""
        return self.data.provenance

    @property
    def partial(self) -> tuple[int, ...]:
        """Seeds whose search was interrupted, and seeds of the recipe that are missing."""
        whole = {one.seed for one in self.seeds if not one.facts.partial}
        known = dict.fromkeys((*self.recipe.seeds, *(one.seed for one in self.seeds)))
        return tuple(seed for seed in known if seed not in whole)

    def to_json(self) -> str:
        """The text of ``results.json``, which names what was run, and on what data, also before the recipe."""
        return _text(_head(self) | encode(self))

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "RunResult":
        """Read a ``results.json``.

        Args:
            text: Its content; bytes are UTF-8.
            where: What to call it in an error.

        Raises:
            TrainingError: It is damaged.
        """
        with _intact(where):
            table = decode(parse_json(text), dict[str, Any])
            names = {name: table.pop(name) for name in _NAMES if name in table}
            recipe = make_recipe(decode(table.get("recipe"), dict[str, Any], "recipe"))
            result: RunResult = decode(table | {"recipe": recipe}, cls)
            if names != _head(result):
                raise ValueError(f"{', '.join(_NAMES)} are not those of its recipe and data")
        return result


def read_results(path: Path) -> RunResult:
    """The results of a run.

    Args:
        path: Its ``results.json``.

    Raises:
        TrainingError: The file cannot be read or is damaged.
    """
    return RunResult.from_json(_read(path), str(path))


def read_seed(folder: Path) -> SeedResult | None:
    """The result in the folder of a seed, which may be partial; None if there is none.

    Raises:
        TrainingError: The file cannot be read or is damaged.
    """
    path = folder / SEED_RESULT_NAME
    return SeedResult.from_json(_read(path), str(path)) if path.is_file() else None


def write_seed(folder: Path, result: SeedResult) -> None:
    """Write the result of a seed into its folder, which says that the seed is done."""
    write_atomically(folder / SEED_RESULT_NAME, result.to_json())


def check_whole(result: RunResult) -> None:
    """Raise a `TrainingError` if a seed of a run is partial: its results are kept, but the run is not done."""
    partial = [f"seed {one.seed} {one.facts.partial}" for one in result.seeds if one.facts.partial]
    if partial:
        raise TrainingError(f"results are partial ({'; '.join(partial)}): run the same command again to go on")


def digits(value: float) -> str:
    """A measure to three decimals; a dash where it is undefined."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def _head(result: RunResult) -> dict[str, Any]:
    return {name: getattr(result if name == PROVENANCE else result.recipe, name) for name in _NAMES}


def _read(path: Path) -> bytes:
    try:
        return read_document(path)
    except OSError as error:
        raise TrainingError(cannot_read(path, error, "remove it and run again")) from None


def _text(value: object) -> str:
    return json.dumps(encode(value), indent=2, allow_nan=False) + "\n"


@contextlib.contextmanager
def _intact(where: str) -> Iterator[None]:
    """Raise a `TrainingError` of one line where a file cannot be decoded."""
    try:
        yield
    except (ValueError, MedMNISTError) as error:
        raise TrainingError(f"{where} is damaged ({error}): remove it and run again") from None
