"""Read batch predictions of Vertex AI as scores, in the row order of a split and the label order of the catalog.

Based on the documentation of Vertex AI as of 2026; not tested against the service:

- "Interpret prediction results from image classification models": a line contains the instance and all labels with
  their confidences, in any order.
- "BatchPredictionJob", ``outputConfig``: a job writes ``predictions_0001.jsonl``, ``predictions_0002.jsonl``, ... and,
  if images failed, ``errors_0001.jsonl``, ... with an ``error``. Jobs of custom models have been seen to write
  ``prediction.results-00000-of-00002``, ... and ``prediction.errors_stats-00000-of-00001`` instead.
- "PredictionResult": a line contains either a ``prediction`` or an ``error``.
- "ImageClassificationPredictionParams": a job can be configured to omit labels. Their confidences are then unknown,
  so such output is refused instead of scored.
"""

import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from medmnist_hf.array_types import FloatArray
from medmnist_hf.catalog import Subset, Task
from medmnist_hf.documents import parse_json
from medmnist_hf.errors import ScoreError, SourceError, first_line
from medmnist_hf.files import open_regular
from medmnist_hf.scoring.predictions import ROUNDING
from medmnist_hf.vertex import NO_FINDING, PARAMETERS_NAME, ImageRef, display_names, image_ref

_SHARD: Final = re.compile(
    r"predictions_\d+\.jsonl|(?P<errors>errors_\d+\.jsonl|prediction\.errors_stats-\d+-of-\d+)"
    r"|prediction\.results-\d+-of-(?P<total>\d+)"
)


@dataclass(frozen=True, slots=True, eq=False)
class BatchOutput:
    """The batch prediction of one split.

    Attributes:
        entry: The subset.
        size: Edge length in pixels.
        split: ``train``, ``validation`` or ``test``.
        run: Name of the folder of shards, or of the file without its suffix.
        scores: Confidences, float64 of shape ``(N, labels)``: rows in the order of the split, columns in the order of
            the catalog's labels.
    """

    entry: Subset
    size: int
    split: str
    run: str
    scores: FloatArray


def is_batch_output(path: Path) -> bool:
    """Whether a path looks like Vertex AI output, not like an official prediction file; it need not exist."""
    return path.is_dir() or path.suffix == ".jsonl" or _SHARD.fullmatch(path.name) is not None


def outputs(paths: Iterable[Path]) -> list[Path]:
    """Replace the shards of each job by their folder, listed once; other paths are unchanged."""
    replaced: list[Path] = []
    for path in paths:
        whole = _whole(path)
        if whole == path or whole not in replaced:
            replaced.append(whole)
    return replaced


def read_batch(path: Path) -> BatchOutput:
    """Read the batch prediction of one split.

    Args:
        path: The folder that a job wrote, any shard in it, which is read with all others, or a single JSONL file.

    Raises:
        SourceError: There is no such output, a shard is missing, or a file cannot be read.
        ScoreError: An image failed. Or a line does not have the documented form, is for an image that was not
            exported by this package or belongs to another split, or its labels are not those of the subset. Or a row
            is missing or appears twice.
    """
    files = _files(path)
    config: tuple[Subset, int, str] | None = None
    rows: dict[int, list[float]] = {}
    seen: dict[int, str] = {}
    for file in files:
        for number, text in _lines(file):
            where = f"{file}: line {number}"
            spot, confidences = _line(text, where, failed=_is_errors(file))
            config = config or (spot.entry, spot.size, spot.split)
            if (spot.entry, spot.size, spot.split) != config:
                entry, size, split = config
                raise ScoreError(
                    f"{where} is for {spot.entry.flag} at size {spot.size}, {spot.split}, but earlier lines are for "
                    f"{entry.flag} at size {size}, {split}: pass the output of one split"
                )
            if spot.row in seen:
                raise ScoreError(f"{where} repeats row {spot.row} of {seen[spot.row]}: pass the output of one job")
            seen[spot.row], rows[spot.row] = where, confidences
    if config is None:
        raise ScoreError(f"{path}: contains no predictions: has the job finished, and is its output complete?")
    missing = next(row for row in range(len(rows) + 1) if row not in rows)
    if missing != len(rows):
        raise ScoreError(f"{path}: row {missing} of {config[2]} is missing: pass all files of the job")
    scores = np.array([rows[row] for row in range(len(rows))], np.float64)
    whole = _whole(path)
    return BatchOutput(*config, whole.resolve().name if whole.is_dir() else whole.stem, scores)


def _whole(path: Path) -> Path:
    return path.parent if _SHARD.fullmatch(path.name) else path


def _is_errors(file: Path) -> bool:
    match = _SHARD.fullmatch(file.name)
    return match is not None and match["errors"] is not None


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise SourceError(f"{path}: no such file; pass the folder or the JSONL file that a batch prediction wrote")
    folder = _whole(path)
    if not folder.is_dir():
        return [folder]
    try:
        shards = {file.name: match for file in folder.iterdir() if (match := _SHARD.fullmatch(file.name))}
    except OSError as error:
        raise SourceError(f"{folder}: cannot be read ({first_line(error)}); check its permissions") from None
    if not any(match["errors"] is None for match in shards.values()):
        raise SourceError(
            f"{folder}: is a folder without predictions_*.jsonl or prediction.results-*; pass the folder of a batch "
            "prediction, or a prediction file, with quotes around the brackets of its name"
        )
    for total in {match["total"] for match in shards.values() if match["total"]}:
        for number in range(int(total)):
            name = f"prediction.results-{number:0{len(total)}d}-of-{total}"
            if name not in shards:
                raise SourceError(f"{folder / name}: no such file; download all {int(total)} shards")
    return [folder / name for name in sorted(shards)]


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each non-blank line."""
    try:
        with io.TextIOWrapper(open_regular(file), encoding="utf-8-sig") as stream:
            yield from ((number, text) for number, text in enumerate(stream, 1) if text.strip())
    except OSError as error:
        raise SourceError(f"{file}: cannot be read ({first_line(error)}); check its permissions") from None
    except UnicodeDecodeError:
        raise ScoreError(f"{file}: is not UTF-8 text; pass the JSONL file of a batch prediction") from None


def _line(text: str, where: str, *, failed: bool) -> tuple[ImageRef, list[float]]:
    """Parse a line into its image and its confidences, in the order of the catalog's labels."""
    try:
        item = parse_json(text)
    except ValueError as error:
        if failed:
            raise _failure(where, "an image", text) from None
        raise ScoreError(f"{where} is not valid JSON ({error}): is the download incomplete?") from None
    instance = _of(item, "instance") or item
    uri = _of(instance, "content")
    if failed or _of(item, "error"):
        fault = _of(item, "error") or item
        raise _failure(where, uri, _of(fault, "message") or json.dumps(fault))
    spot = image_ref(uri) if isinstance(uri, str) else None
    if spot is None:
        raise ScoreError(
            f"{where} is for {_short(uri)}, which is not an image exported with --format vertex: its instance.content "
            "must end in SUBSET/SPLIT/SPLIT0.png"
        )
    return spot, _confidences(_of(item, "prediction"), spot.entry, where)


def _confidences(prediction: Any, entry: Subset, where: str) -> list[float]:
    names, values = _of(prediction, "displayNames"), _of(prediction, "confidences")
    if not (isinstance(names, list) and isinstance(values, list) and len(names) == len(values)):
        raise ScoreError(
            f"{where} lacks displayNames and confidences of equal length: is it from an image classification model?"
        )
    expected = display_names(entry)
    confidences: dict[str, float] = {}
    for name, value in zip(names, values, strict=True):
        if name not in expected and not (name == NO_FINDING and entry.task is Task.MULTI_LABEL):
            raise ScoreError(
                f"{where} has the label {_short(name)}, which {entry.flag} does not have: was the model trained on "
                "its import file?"
            )
        if name in confidences:
            raise ScoreError(f"{where} has the label {_short(name)} twice: pass the file as the job wrote it")
        if isinstance(value, bool) or not isinstance(value, int | float) or not -ROUNDING <= value <= 1 + ROUNDING:
            raise ScoreError(f"{where} has the confidence {_short(value)}, not a number in 0..1: pass the job's file")
        confidences[name] = float(value)
    absent = [name for name in expected if name not in confidences]
    if absent:
        raise ScoreError(
            f"{where} has {len(expected) - len(absent)} of {len(expected)} labels, without {absent[0]!r}: predict "
            f"again with {PARAMETERS_NAME} of the export as model parameters"
        )
    return [confidences[name] for name in expected]


def _failure(where: str, uri: object, reason: object) -> ScoreError:
    return ScoreError(f"{where} reports that {_short(uri)} failed ({_short(reason)}): predict the split again")


def _of(item: object, key: str) -> Any:
    return item.get(key) if isinstance(item, dict) else None


def _short(value: object) -> str:
    """Format a value of a user's file for a one-line message, shortened to 160 characters."""
    text = " ".join(value.split()) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 160 else f"{text[:160]}..."
