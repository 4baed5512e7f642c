"""Collect all runs below a folder into boards: means over seeds, intervals, and places among the published rows.

There is one board per subset, provenance and number of labels. A run on verified data and all train rows is ranked
among the published rows of its protocol, see `medmnist_hf.leaderboard`; runs on synthetic or unverified data, or on
few labels, have separate boards without places.

A configuration is a recipe without its seeds, on the same data. Runs of a configuration in several folders, each with
other seeds, form one row over all seeds. If a seed was run twice, each run has its own row, because a mean would count
the seed twice. A run with a partial or missing seed also has its own row and is not part of any mean.

The score of several seeds is their mean, with their sample standard deviation. Its 95 % interval ranges from the mean
of the lower ends to the mean of the upper ends of the seeds' intervals. It is the interval of a single run: how much
another test set of the same size may change the score. All seeds are scored on the same test rows, so more seeds do
not narrow it; for the mean over seeds it is slightly too wide. The variation between seeds is the standard deviation.
"""

import contextlib
import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

from medmnist_hf.catalog import entries, subset
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.leaderboard.board import Line, OwnResult, leaderboard
from medmnist_hf.leaderboard.terminal import board_notes
from medmnist_hf.leaderboard.uncertainty import interval_standard_error, with_seeds
from medmnist_hf.manifest import Provenance
from medmnist_hf.own_code.names import public_code
from medmnist_hf.training.benchmark.links import links_of
from medmnist_hf.training.benchmark.rows import Board, BoardScore, Row, best_on_validation
from medmnist_hf.training.recipe import FIELDS, NOT_TRAINED, Recipe, make_recipe, presets, without_options
from medmnist_hf.training.registry import method
from medmnist_hf.training.report.publishable import selection_score
from medmnist_hf.training.results import RESULTS_NAME, Measures, RunResult, SeedResult, read_results
from medmnist_hf.training.standing import protocol_of

_IN_COLUMNS: Final = ("dataset", "size", "model", "method", "seeds", "report_to")
_OF_THE_DATA: Final = ("root", "repository", "revision")

_Configuration = tuple[Recipe, tuple[Provenance, str]]
"""A recipe without the fields in `NOT_TRAINED`, and the provenance and MD5 of its data."""


def gather(folder: Path) -> tuple[Board, ...]:
    """Collect all runs below a folder into boards: verified data first, then as in the catalog, then all labels first.

    Args:
        folder: Folder of the runs, which may be nested at any depth.

    Raises:
        TrainingError: A file of results is damaged.
    """
    paths = sorted(folder.rglob(RESULTS_NAME))
    results = {path.parent.relative_to(folder).as_posix(): read_results(path) for path in paths}
    sources = {tuple(getattr(result.recipe, name) for name in _OF_THE_DATA) for result in results.values()}
    hidden = _IN_COLUMNS if len(sources) > 1 else _IN_COLUMNS + _OF_THE_DATA
    links = {name: links_of(result, folder / name, folder) for name, result in results.items()}
    rows: dict[tuple[Provenance, str, str], list[list[Row]]] = {}
    files: dict[tuple[Provenance, str, str], set[tuple[int, str]]] = {}
    for (recipe, (provenance, md5)), runs in _by_configuration(results).items():
        key = (provenance, recipe.dataset, _labels_used(recipe))
        parts = [replace(_row(part, hidden), links=tuple(links[name] for name in part)) for part in _parts(runs)]
        rows.setdefault(key, []).append(parts)
        files.setdefault(key, set()).add((recipe.size, md5))
    used = sorted({labels for _, _, labels in rows}, key=_most_first)
    keys = ((kind, entry.flag, labels) for kind in Provenance for entry in entries() for labels in used)
    return tuple(_board(*key, rows[key], files[key]) for key in keys if key in rows)


def _labels_used(recipe: Recipe) -> str:
    """The labels that a recipe uses, if not all; runs that differ in them are not compared."""
    if not recipe.few_labels or not recipe.few_validation:
        return recipe.few_labels
    chosen = "" if recipe.label_seed is None else f", label_seed {recipe.label_seed}"
    return f"{recipe.few_labels}, few_validation{chosen}"


def _most_first(labels: str) -> tuple[str, float, str]:
    """Sort key of the labels used: all, then fractions and shots, each from many to few."""
    kind, _, rest = labels.partition(" ")
    return kind, -float(rest.split(",")[0] or 0), rest


def _by_configuration(results: Mapping[str, RunResult]) -> dict[_Configuration, dict[str, RunResult]]:
    """Group runs by configuration; the runs of each are keyed by folder, in the order of their seeds."""
    groups: dict[_Configuration, dict[str, RunResult]] = {}
    for name, result in sorted(results.items(), key=lambda item: (min(seed.seed for seed in item[1].seeds), item[0])):
        configuration = (without_options(result.recipe, NOT_TRAINED), result.data.identity)
        groups.setdefault(configuration, {})[name] = result
    return groups


def _parts(runs: Mapping[str, RunResult]) -> list[dict[str, RunResult]]:
    """Split the runs of a configuration into rows: complete runs share one, unless a seed was run twice."""
    whole = {name: result for name, result in runs.items() if not result.partial}
    seeds = Counter(seed.seed for result in whole.values() for seed in result.seeds)
    parts = [whole] if whole and max(seeds.values()) == 1 else [{name: result} for name, result in whole.items()]
    return parts + [{name: result} for name, result in runs.items() if name not in whole]


def protocol(recipe: Recipe, hidden: Sequence[str] = _IN_COLUMNS + _OF_THE_DATA) -> str:
    """Describe a recipe by its nearest preset, or the defaults, and the options that differ.

    Presets of an AutoML engine are considered for that engine only.

    Args:
        recipe: The recipe.
        hidden: Fields to leave out, because they are described elsewhere.
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
    """Recipes for a subset by name of preset, and ``defaults``."""
    bases = {"defaults": make_recipe({"dataset": flag})}
    for name in presets():
        with contextlib.suppress(MedMNISTError):  # the preset does not suit this subset
            bases[name] = make_recipe({"dataset": flag}, preset=name)
    return bases


def _row(runs: Mapping[str, RunResult], hidden: Sequence[str]) -> Row:
    """Create the row of the runs of one of `_parts`, given by folder."""
    results = list(runs.values())
    recipe = results[0].recipe
    hardware = {seed.seed: result.hardware for result in results for seed in result.seeds}
    seeds = sorted((seed for result in results for seed in result.seeds), key=lambda seed: seed.seed)
    facts = [seed.facts for seed in seeds]
    seconds = [fact.seconds for fact in facts if fact.seconds is not None]
    validation, test = [seed.validation for seed in seeds], [seed.test for seed in seeds]
    return Row(
        own=True,
        model=public_code(recipe.model),
        method=recipe.method,
        size=recipe.size,
        protocol=protocol(recipe, hidden) + _train_rows(seeds),
        ranked_in=protocol_of(recipe),
        seeds=tuple(seed.seed for seed in seeds),
        partial=tuple(sorted(seed for result in results for seed in result.partial)),
        test_rows=results[0].data.rows["test"],
        validation_auc=_score(validation, "auc"),
        validation_acc=_score(validation, "acc"),
        select=recipe.select,
        selected=statistics.fmean(selection_score(seed.validation, seed.facts, recipe.select) for seed in seeds),
        auc=replace(_score(test, "auc"), method=_method(seeds, "auc")),
        acc=replace(_score(test, "acc"), method=_method(seeds, "acc")),
        parameters=_common([fact.parameters for fact in facts]),
        trained_parameters=_common([fact.trained_parameters for fact in facts]),
        seconds=statistics.fmean(seconds) if seconds else math.nan,
        hardware="; ".join(dict.fromkeys(str(seed.facts.hardware or hardware[seed.seed]) for seed in seeds)),
        folder="; ".join(runs),
    )


def _train_rows(seeds: Sequence[SeedResult]) -> str:
    """The number of train rows, if not all were used; seeds may differ in it."""
    counts = sorted({seed.data.chosen["train"].count for seed in seeds if "train" in seed.data.chosen})
    return f" ({' or '.join(f'{count:,}' for count in counts)} train rows)" if counts else ""


def _common(values: Sequence[int | None]) -> int | None:
    """The common value of all seeds; None if they differ, as networks found by a search may."""
    return values[0] if len(set(values)) == 1 else None


def _method(seeds: Sequence[SeedResult], name: str) -> str:
    """Methods of the intervals of a metric."""
    return ", ".join(dict.fromkeys(seed.intervals[name] for seed in seeds if name in seed.intervals))


def _score(seeds: Sequence[Measures[float]], name: str) -> BoardScore:
    def values(key: str) -> list[float]:
        return [measures.get(key, math.nan) for measures in seeds]

    mean, low, high = (statistics.fmean(values(key)) for key in (name, f"{name}_low", f"{name}_high"))
    several = len(seeds) > 1 and not math.isnan(mean)
    return BoardScore(mean, statistics.stdev(values(name)) if several else math.nan, low, high)


def _board(
    provenance: Provenance,
    flag: str,
    labels: str,
    configurations: Sequence[Sequence[Row]],
    files: Collection[tuple[int, str]],
) -> Board:
    """Create the board of configurations, each with one or several rows, see `_parts`.

    `files` has the size and MD5 of each file that the runs read.
    """
    entry = subset(flag)
    own = [row for rows in configurations for row in rows]
    are_alike = len(files) == len({size for size, _ in files})
    best = best_on_validation(own) if are_alike else None
    rows, notes = (
        [replace(row, chosen=row is best) for row in own],
        [note for each in configurations for note in _why_apart(each)],
    )
    if provenance.comparable and not labels:
        rows, published_notes = _ranked(flag, rows)
        notes += published_notes
    elif provenance.comparable:
        notes.append("Published rows used all labels of train, so they are not compared with these.")
    rows.sort(key=_order)
    if not are_alike:
        notes.insert(
            0,
            "Runs of the same size read different files: none is chosen, and the order of rows does not rank models.",
        )
    chosen = next((row for row in rows if row.chosen), None)
    return Board(entry, provenance, labels, tuple(rows), chosen, len(configurations), are_alike, tuple(notes))


def _ranked(flag: str, own: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Rank rows among the published rows of their protocols and sizes; returns all rows, and notes on them."""
    rows: list[Row] = []
    notes: dict[str, None] = {}
    listed: set[int] = set()
    groups = dict.fromkeys(row.comparable for row in own)
    for name, size in groups:
        its_own = [row for row in own if row.comparable == (name, size)]
        if not name:
            rows += its_own
            continue
        board = leaderboard(flag, name, map(_own_result, its_own), size=size)
        lines = {line.name: line for line in board.ranked if line.result is None}
        published = [line for line in board.ranked if line.result is not None]
        for row in its_own:
            place = None if row.partial else lines[row.folder].auc_rank
            rows.append(replace(row, place=place, places=len(published) + 1 if place else 0))
        rows += [_published(line, name) for line in published if id(line.result) not in listed]
        listed |= {id(line.result) for line in published}
        if published:
            notes |= dict.fromkeys(board_notes(board))
        if board.fenced:
            notes[f"Published rows of {name} that were selected on test are left out: {len(board.fenced)}."] = None
    if len(groups) > 1:
        notes["Rows of different protocols or sizes are not comparable; each is ranked within its own."] = None
    return rows, list(notes)


def _own_result(row: Row) -> OwnResult:
    auc, acc = (
        with_seeds(interval_standard_error(score.low, score.high), score.std, len(row.seeds))
        for score in (row.auc, row.acc)
    )
    return OwnResult(row.folder, row.auc.mean, row.acc.mean, auc, acc)


def _order(row: Row) -> tuple[bool, float, float]:
    """Sort key: complete rows first, then by falling AUC and ACC, undefined ones last."""
    auc, acc = (math.inf if math.isnan(score.mean) else -score.mean for score in (row.auc, row.acc))
    return bool(row.partial), auc, acc


def _why_apart(rows: Sequence[Row]) -> Iterator[str]:
    """Explain why a configuration has several rows."""
    about = f"{rows[0].model} {rows[0].method}, {rows[0].protocol}: runs of this configuration"
    whole, partial = ([row.folder for row in rows if bool(row.partial) is cut] for cut in (False, True))
    if len(whole) > 1:
        yield (f"{about} share a seed, so each is a separate row and they are not averaged ({', '.join(whole)}).")
    if partial and len(rows) > 1:
        yield (
            f"{about} with a partial or missing seed are separate rows and are not part of the mean "
            f"({', '.join(partial)})."
        )


def _published(line: Line, name: str) -> Row:
    result = line.result
    assert result is not None
    return Row(
        place=line.auc_rank,
        ranked_in=name,
        own=False,
        model=line.name,
        size=result.size,
        auc=BoardScore(line.auc, result.auc_std),
        acc=BoardScore(line.acc, result.acc_std),
    )
