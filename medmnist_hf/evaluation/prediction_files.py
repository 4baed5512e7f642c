"""Read and write prediction files in the official format, and read the batch predictions of Vertex AI.

A prediction file is named ``{flag}{size}_{split}_[AUC]{auc}_[ACC]{acc}@{run}.csv`` and contains, without a header, one
line ``index,score,...`` per row of the split (``Evaluator`` of ``medmnist`` 3.0.2). Size 28 is omitted from the name.

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

from medmnist_hf.array_types import Array, FloatArray, IntArray
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
"""Largest prediction file that is read, in bytes; the longest split, 165,466 rows of 8 scores, needs 30 MB."""

ROUNDING: Final = 0.5e-3 * (1 + 1e-6)
"""Largest rounding error of a score in a file name, which has three decimals."""

_NAME: Final = re.compile(
    r"(?P<flag>[^_]+)(?:_(?P<size>\d{1,4}))?_(?P<split>train|validation|val|test)(?![A-Za-z0-9])(?P<rest>.*)\.csv",
    re.DOTALL,
)
_NUMBER: Final = r"(?P<value>\d+(?:[.,]\d+)?|nan)(?![\d.,])"
_DECISIONS: Final = {"False": 0, "True": 1}
"""How the official package writes scores that are bool."""

_SPLITS: Final = {prefix: split for split, prefix in NPZ_SPLITS.items()}


@dataclass(frozen=True, slots=True)
class PredictionName:
    """The parts of the name of a prediction file.

    Attributes:
        flag: Flag of the subset.
        size: Edge length in pixels or voxels.
        split: ``train``, ``validation`` or ``test``.
        run: Name of the run, including dots; empty if the name has none.
        auc: AUC in the name, rounded to three decimals; None if absent.
        acc: ACC in the name, likewise.
    """

    flag: str
    size: int
    split: str
    run: str
    auc: float | None
    acc: float | None


@dataclass(frozen=True, slots=True, eq=False)
class PredictionFile(PredictionName):
    """A prediction file: the parts of its name (for Vertex AI, taken from its lines) and its checked scores.

    Attributes:
        scores: Finite scores, float64 of shape ``(N, columns)``, in the row order of the split.
        index: Row number in the split, intp of shape ``(N,)``: 0 to N - 1.
    """

    scores: FloatArray
    index: IntArray


def prediction_name(flag: str, size: int | str, split: str, auc: float, acc: float, run: str) -> str:  # noqa: PLR0917  (the order of the name)
    """The official name of a prediction file.

    Args:
        flag: Flag of the subset, in any letter case.
        size: One of its sizes.
        split: ``train``, ``validation`` (``val`` in the name) or ``test``.
        auc: AUC, 0 to 1; rounded to three decimals.
        acc: ACC, 0 to 1; rounded to three decimals.
        run: Name of the run, allowed in a file name. The official package reads it up to its first dot.

    Raises:
        CatalogError: The subset or split is unknown, or the subset does not have the size.
        ScoreError: The name of the run is empty, or contains a slash or a control character.
    """
    entry = subset(flag)
    size = entry.file(size).size
    split = split_name(split)
    check_run(run)
    size_flag = "" if size == DEFAULT_SIZE else f"_{size}"
    return f"{entry.flag}{size_flag}_{NPZ_SPLITS[split]}_[AUC]{auc:.3f}_[ACC]{acc:.3f}@{run}.csv"


def check_run(run: str) -> None:
    """Check that the name of a run can be part of a file name; raises `ScoreError` otherwise."""
    if not run or "/" in run or "\\" in run or not run.isprintable():
        raise ScoreError(f"run name {run!r} cannot be part of a file name: use letters, digits, dots, dashes")


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
    """Write scores to a prediction file whose name includes their AUC and ACC; a file of that name is replaced.

    Numbers are written as the shortest text that reads back as the same float64. With ``from_logits=True`` the file
    contains probabilities, since the official evaluator does not accept logits.

    Args:
        folder: Folder of the file; created if missing.
        flag: Flag of the subset.
        size: One of its sizes.
        split: ``train``, ``validation`` or ``test``.
        scores: Scores of the N rows of the split, in order; for shapes see `medmnist_hf.scoring.predictions.check`.
        references: True labels of these rows, likewise.
        run: Name of the run.
        from_logits: How to treat scores outside 0..1; see `medmnist_hf.scoring.predictions.check`.

    Returns:
        Path of the file.

    Raises:
        CatalogError: The subset or split is unknown, or the subset does not have the size.
        ScoreError: The scores cannot be scored, or the run cannot be part of a file name.
        BuildError: The file cannot be written.
    """
    entry = subset(flag)
    checked = check(references, scores, entry.task, from_logits=from_logits, num_classes=len(entry.labels))
    table = np.asarray(checked.columns.T, np.float64)
    if entry.task is Task.BINARY and not from_logits:
        # Only the last of two columns is scored, but a reader may want both.
        table = np.asarray(plain(scores), np.float64).reshape(checked.rows, -1)
    official = score(checked)
    folder = Path(folder)
    path = folder / prediction_name(flag, size, split, official.auc, official.acc, run)
    write_scores(path, table)
    return path


def write_scores(path: Path, scores: Array) -> None:
    """Write scores in the format of a prediction file, under any name.

    Numbers are written as the shortest text that reads back as the same number of their type.

    Args:
        path: The file; it is replaced, and its folder is created if missing.
        scores: Numbers of shape ``(N, columns)``.

    Raises:
        BuildError: The file cannot be written.
    """
    lines = (f"{index},{','.join(row)}\n" for index, row in enumerate(scores.astype(str).tolist()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "".join(lines))
    except OSError as error:
        raise BuildError(cannot_write(path, error, "choose another folder or name")) from None


def parse_name(name: str) -> PredictionName:
    """Parse the name of a prediction file: subset, size and split, and run and scores if present.

    Args:
        name: File name without its folder. ``_28`` and ``validation`` are accepted, although never written.

    Raises:
        ScoreError: The name does not have the official form.
        CatalogError: The subset is unknown, or does not have the size.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ScoreError(
            f"{name}: not the name of a prediction file; describe it with subset and split, or rename it to "
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
    """Describe a prediction file whose name does not have the official form.

    Args:
        subset: Flag of its subset, with an optional size: ``pathmnist``, ``pathmnist-64``.
        split: ``train``, ``validation`` (or ``val``) or ``test``; None for test.

    Raises:
        CatalogError: There is no such subset, size or split.
        ScoreError: ``subset`` is a file, folder or repository.
    """
    data = parse_data_name(subset)
    if data.entry is None or data.path is not None or data.repository is not None:
        raise ScoreError(f"{subset} is not the name of a subset: pass one such as pathmnist or pathmnist-64")
    return PredictionName(
        data.entry.flag, data.size or DEFAULT_SIZE, split_name(split or "test"), run="", auc=None, acc=None
    )


def read_predictions(path: str | Path, unnamed: PredictionName | None = None) -> PredictionFile:
    """Read a prediction file, or the batch prediction of Vertex AI.

    Args:
        path: The file, whose name gives its subset, size and split. Or the output of Vertex AI, whose lines give them:
            a JSONL file, or the folder of its shards; see `medmnist_hf.evaluation.vertex.read_batch`.
        unnamed: Subset, size and split if the name does not give them; see `predictions_of`.

    Raises:
        SourceError: There is no such file, or it cannot be read.
        CatalogError: The name contains an unknown subset or size.
        ScoreError: The name does not have the official form, or its subset or split differs from `unnamed`. Or the
            content is empty, has a header, a wrong number of columns, scores that are not finite numbers, or
            duplicate or missing rows.
    """
    path = Path(path)
    if is_batch_output(path):
        batch = read_batch(path)
        index = np.arange(len(batch.scores), dtype=np.intp)
        return PredictionFile(batch.entry.flag, batch.size, batch.split, batch.run, None, None, batch.scores, index)
    if not path.is_file():
        raise SourceError(f"{path}: no such file; pass a prediction file, with quotes around the brackets of its name")
    name = _name_of(path, unnamed)
    try:
        text = read_document(path, PREDICTION_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({first_line(error)}); check the file") from None
    except UnicodeDecodeError:
        raise ScoreError(f"{path}: is not UTF-8 text; pass a prediction file in CSV") from None
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
            f"{path}: is a file of {name.flag} {name.split} by its name, not of {unnamed.flag} {unnamed.split}: pass "
            "another file, or rename it"
        )
    return name


def files_of_split(folder: Path, split: str) -> list[Path]:
    """List the prediction files of a split in a folder, sorted by name; other files are ignored.

    Args:
        folder: The folder.
        split: ``train``, ``validation`` or ``test``.
    """
    files = []
    for path in sorted(folder.glob("*.csv")):
        with contextlib.suppress(CatalogError, ScoreError):  # not a prediction file
            if parse_name(path.name).split == split:
                files.append(path)
    return files


def _claim(text: str, key: str) -> float | None:
    match = re.search(rf"\[{key}\]{_NUMBER}", text)
    return float(match["value"].replace(",", ".")) if match else None


def _table(text: str, entry: Subset) -> tuple[IntArray, FloatArray]:
    """Parse the lines of a file into index, shape ``(N,)``, and scores, shape ``(N, columns)``, sorted by index."""
    allowed = (1, 2) if entry.task is Task.BINARY else (len(entry.labels),)
    indices: list[int] = []
    rows: list[list[float]] = []
    for number, cells in _lines(text):
        where = f"line {number}"
        if not re.fullmatch(r"\s*\d{1,18}\s*", cells[0]):
            raise ScoreError(
                f"{where} begins with {cells[0][:40]!r}, not a row number: write index,score,... without a header"
            )
        if len(cells) - 1 not in allowed:
            needed = " or ".join(map(str, allowed))
            raise ScoreError(
                f"{where} has {len(cells) - 1} scores but {entry.flag} needs {needed}: is it a file of another subset?"
            )
        if rows and len(cells) - 1 != len(rows[0]):
            raise ScoreError(
                f"{where} has {len(cells) - 1} scores, the first line {len(rows[0])}: every line needs as many"
            )
        indices.append(int(cells[0]))
        rows.append([_number(cell, where) for cell in cells[1:]])
    if not rows:
        raise ScoreError("contains no scores: is it the right file?")
    index = np.array(indices, np.int64)
    order = np.argsort(index, kind="stable")
    ranked = index[order]
    wrong = np.flatnonzero(ranked != np.arange(len(ranked)))
    if wrong.size:
        at = int(wrong[0])
        twice = at > 0 and ranked[at] == ranked[at - 1]
        fault = f"row {ranked[at]} appears twice" if twice else f"row {at} is missing"
        raise ScoreError(f"{fault}: a prediction file has one line per row of the split, counted from 0")
    return ranked.astype(np.intp), np.array(rows, np.float64)[order]


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each non-blank line, parsed as CSV: cells may be quoted."""
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in lines:
            if len(cells) > 1 or "".join(cells).strip():
                yield lines.line_num, cells
    except csv.Error as error:
        raise ScoreError(f"line {lines.line_num} is not valid CSV ({error}): write index,score,...") from None


def _number(cell: str, where: str) -> float:
    try:
        value = math.nan if "_" in cell else float(_DECISIONS.get(cell, cell))
    except ValueError:
        what = f"{cell[:40]!r}" if cell.strip() else "an empty cell"
        raise ScoreError(f"{where} has {what} as a score: write finite numbers, with a decimal point") from None
    if not math.isfinite(value):
        raise ScoreError(f"{where} has {cell.strip()[:40]!r} as a score: write finite numbers")
    return value
