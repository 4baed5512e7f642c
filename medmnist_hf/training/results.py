"""The scores of a run and its seeds, as typed records and as JSON files.

``result.json`` in the folder of a seed holds a `SeedResult`, ``results.json`` in the folder of the run a `RunResult`.
Numbers that are not finite, such as the AUC of a class without samples, are null in the file and nan in memory.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_args

from medmnist_hf.data.configs import BuiltConfig
from medmnist_hf.documents import parse_json
from medmnist_hf.errors import MedMNISTError, TrainingError, cannot_read, counted
from medmnist_hf.files import read_document
from medmnist_hf.leaderboard.protocols import OFFICIAL
from medmnist_hf.manifest import Provenance, SourceRecord
from medmnist_hf.sampling.rows import ChosenRows
from medmnist_hf.scoring.confidence import Method
from medmnist_hf.training.recipe import Recipe, make_recipe
from medmnist_hf.typed_json import IN_FILE, Bounds, Count, OneOf, attributes, decode, encode, text_of

SEED_RESULT_NAME: Final = "result.json"
"""File of a seed's result; it exists once the seed is finished."""

RESULTS_NAME: Final = "results.json"
"""File of a run's results; it exists once all seeds are finished."""

HEADLINE: Final = ("auc", "acc")
"""The measures that every scored split has."""

PROVENANCE: Final = "provenance"
"""Key of the data's provenance at the head of both files; the facts it is derived from are recorded with each seed."""

_NAMES: Final = ("dataset", "size", "model", "method", PROVENANCE)
"""The first keys of ``results.json``."""

_Value = TypeVar("_Value")

Score = Annotated[float, Bounds(-100, 100)]
"""A measure; the widest range is that of the mean absolute error, 0 to the number of grades."""

_Seconds = Annotated[float, Bounds(0, 1e12)]
SeedNumber = Annotated[int, Bounds(0, (1 << 32) - 1)]
_Method = Annotated[str, OneOf(*get_args(Method))]
_Logged = Annotated[float, Bounds(-1e39, 1e39)]  # float32


class Measures(dict[str, _Value]):
    """Measures of a split by name: AUC, ACC and, for test, further ones; empty if the split was not scored.

    For test, the bounds of the 95 % intervals of AUC and ACC are included as ``{name}_low`` and ``{name}_high``.
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
        """The AUC. Raises `KeyError` if the split was not scored."""
        return self["auc"]

    @property
    def acc(self) -> _Value:
        """The ACC. Raises `KeyError` if the split was not scored."""
        return self["acc"]


@dataclass(frozen=True, slots=True)
class DataRecord:
    """The data of a run, according to the manifest of its build.

    Attributes:
        source: The file that the data was built from.
        rows: Split -> number of rows.
        chosen: Split -> the rows used, if only some of them were.
    """

    source: SourceRecord
    rows: dict[str, Count]
    chosen: dict[str, ChosenRows] = field(default_factory=dict)

    @classmethod
    def of(cls, config: BuiltConfig) -> "DataRecord":
        """The record of a built config."""
        return cls(config.manifest.source, {name: split.rows for name, split in config.manifest.splits.items()})

    @property
    def provenance(self) -> Provenance:
        """Provenance of the data."""
        return self.source.provenance

    @property
    def identity(self) -> tuple[Provenance, str]:
        """Provenance and MD5 of the source: equal for equal data, wherever its file was read from."""
        return self.provenance, self.source.md5

    def to_json(self) -> str:
        """The text of ``data.json``."""
        return text_of({PROVENANCE: self.provenance} | encode(self))


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation of a measure over the seeds, written as ``0.733 ± 0.012``; for one seed ``0.733``.

    Attributes:
        mean: Mean; nan if the value of a seed is nan.
        std: Sample standard deviation; None for a single seed or if the value of a seed is nan.
    """

    mean: Score
    std: Annotated[float, Bounds(0, 100)] | None

    def __str__(self) -> str:
        return digits(self.mean) + ("" if self.std is None else f" ± {digits(self.std)}")


@dataclass(frozen=True, slots=True)
class Rank:
    """Ranks of a run's means among the published results of its protocol, see `medmnist_hf.training.standing`.

    Attributes:
        auc: Rank by test AUC, 1 for the best.
        acc: Rank by test ACC.
        of: Number of results that are ranked, this one included.
        protocol: Name of the protocol, see `medmnist_hf.leaderboard.protocols`.
    """

    auc: Count
    acc: Count
    of: Count
    protocol: str = OFFICIAL


@dataclass(frozen=True, slots=True)
class Hardware:
    """The hardware a seed ran on, written as its GPUs or, without a GPU, as its processor.

    Attributes:
        processor: Name of the processor.
        cores: Number of usable cores; None if unknown.
        gpus: Names of the GPUs.
    """

    processor: str
    cores: Count | None
    gpus: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(self.gpus or (self.processor, *([counted(self.cores, "core")] if self.cores else [])))


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a method reports for a seed in addition to the scores; values that it does not report are None or empty.

    Attributes:
        origin: Description of the initial weights.
        image_size: Size of the network's input.
        parameters: Number of parameters of the network.
        trained_parameters: Number of trained parameters.
        best_epoch: The selected epoch, counted from 1.
        epochs: Number of epochs trained.
        history: Log entries of `transformers.Trainer`; values that were not finite are nan.
        engine: Name and version of the AutoML engine.
        inputs: Description of the engine's inputs.
        trials: Number of configurations tried.
        search_seconds: Duration of the search in seconds.
        partial: How the search was interrupted, if it was; the scores are then those of the best model so far.
        seconds: Duration of the seed in seconds.
        hardware: The hardware the seed ran on.
        releases: Library -> version.
        further: Values that only this method reports, by name, as JSON.
        names: Names of all reported values, in order.
    """

    origin: str = ""
    image_size: Count | None = None
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
        """Parse a report.

        Args:
            report: Reported values by name.
            where: Name of the report in an error message.

        Raises:
            ValueError: A value does not have the type of its attribute.
        """
        report = decode(encode(report), dict[str, Any], where)
        types = {name: kind for name, (_, kind) in attributes(cls).items() if name not in {"further", "names"}}
        typed = {name: decode(report[name], types[name], f"{where}.{name}") for name in report if name in types}
        further = {name: value for name, value in report.items() if name not in types}
        return cls(**typed, further=further, names=tuple(report))

    def to_json_value(self) -> dict[str, Any]:
        """The report as it was given, in its order."""
        return {name: self.further[name] if name in self.further else getattr(self, name) for name in self.names}


@dataclass(frozen=True, slots=True)
class EnsembleResult:
    """Measures of the ensemble, the mean of the seeds' scores; attributes as in `SeedResult`."""

    validation: Measures[Score]
    test: Measures[Score]
    per_class: dict[str, dict[str, Score]]
    intervals: dict[str, _Method] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SeedResult:
    """The result of one seed.

    Attributes:
        seed: The seed.
        validation: AUC and ACC on validation, used for selection.
        test: Measures on test; empty if test was not scored.
        per_class: Label -> its measures on test.
        facts: Further values that the method reports.
        data: The data used for training and scoring.
        intervals: Measure on test -> method of its confidence interval, see `medmnist_hf.scoring.intervals`.
    """

    seed: SeedNumber
    validation: Measures[Score]
    test: Measures[Score]
    per_class: dict[str, dict[str, Score]]
    facts: Facts
    data: DataRecord
    intervals: dict[str, _Method] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of ``result.json``, which begins with the data's provenance."""
        return text_of({PROVENANCE: self.data.provenance} | encode(self))

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "SeedResult":
        """Read a ``result.json``.

        Args:
            text: Content of the file; bytes are UTF-8.
            where: Name of the file in an error message.

        Raises:
            TrainingError: The file is damaged.
        """
        with intact(where):
            table = decode(parse_json(text), dict[str, Any])
            provenance = table.pop(PROVENANCE, None)
            result: SeedResult = decode(table, cls)
            if provenance != result.data.provenance:
                raise ValueError(f"{PROVENANCE} does not match its data")
        return result


def check_data(recipe: Recipe, data: Sequence[DataRecord]) -> None:
    """Check the data of the seeds on a subset. Raises `ValueError` if it differs, or is wrongly marked as verified."""
    source = data[0].source
    if any((record.identity, record.rows) != (data[0].identity, data[0].rows) for record in data):
        raise ValueError("its seeds were run on different data")
    if source.verified and (source.synthetic or source.md5 != recipe.subset.file(recipe.size).md5):
        raise ValueError("its data is marked verified but is not the official file")


@dataclass(frozen=True, slots=True)
class RunResult:
    """The results of all seeds of a run.

    Attributes:
        recipe: The recipe of the run.
        validation: Means over the seeds on validation.
        test: Means over the seeds on test; empty if test was not scored.
        rank: Ranks of the test scores among the published results of its protocol. None without published results, if
            the data is not verified, if the run is incomplete, or if a score is undefined.
        ensemble: Result of the mean of the seeds' scores; None for a single seed.
        seeds: Results of the seeds, one or more.
        hardware: The hardware the last seed ran on.
        releases: Library -> version with which the last seed ran.
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
        check_data(self.recipe, [seed.data for seed in self.seeds])

    @property
    def data(self) -> DataRecord:
        """The data, which is the same for all seeds."""
        return self.seeds[0].data

    @property
    def provenance(self) -> Provenance:
        """Provenance of the data."""
        return self.data.provenance

    @property
    def partial(self) -> tuple[int, ...]:
        """Seeds whose search was interrupted, and seeds of the recipe that are missing."""
        complete = {result.seed for result in self.seeds if not result.facts.partial}
        seeds = dict.fromkeys((*self.recipe.seeds, *(result.seed for result in self.seeds)))
        return tuple(seed for seed in seeds if seed not in complete)

    def to_json(self) -> str:
        """The text of ``results.json``, which begins with a summary of recipe and data."""
        return text_of(_head(self) | encode(self))

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "RunResult":
        """Read a ``results.json``.

        Args:
            text: Content of the file; bytes are UTF-8.
            where: Name of the file in an error message.

        Raises:
            TrainingError: The file is damaged.
        """
        with intact(where):
            table = decode(parse_json(text), dict[str, Any])
            names = {name: table.pop(name) for name in _NAMES if name in table}
            recipe = make_recipe(decode(table.get("recipe"), dict[str, Any], "recipe"))
        if recipe.is_joint:
            raise TrainingError(f"{where} is of a run on several subsets, and only one is read here: name another run")
        with intact(where):
            result: RunResult = decode(table | {"recipe": recipe}, cls)
            if names != _head(result):
                raise ValueError(f"{', '.join(_NAMES)} do not match its recipe and data")
        return result


def read_results(path: Path) -> RunResult:
    """Read the results of a run.

    Args:
        path: The ``results.json`` of the run.

    Raises:
        TrainingError: The file cannot be read or is damaged.
    """
    return RunResult.from_json(read_file(path), str(path))


def read_seed(folder: Path) -> SeedResult | None:
    """Read the result in the folder of a seed, which may be partial; None if it has none.

    Raises:
        TrainingError: The file cannot be read or is damaged.
    """
    path = folder / SEED_RESULT_NAME
    return SeedResult.from_json(read_file(path), str(path)) if path.is_file() else None


def check_complete(result: RunResult) -> None:
    """Raise a `TrainingError` if a seed is partial: its results are kept, but the run is not finished."""
    if partial := [f"seed {seed.seed} {seed.facts.partial}" for seed in result.seeds if seed.facts.partial]:
        raise TrainingError(f"results are partial ({'; '.join(partial)}): run the same command again to resume")


def digits(value: float) -> str:
    """Format a measure with three decimals, or as a dash if it is undefined."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def _head(result: RunResult) -> dict[str, Any]:
    return {name: getattr(result if name == PROVENANCE else result.recipe, name) for name in _NAMES}


def read_file(path: Path) -> bytes:
    """The content of a file of results. Raises `TrainingError` if it cannot be read."""
    try:
        return read_document(path)
    except OSError as error:
        raise TrainingError(cannot_read(path, error, "remove it and run again")) from None


@contextlib.contextmanager
def intact(where: str) -> Iterator[None]:
    """Turn decoding errors into a `TrainingError` of one line."""
    try:
        yield
    except (ValueError, MedMNISTError) as error:
        raise TrainingError(f"{where} is damaged ({error}): remove it and run again") from None
