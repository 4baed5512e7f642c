"""Measures of a prediction file for the groups of a column, such as sex or age, to show whom a model serves worse."""

import csv
import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from medmnist_hf.catalog import NPZ_SPLITS, subset
from medmnist_hf.data.configs import config_at
from medmnist_hf.errors import ScoreError, SourceError, cannot_read, shorten
from medmnist_hf.evaluation.evaluate import Evaluation
from medmnist_hf.files import read_document
from medmnist_hf.places.resolver import NpzFile, find
from medmnist_hf.scoring.confidence import Interval
from medmnist_hf.scoring.intervals import intervals
from medmnist_hf.scoring.official import ScoreWarning
from medmnist_hf.scoring.predictions import Predictions

MEASURES: Final = ("auc", "acc", "balanced_accuracy")

AGE: Final = "age"
AGE_BIN: Final = 20
"""Years per bin of `AGE`: 0-19, 20-39 and so on."""

QUANTILES: Final = 4
"""Number of equally large bins of any other numeric column with more than `MOST_VALUES` values."""

MOST_VALUES: Final = 12
"""Largest number of different numbers that are groups of their own, such as grades."""

MOST_GROUPS: Final = 200

SMALL: Final = 30
"""Groups with fewer rows, or fewer than `FEWEST` rows of a class, are marked: their measures say little."""

FEWEST: Final = 5

UNKNOWN: Final = "unknown"
"""The group of rows without a value."""

_MISSING: Final = frozenset({"", "nan", "na", "n/a", "none", "null", "unknown"})

_CSV_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Group:
    """Measures of the rows with one value of a column.

    Attributes:
        name: The value, or the bin of a number.
        rows: Number of rows.
        small: Whether there are too few rows, or too few of a class, to say much.
        intervals: Measure -> estimate with its 95 % interval; without those that these rows do not define.
    """

    name: str
    rows: int
    small: bool
    intervals: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class Gap:
    """The difference between the best and the worst group, among those that are not small.

    Attributes:
        best: Name of the group with the highest value.
        worst: Name of the group with the lowest value.
        difference: Best minus worst.
    """

    best: str
    worst: str
    difference: float


@dataclass(frozen=True, slots=True)
class GroupEvaluation:
    """A prediction file scored for each group of a column.

    Attributes:
        column: Name of the column.
        bins: How numbers were divided, in words; empty if they were not.
        groups: The groups: bins in ascending order, other values by their name, `UNKNOWN` last.
        gaps: Measure -> gap; without measures that fewer than two groups have.
    """

    column: str
    bins: str
    groups: tuple[Group, ...]
    gaps: dict[str, Gap]


def evaluate_by(
    evaluation: Evaluation, column: str, values: Sequence[Any], *, resamples: int = 1000, seed: int = 0
) -> GroupEvaluation:
    """Score the rows of each group of a column.

    Args:
        evaluation: A scored file, see `medmnist_hf.evaluation.evaluate.evaluate_file`.
        column: Name of the column, for errors.
        values: One value per row, in row order: text, numbers, or None where it is unknown.
        resamples: Resamples of bootstrap intervals.
        seed: Seed of bootstrap intervals.

    Raises:
        ScoreError: There is not one value per row, or there are too many groups.
    """
    rows = evaluation.score.rows
    if len(values) != rows:
        raise ScoreError(f"{column} has {len(values)} values, but there are {rows} predictions: give one per row")
    names, order, bins = _groups_of(values, column)
    if len(order) > MOST_GROUPS:
        raise ScoreError(
            f"{column} has {len(order)} different values, more than {MOST_GROUPS}: name a column with fewer"
        )
    members = np.array(names, object)
    groups = tuple(_group(evaluation, name, np.flatnonzero(members == name), resamples, seed) for name in order)
    gaps = {}
    for measure in MEASURES:
        known = [
            (group.intervals[measure].estimate, group.name)
            for group in groups
            if measure in group.intervals and not group.small and group.name != UNKNOWN
        ]
        if len(known) > 1:
            (low, worst), (high, best) = min(known), max(known)
            gaps[measure] = Gap(best, worst, high - low)
    return GroupEvaluation(column, bins, groups, gaps)


def _group(evaluation: Evaluation, name: str, rows: NDArray[np.intp], resamples: int, seed: int) -> Group:
    every = evaluation.predictions
    ids = None if every.ids is None else every.ids[rows]
    hot = None if every.hot is None else every.hot[:, rows]
    own = Predictions(every.task, every.columns[:, rows], ids, hot)
    if ids is not None:
        counts = np.bincount(ids, minlength=every.class_count)
    else:
        positive = own.truth.sum(axis=1)
        counts = np.minimum(positive, len(rows) - positive)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScoreWarning)  # a measure without a value is left out
        measured = intervals(own, MEASURES, resamples=resamples, seed=seed)
    known = {measure: interval for measure, interval in measured.items() if not math.isnan(interval.estimate)}
    return Group(name, len(rows), bool(len(rows) < SMALL or counts.min() < FEWEST), known)


def _groups_of(values: Sequence[Any], column: str) -> tuple[list[str], list[str], str]:
    """The group of each row, the names of the groups in order, and how numbers were divided."""
    texts = [UNKNOWN if _is_missing(value) else str(value).strip() for value in values]
    known = [text for text in texts if text != UNKNOWN]
    numbers = [_number(text) for text in known]
    last = [UNKNOWN] if len(known) < len(texts) else []
    if not known or any(number is None for number in numbers):
        return texts, [*sorted(set(known)), *last], ""
    distinct = sorted({number for number in numbers if number is not None})
    if column == AGE:
        starts = {number: int(number // AGE_BIN) * AGE_BIN for number in distinct}
        named = {number: f"{start}-{start + AGE_BIN - 1}" for number, start in starts.items()}
        bins = f"{AGE_BIN} years each"
    elif len(distinct) > MOST_VALUES:
        shares = np.arange(1, QUANTILES) / QUANTILES
        edges = np.unique(np.quantile(np.array(numbers, np.float64), shares)).tolist()
        ends = [distinct[0], *edges, distinct[-1]]
        places = np.searchsorted(edges, distinct, side="right").tolist()
        named = {number: _interval_name(ends, place) for number, place in zip(distinct, places, strict=True)}
        bins = f"{QUANTILES} bins between quantiles"
    else:
        named, bins = {number: f"{number:g}" for number in distinct}, ""
    order = list(dict.fromkeys(named[number] for number in distinct))
    return [UNKNOWN if text == UNKNOWN else named[float(text)] for text in texts], [*order, *last], bins


def _interval_name(ends: list[float], position: int) -> str:
    return f"{ends[position]:g} to {'under ' * (position + 2 < len(ends))}{ends[position + 1]:g}"


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value).strip().lower() in _MISSING


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_column(
    column: str,
    evaluation: Evaluation,
    data: str | Path | None = None,
    *,
    root: str | Path | None = None,
    file: Path | None = None,
) -> list[Any]:
    """Read a column of the rows that a prediction file is about: of a build, or of a CSV file.

    Args:
        column: Name of the column.
        evaluation: The scored file.
        data: Data set with the labels, as for `evaluate_file`.
        root: As for `evaluate_file`.
        file: CSV file with that column in its header, and one line per row of the split, in row order. With a column
            ``split``, lines of other splits are left out; with a column ``index``, lines may be in any order.

    Raises:
        SourceError: The data cannot be read, or there is no such column.
    """
    if file is not None:
        return _of_csv(column, evaluation, file)
    result = evaluation.result
    entry = subset(result.flag)
    place = find(entry.flag if data is None else data, result.size, root=root, expected=entry, npz=True)
    if isinstance(place, NpzFile):
        raise SourceError(f"{place.path} has no column {shorten(column)}, only images and labels: give a CSV file")
    config = config_at(place)
    parts: list[Any] = []
    for path, _ in config.shards(result.split):
        try:
            with pq.ParquetFile(path) as parquet:
                names = parquet.schema_arrow.names
                if column not in names:
                    others = ", ".join(name for name in names if name != "image")
                    raise SourceError(
                        f"{config.where} has no column {shorten(column)}, but {others}: "
                        "name one of them, or give a CSV file"
                    )
                parts += parquet.read(columns=[column])[column].to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise config.unreadable(path, error) from None
    return parts


def _of_csv(column: str, evaluation: Evaluation, file: Path) -> list[str]:
    try:
        text = read_document(file, limit=_CSV_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(cannot_read(file, error, "give a CSV file in UTF-8")) from None
    lines = list(csv.DictReader(io.StringIO(text)))
    names = list(lines[0]) if lines else []
    if column not in names:
        header = shorten(", ".join(map(str, names)))
        raise SourceError(f"{file} has no column {shorten(column)}: name a column of its first line, {header}")
    split, rows = evaluation.result.split, evaluation.score.rows
    if "split" in names:
        lines = [line for line in lines if line["split"] in {split, NPZ_SPLITS[split]}]
    if len(lines) != rows:
        raise SourceError(f"{file} has {len(lines)} lines for {split}, but there are {rows} predictions")
    if "index" in names:
        numbers = [str(line["index"]) for line in lines]
        if sorted(numbers) != sorted(map(str, range(rows))):
            raise SourceError(f"{file}: the column index is not 0 to {rows - 1}, each once")
        lines.sort(key=lambda line: int(str(line["index"])))
    return [str(line[column] or "") for line in lines]
