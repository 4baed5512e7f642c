"""Prediction files in the official format: their names, writing them, reading them back, and Vertex AI's output alike.

A prediction file is named ``{flag}{size}_{split}_[AUC]{auc}_[ACC]{acc}@{run}.csv`` and holds, without a header, a line
``index,score,...`` for each row of the split (``Evaluator`` of ``medmnist`` 3.0.2). The size is left out at 28 pixels.

Example:
    >>> from medmnist_hf.evaluation.prediction_files import prediction_name
    >>> prediction_name("pathmnist", 224, "validation", auc=0.98765, acc=0.9, run="resnet18.a1_in1k")
    'pathmnist_224_val_[AUC]0.988_[ACC]0.900@resnet18.a1_in1k.csv'
"""

import contextlib
import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from medmnist_hf.array_types import FloatArray, IntArray
from medmnist_hf.catalog import DEFAULT_SIZE, NPZ_SPLITS, Subset, Task, split_name, subset
from medmnist_hf.errors import (
    BuildError,
    CatalogError,
    MedMNISTError,
    ScoreError,
    SourceError,
    cannot_write,
    first_line,
)
from medmnist_hf.evaluation.vertex import is_batch_output, read_batch
from medmnist_hf.files import read_document, write_atomically
from medmnist_hf.places.names import parse_name as parse_data_name
from medmnist_hf.scoring.inputs import plain
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import check

PREDICTION_BYTES: Final = 1 << 26
"""Bytes of the largest prediction file that is read: the longest, 165,466 rows of 8 scores, has 30 MB."""

ROUNDING: Final = 0.5e-3 * (1 + 1e-6)
"""How far a score in a name, which has three decimals, may be from the one computed."""

_NAME: Final = re.compile(
    r"(?P<flag>[^_]+)(?:_(?P<size>\d{1,4}))?_(?P<split>train|validation|val|test)(?![A-Za-z0-9])(?P<rest>.*)\.csv",
    re.DOTALL,
)
_NUMBER: Final = r"(?P<value>\d+(?:[.,]\d+)?|nan)(?![\d.,])"
_SPLITS: Final = {prefix: split for split, prefix in NPZ_SPLITS.items()}


@dataclass(frozen=True, slots=True)
class PredictionName:
    """What the name of a prediction file says.

    Attributes:
        flag: Flag of the subset.
        size: Edge length in pixels or voxels.
        split: ``train``, ``validation`` or ``test``.
        run: Name of the run, dots and all; empty if the name has none.
        auc: AUC that the name claims, rounded to three decimals; None if it claims none.
        acc: ACC that the name claims, likewise.
    """

    flag: str
    size: int
    split: str
    run: str
    auc: float | None
    acc: float | None


@dataclass(frozen=True, slots=True, eq=False)
class PredictionFile(PredictionName):
    """A prediction file as read: what its name, or the lines of Vertex AI, say of it, and its checked scores.

    Attributes:
        scores: Finite scores, float64 of shape ``(N, columns)``, rows in the order of the split.
        index: Row of the split of each line, intp of shape ``(N,)``: 0 to N - 1.
    """

    scores: FloatArray
    index: IntArray


def prediction_name(flag: str, size: int | str, split: str, auc: float, acc: float, run: str) -> str:  # noqa: PLR0917  (the order of the name)
    """The official name of a prediction file.

    Args:
        flag: Flag of the subset, in any letter case.
        size: One of its sizes.
        split: ``train``, ``validation`` (``val`` in the name) or ``test``.
        auc: AUC, 0 to 1; rounded to three decimals, as the ACC.
        acc: ACC, 0 to 1.
        run: Any name of the run that a file name can hold; the official package would read it up to its first dot.

    Raises:
        CatalogError: Unknown subset or split, or a size it does not have.
        ScoreError: The run's name is empty, or holds a slash or a control character.
    """
    entry = subset(flag)
    size = entry.file(size).size
    split = split_name(split)
    if not run or "/" in run or "\\" in run or not run.isprintable():
        raise ScoreError(f"run name {run!r} cannot be part of a file name: give letters, digits, dots, dashes")
    size_flag = "" if size == DEFAULT_SIZE else f"_{size}"
    return f"{entry.flag}{size_flag}_{NPZ_SPLITS[split]}_[AUC]{auc:.3f}_[ACC]{acc:.3f}@{run}.csv"


def write_predictions(  # noqa: PLR0917  (where and what, in the order of the name)
    folder: str | Path,
    flag: str,
    size: int | str,
    split: str,
    scores: object,
    references: object,
    *,
    run: str,
    from_logits: bool | None = None,
) -> Path:
    """Write scores as a prediction file, named by its AUC and ACC. A file of the same name is replaced.

    Numbers are written as the shortest text that reads back as the same float64. With ``from_logits=True`` the file
    holds the probabilities, since the official evaluator takes no logits.

    Args:
        folder: Where the file goes; made if it is missing.
        flag: Flag of the subset.
        size: One of its sizes.
        split: ``train``, ``validation`` or ``test``.
        scores: Scores of the N rows of the split, in their order; shapes as for
            `medmnist_hf.scoring.predictions.check`.
        references: What is true of them, likewise.
        run: Name of the run.
        from_logits: What to make of scores outside 0..1; see `medmnist_hf.scoring.predictions.check`.

    Returns:
        Where the file is.

    Raises:
        CatalogError: Unknown subset or split, or a size it does not have.
        ScoreError: The scores cannot be scored, or the run cannot be part of a file name.
        BuildError: The file cannot be written.
    """
    entry = subset(flag)
    checked = check(references, scores, entry.task, from_logits=from_logits, num_classes=len(entry.labels))
    table = np.asarray(checked.columns.T, np.float64)
    if entry.task is Task.BINARY and not from_logits:
        # Only the last of two columns counts, but a reader may want what was given.
        table = np.asarray(plain(scores), np.float64).reshape(checked.rows, -1)
    official = score(checked)
    folder = Path(folder)
    path = folder / prediction_name(flag, size, split, official.auc, official.acc, run)
    lines = (f"{index},{','.join(map(repr, row))}\n" for index, row in enumerate(table.tolist()))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "".join(lines))
    except OSError as error:
        raise BuildError(cannot_write(path, error, "choose another folder or run name")) from None
    return path


def parse_name(name: str) -> PredictionName:
    """What the name of a prediction file says: subset, size and split at least, the rest if it is there.

    Args:
        name: File name without its folder. ``_28`` and ``validation`` are understood, although never written.

    Raises:
        ScoreError: The name is not of the official form.
        CatalogError: It names an unknown subset, or a size that the subset does not have.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ScoreError(
            f"{name}: not the name of a prediction file; say with subset and split what it is of, or call it "
            "SUBSET[_SIZE]_SPLIT_[AUC]0.000_[ACC]0.000@RUN.csv"
        )
    try:
        entry = subset(match["flag"])
        size = entry.file(int(match["size"] or DEFAULT_SIZE)).size
    except CatalogError as error:
        raise CatalogError(f"{name}: {error}") from None
    claims, _, run = match["rest"].partition("@")
    split = _SPLITS.get(match["split"], match["split"])
    return PredictionName(entry.flag, size, split, run, _claim(claims, "AUC"), _claim(claims, "ACC"))


def predictions_of(subset: str, split: str | None = None) -> PredictionName:
    """What a file of any name holds that says nothing itself.

    Args:
        subset: Its subset, also with a size: ``pathmnist``, ``pathmnist-64``.
        split: ``train``, ``validation`` (or ``val``) or ``test``; None for test.

    Raises:
        CatalogError: There is no such subset, size or split.
        ScoreError: The name is that of a file, folder or repository.
    """
    named = parse_data_name(subset)
    if named.entry is None or named.path is not None or named.repository is not None:
        raise ScoreError(f"{subset} is no flag of a subset: give one such as pathmnist or pathmnist-64")
    return PredictionName(
        named.entry.flag, named.size or DEFAULT_SIZE, split_name(split or "test"), run="", auc=None, acc=None
    )


def read_predictions(path: str | Path, unnamed: PredictionName | None = None) -> PredictionFile:
    """Read a prediction file or the batch prediction of Vertex AI; nothing is written and nothing is scored.

    Args:
        path: The file; its name says of which subset, size and split it is. Or the output of Vertex AI, whose lines
            say it: a JSONL file, or the folder of its shards; see `medmnist_hf.evaluation.vertex.read_batch`.
        unnamed: What it is of if its name does not say it; see `predictions_of`.

    Raises:
        SourceError: There is no such file, or it cannot be read.
        CatalogError: The name holds an unknown subset or size.
        ScoreError: The name is not of the official form, or names another subset or split than `unnamed`; or the
            content is empty, has a header, lines of another number of columns than the subset needs, scores that are
            no finite numbers, or rows twice or missing.
    """
    path = Path(path)
    if is_batch_output(path):
        found = read_batch(path)
        index = np.arange(len(found.scores), dtype=np.intp)
        return PredictionFile(found.entry.flag, found.size, found.split, found.run, None, None, found.scores, index)
    if not path.is_file():
        raise SourceError(f"{path}: no such file; give a prediction file, with quotes around the brackets of its name")
    name = _name_of(path, unnamed)
    try:
        text = read_document(path, PREDICTION_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({first_line(error)}); check the file") from None
    except UnicodeDecodeError:
        raise ScoreError(f"{path}: is not text in UTF-8; give a prediction file in CSV") from None
    try:
        index, scores = _table(text, subset(name.flag))
    except MedMNISTError as error:
        raise type(error)(f"{path}: {error}") from None
    return PredictionFile(name.flag, name.size, name.split, name.run, name.auc, name.acc, scores, index)


def _name_of(path: Path, unnamed: PredictionName | None) -> PredictionName:
    try:
        name = parse_name(path.name)
    except ScoreError:
        if unnamed is None:
            raise
        return replace(unnamed, run=path.stem)
    if unnamed is not None and (name.flag, name.split) != (unnamed.flag, unnamed.split):
        raise ScoreError(
            f"{path}: is called a file of {name.flag} {name.split}, not of {unnamed.flag} {unnamed.split}: give one "
            "of that, or rename it"
        )
    return name


def files_of_split(folder: Path, split: str) -> list[Path]:
    """The prediction files of a split in a folder, by their names; other files are passed over.

    Args:
        folder: The folder.
        split: ``train``, ``validation`` or ``test``.
    """
    files = []
    for path in sorted(folder.glob("*.csv")):
        with contextlib.suppress(CatalogError, ScoreError):  # some other file
            if parse_name(path.name).split == split:
                files.append(path)
    return files


def _claim(text: str, key: str) -> float | None:
    match = re.search(rf"\[{key}\]{_NUMBER}", text)
    return float(match["value"].replace(",", ".")) if match else None


def _table(text: str, entry: Subset) -> tuple[IntArray, FloatArray]:
    """Index, shape ``(N,)``, and scores, shape ``(N, columns)``, of the lines of a file, sorted by index."""
    allowed = (1, 2) if entry.task is Task.BINARY else (len(entry.labels),)
    indices: list[int] = []
    rows: list[list[float]] = []
    for number, cells in _lines(text):
        where = f"line {number}"
        if not re.fullmatch(r"\s*\d{1,18}\s*", cells[0]):
            raise ScoreError(
                f"{where} begins with {cells[0][:40]!r}, no row number: write index,score,... and no header"
            )
        if len(cells) - 1 not in allowed:
            needed = " or ".join(map(str, allowed))
            raise ScoreError(f"{where} has {len(cells) - 1} scores but {entry.flag} needs {needed}: is it its file?")
        if rows and len(cells) - 1 != len(rows[0]):
            raise ScoreError(
                f"{where} has {len(cells) - 1} scores, the first line {len(rows[0])}: write as many in each"
            )
        indices.append(int(cells[0]))
        rows.append([_number(cell, where) for cell in cells[1:]])
    if not rows:
        raise ScoreError("holds no line of scores: is it the right file?")
    index = np.array(indices, np.int64)
    order = np.argsort(index, kind="stable")
    ranked = index[order]
    wrong = np.flatnonzero(ranked != np.arange(len(ranked)))
    if wrong.size:
        at = int(wrong[0])
        twice = at > 0 and ranked[at] == ranked[at - 1]
        fault = f"row {ranked[at]} is there twice" if twice else f"row {at} is missing"
        raise ScoreError(f"{fault}: a prediction file has each row of the split once, counted from 0")
    return ranked.astype(np.intp), np.array(rows, np.float64)[order]


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Numbers and cells of the lines that are not empty, by the rules of CSV: a cell may be in quotes."""
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in lines:
            if len(cells) > 1 or "".join(cells).strip():
                yield lines.line_num, cells
    except csv.Error as error:
        raise ScoreError(f"line {lines.line_num} is no CSV ({error}): write index,score,...") from None


def _number(cell: str, where: str) -> float:
    try:
        value = math.nan if "_" in cell else float(cell)
    except ValueError:
        what = f"{cell[:40]!r}" if cell.strip() else "an empty cell"
        raise ScoreError(f"{where} has {what} for a score: write finite numbers, with a decimal point") from None
    if not math.isfinite(value):
        raise ScoreError(f"{where} has {cell.strip()[:40]!r} for a score: write finite numbers")
    return value
