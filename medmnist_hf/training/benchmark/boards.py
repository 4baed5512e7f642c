"""All runs below a folder as boards: means over seeds, intervals, and places among the published rows.

A board is of one subset and one provenance: runs on verified data stand among the published rows, and those on
synthetic or unverified data have boards of their own, without places.

A configuration is a recipe apart from its seeds, on the same data. Runs of one configuration in several folders, each
with seeds of its own, are one row over all their seeds. Where a seed was run twice they stay apart, as a mean over
both would count it twice. So does a run with a seed that is partial or missing: it counts in no mean, and the whole
runs are as good without it.

A score of several seeds is their mean, with their sample standard deviation. Its 95 % interval goes from the mean of
the lower to the mean of the upper ends of the seeds' own intervals. That is the interval of one run of the
configuration: what another test set of the same size may change. All seeds are scored on the same test rows, so more
seeds make it no narrower; for the mean itself it is a little too wide. What another seed may change is the deviation.
"""

import contextlib
import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from medmnist_hf.catalog import Subset, subsets
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.published import LeaderboardRow, leaderboard, published_notes, published_size
from medmnist_hf.training.benchmark.links import Link, links_of
from medmnist_hf.training.recipe import FIELDS, NOT_TRAINED, Recipe, make_recipe, presets, without_options
from medmnist_hf.training.registry import method
from medmnist_hf.training.results import RESULTS_NAME, Measures, RunResult, SeedResult, read_results

_IN_COLUMNS: Final = ("dataset", "size", "model", "method", "seeds", "report_to")
_OF_THE_DATA: Final = ("root", "repository", "revision")

_Configuration = tuple[Recipe, Provenance, str]
"""A recipe without what is in `NOT_TRAINED`, and provenance and MD5 of the data that it was run on."""


@dataclass(frozen=True, slots=True)
class BoardScore:
    """AUC or ACC of a configuration, 0 to 1; nan where a number is not known.

    Attributes:
        mean: Mean over the seeds.
        std: Sample standard deviation over the seeds; nan for one seed.
        low: Lower end of the 95 % interval, see the module.
        high: Its upper end.
        method: How the seeds' intervals were made, see `medmnist_hf.scoring.intervals`; empty without them.
    """

    mean: float
    std: float = math.nan
    low: float = math.nan
    high: float = math.nan
    method: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a board: a configuration, or a published result, of which only scores and size are known.

    Attributes:
        place: Place by test AUC among the published rows and itself, see `medmnist_hf.scoring.published.rank`. None
            where the AUC is not known or nothing is published, on data that is not verified, and of a partial run.
        own: It is no published result.
        chosen: It is the one that `best_on_validation` gives for its board.
        model: Name of the model; of a published result, the method as published.
        method: Name of the method.
        size: Size of the images that were read, in pixels or voxels.
        protocol: What else the recipe says, see `protocol`.
        seeds: The seeds.
        partial: Seeds without a whole result: their search was interrupted, or they were not run.
        test_rows: Rows of the test split that was read; None of a published result.
        validation_auc: AUC on validation.
        validation_acc: ACC on validation.
        auc: AUC on test.
        acc: ACC on test.
        parameters: Parameters of the model; None where not known.
        trained_parameters: Those that were trained.
        seconds: Mean time of a seed; nan where not known.
        hardware: What its seeds ran on.
        folder: The run's folder, below the one that was read; of several runs all, in the order of their seeds.
        links: What each run left there, its folder first, with addresses from the folder that was read.
    """

    place: int | None = None
    own: bool
    chosen: bool = False
    model: str
    method: str = ""
    size: int
    protocol: str = ""
    seeds: tuple[int, ...] = ()
    partial: tuple[int, ...] = ()
    test_rows: int | None = None
    validation_auc: BoardScore = BoardScore(math.nan)
    validation_acc: BoardScore = BoardScore(math.nan)
    auc: BoardScore
    acc: BoardScore
    parameters: int | None = None
    trained_parameters: int | None = None
    seconds: float = math.nan
    hardware: str = ""
    folder: str = ""
    links: tuple[tuple[Link, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Board:
    """All that is known of one subset on data of one provenance.

    Attributes:
        subset: The subset.
        provenance: What the data of its runs is.
        rows: Configurations and, on verified data, published results by falling test AUC; last those without a place
            where others have one.
        chosen: The configuration that `best_on_validation` gives; None where none is whole, or where those of one size
            read different files.
        places: Number of places: the published results and one; 0 where there are none.
        tried: Number of configurations; fewer than own rows where runs of one stay apart.
        alike: Runs of one size read the same file; where they do not, what scored best is not known.
        notes: What must be known before comparing.
    """

    subset: Subset
    provenance: Provenance
    rows: tuple[Row, ...]
    chosen: Row | None
    places: int
    tried: int
    alike: bool
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the board is called: the subset, with the banner of its data before it."""
        return self.provenance.mark(self.subset.python_class)

    @property
    def own(self) -> tuple[Row, ...]:
        """The configurations, by place."""
        return tuple(row for row in self.rows if row.own)

    @property
    def published(self) -> tuple[Row, ...]:
        """The published results, by place; may be empty."""
        return tuple(row for row in self.rows if not row.own)


def gather(folder: Path) -> tuple[Board, ...]:
    """Boards of all runs below a folder: on verified data first, each kind in the order of the catalogue.

    Args:
        folder: Where the runs lie, at any depth.

    Raises:
        TrainingError: A file of results is damaged.
    """
    paths = sorted(folder.rglob(RESULTS_NAME))
    results = {path.parent.relative_to(folder).as_posix(): read_results(path) for path in paths}
    sources = {tuple(getattr(one.recipe, name) for name in _OF_THE_DATA) for one in results.values()}
    hidden = _IN_COLUMNS if len(sources) > 1 else _IN_COLUMNS + _OF_THE_DATA
    links = {name: links_of(result, folder / name, folder) for name, result in results.items()}
    rows: dict[tuple[Provenance, str], list[list[Row]]] = {}
    files: dict[tuple[Provenance, str], set[tuple[int, str]]] = {}
    for (recipe, provenance, md5), runs in _by_configuration(results).items():
        key = (provenance, recipe.dataset)
        found = [replace(_row(part, hidden), links=tuple(links[name] for name in part)) for part in _parts(runs)]
        rows.setdefault(key, []).append(found)
        files.setdefault(key, set()).add((recipe.size, md5))
    keys = ((provenance, entry) for provenance in Provenance for entry in subsets())
    return tuple(
        _board(entry, kind, rows[kind, entry.flag], files[kind, entry.flag])
        for kind, entry in keys
        if (kind, entry.flag) in rows
    )


def _by_configuration(results: Mapping[str, RunResult]) -> dict[_Configuration, dict[str, RunResult]]:
    """Configuration -> its runs by folder, in the order of their seeds."""
    groups: dict[_Configuration, dict[str, RunResult]] = {}
    for name, result in sorted(results.items(), key=lambda item: (min(one.seed for one in item[1].seeds), item[0])):
        configuration = (without_options(result.recipe, NOT_TRAINED), result.provenance, result.data.source.md5)
        groups.setdefault(configuration, {})[name] = result
    return groups


def _parts(runs: Mapping[str, RunResult]) -> list[dict[str, RunResult]]:
    """The runs of one configuration by row: all whole ones, unless a seed was run twice, and each partial one."""
    whole = {name: result for name, result in runs.items() if not result.partial}
    seeds = Counter(one.seed for result in whole.values() for one in result.seeds)
    parts = [whole] if whole and max(seeds.values()) == 1 else [{name: result} for name, result in whole.items()]
    return parts + [{name: result} for name, result in runs.items() if name not in whole]


def best_on_validation(rows: Sequence[Row]) -> Row | None:
    """Of some configurations the one with the best validation AUC, then ACC; the first of equals.

    Those that were scored on test come before those that were not: these are tried, but chosen is what was tested.
    A partial one is never chosen: had its search gone on, it would be another.
    """

    def worth(row: Row) -> tuple[float, ...]:
        found = (-1.0 if math.isnan(one.mean) else one.mean for one in (row.validation_auc, row.validation_acc))
        return float(not math.isnan(row.auc.mean)), *found

    return max((row for row in rows if not row.partial), key=worth, default=None)


def protocol(recipe: Recipe, hidden: Sequence[str] = _IN_COLUMNS + _OF_THE_DATA) -> str:
    """A recipe in few words: the preset that it is nearest to, or none, and where it differs.

    Presets of an AutoML engine count for that engine alone.

    Args:
        recipe: The recipe.
        hidden: Fields that are described elsewhere.
    """
    best = ""
    fewest = math.inf
    for name, base in _bases(recipe.dataset).items():
        if method(base.method).engine and base.method != recipe.method:
            continue
        values = {field: getattr(recipe, field) for field in FIELDS if field not in hidden}
        other = [f"{field} {value}" for field, value in values.items() if value != getattr(base, field)]
        if len(other) < fewest:
            best, fewest = ", ".join([name, *other]), len(other)
    return best


@cache
def _bases(flag: str) -> dict[str, Recipe]:
    """Name of a preset, or ``defaults`` -> its recipe for a subset."""
    bases = {"defaults": make_recipe({"dataset": flag})}
    for name in presets():
        with contextlib.suppress(MedMNISTError):  # it is not for this subset
            bases[name] = make_recipe({"dataset": flag}, preset=name)
    return bases


def _row(runs: Mapping[str, RunResult], hidden: Sequence[str]) -> Row:
    """The row of some runs by folder, as `_parts` gives them."""
    results = list(runs.values())
    recipe, hardware = results[0].recipe, {seed.seed: one.hardware for one in results for seed in one.seeds}
    seeds = sorted((seed for one in results for seed in one.seeds), key=lambda one: one.seed)
    facts = [seed.facts for seed in seeds]
    seconds = [one.seconds for one in facts if one.seconds is not None]
    validation, test = [seed.validation for seed in seeds], [seed.test for seed in seeds]
    return Row(
        own=True,
        model=recipe.model,
        method=recipe.method,
        size=recipe.size,
        protocol=protocol(recipe, hidden),
        seeds=tuple(seed.seed for seed in seeds),
        partial=tuple(sorted(seed for one in results for seed in one.partial)),
        test_rows=results[0].data.rows["test"],
        validation_auc=_score(validation, "auc"),
        validation_acc=_score(validation, "acc"),
        auc=replace(_score(test, "auc"), method=_method(seeds, "auc")),
        acc=replace(_score(test, "acc"), method=_method(seeds, "acc")),
        parameters=_same([one.parameters for one in facts]),
        trained_parameters=_same([one.trained_parameters for one in facts]),
        seconds=statistics.fmean(seconds) if seconds else math.nan,
        hardware="; ".join(dict.fromkeys(str(one.facts.hardware or hardware[one.seed]) for one in seeds)),
        folder="; ".join(runs),
    )


def _same(values: Sequence[int | None]) -> int | None:
    """What all seeds report; None where they differ, as found networks may."""
    return values[0] if len(set(values)) == 1 else None


def _method(seeds: Sequence[SeedResult], name: str) -> str:
    """How the intervals of a measure were made."""
    return ", ".join(dict.fromkeys(seed.intervals[name] for seed in seeds if name in seed.intervals))


def _score(seeds: Sequence[Measures[float]], name: str) -> BoardScore:
    def values(key: str) -> list[float]:
        return [one.get(key, math.nan) for one in seeds]

    mean, low, high = (statistics.fmean(values(key)) for key in (name, f"{name}_low", f"{name}_high"))
    several = len(seeds) > 1 and not math.isnan(mean)
    return BoardScore(mean, statistics.stdev(values(name)) if several else math.nan, low, high)


def _board(
    entry: Subset,
    provenance: Provenance,
    configurations: Sequence[Sequence[Row]],
    files: Collection[tuple[int, str]],
) -> Board:
    """The board of some configurations, each with a row or several, see `_parts`.

    Sizes and MD5 of the files that they read are given, too.
    """
    own = [row for rows in configurations for row in rows]
    are_alike = len(files) == len({size for size, _ in files})
    best = best_on_validation(own) if are_alike else None
    by_folder = {row.folder: row for row in own}
    scores = [(row.folder, row.auc.mean, row.acc.mean) for row in own]
    rows = []
    for line in leaderboard(entry.flag, scores, provenance=provenance):
        row = by_folder[line.name] if line.own else _published(line)
        rows.append(replace(row, place=None if row.partial else line.auc_rank, chosen=row is best))
    rows.sort(key=lambda row: row.place is None)
    published = len(rows) - len(own)
    notes = [note for rows in configurations for note in _why_apart(rows)]
    notes += published_notes(entry.flag) if published else []
    others = sorted({row.size for row in own} - {published_size()})
    if others and published:
        sizes = " and ".join(map(str, others))
        notes.insert(
            0, f"Published rows are of the files of size {published_size()}; rows of size {sizes} read others."
        )
    if not are_alike:
        notes.insert(0, "Runs of one size read different files: none is chosen, and their order compares no models.")
    chosen = next((row for row in rows if row.chosen), None)
    places = published + 1 if published else 0
    return Board(entry, provenance, tuple(rows), chosen, places, len(configurations), are_alike, tuple(notes))


def _why_apart(rows: Sequence[Row]) -> Iterator[str]:
    """Why a configuration has several rows."""
    about = f"{rows[0].model} {rows[0].method}, {rows[0].protocol}: runs of this configuration"
    whole, partial = ([row.folder for row in rows if bool(row.partial) is cut] for cut in (False, True))
    if len(whole) > 1:
        yield (
            f"{about} share a seed, so each has a line of its own and no mean is taken over them ({', '.join(whole)})."
        )
    if partial and len(rows) > 1:
        yield (
            f"{about} with a seed that is partial or missing have a line of their own and count in no mean of others "
            f"({', '.join(partial)})."
        )


def _published(line: LeaderboardRow) -> Row:
    return Row(own=False, model=line.name, size=published_size(), auc=BoardScore(line.auc), acc=BoardScore(line.acc))
