"""Check references and scores of any supported shape and bring them into the column-wise form that metrics read.

Example:
    >>> from medmnist_hf.scoring.predictions import check
    >>> check([0, 1], [0.2, 0.7], "binary-class").rows
    2
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Final

import numpy as np

from medmnist_hf.array_types import Array, BoolArray, FloatArray, IntArray
from medmnist_hf.catalog import Task
from medmnist_hf.errors import ScoreError, counted
from medmnist_hf.scoring.auc import Ranking
from medmnist_hf.scoring.inputs import plain

THRESHOLD: Final = 0.5
"""Binary and multi-label scores strictly above this are positive decisions."""

ROUNDING: Final = 1e-6
"""Distance outside 0..1 up to which a score is still accepted as a probability."""

ECE_BINS: Final = 15
"""Equal-width bins of the expected calibration error over 0..1, closed on the right, the first one on both sides."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Checked predictions of one task: N rows, one score column for each of L labels.

    The binary task has one label, the positive class; the other tasks have one per score column. Rankings, decisions
    and other values shared by several metrics are computed on first use and cached.

    Attributes:
        task: What was predicted.
        columns: Scores, shape ``(L, N)``, float32 or float64, every value finite.
        ids: True class ids, shape ``(N,)``; ``None`` for the multi-label task.
        hot: True findings, shape ``(L, N)``; ``None`` for the other tasks.
    """

    task: Task
    columns: Array
    ids: IntArray | None
    hot: BoolArray | None

    @property
    def rows(self) -> int:
        """Number of rows N."""
        return int(self.columns.shape[1])

    @property
    def labels(self) -> int:
        """Number of labels L."""
        return int(self.columns.shape[0])

    @property
    def classes(self) -> tuple[int, ...]:
        """The class id of each column: 1 for the binary task, 0 to L - 1 for the others."""
        return (1,) if self.task is Task.BINARY else tuple(range(self.labels))

    @property
    def class_ids(self) -> tuple[int, ...]:
        """The classes of per-class metrics: 0 and 1 for the binary task, otherwise those of the columns."""
        return (0, 1) if self.task is Task.BINARY else self.classes

    @property
    def truth(self) -> Array:
        """True labels: class ids, shape ``(N,)``, or findings, shape ``(L, N)``."""
        return np.asarray(self.ids if self.hot is None else self.hot)

    @property
    def class_count(self) -> int:
        """Number of classes K of a single-label task: two if binary, otherwise the number of score columns."""
        return 2 if self.task is Task.BINARY else self.labels

    def positive(self, label: int) -> BoolArray:
        """Mask of the rows whose true labels include the class of a column, shape ``(N,)``."""
        if self.hot is not None:
            return np.asarray(self.hot[label])
        return np.asarray(self.ids == self.classes[label])

    @cached_property
    def chosen(self) -> IntArray:
        """Predicted class of each row, shape ``(N,)``: first largest score, or score > 0.5 if binary."""
        if self.task is Task.BINARY:
            return np.asarray(self.columns[0] > THRESHOLD, np.intp)
        # Among equal columns the first has the highest mark. This avoids branches; uint16 allows 65,535 classes.
        best, mark = self.columns.max(axis=0), np.zeros(self.rows, np.uint16)
        for label, column in enumerate(self.columns):
            np.maximum(mark, (column == best) * np.uint16(self.labels - label), out=mark)
        return np.asarray(self.labels - mark.astype(np.intp))

    @cached_property
    def flagged(self) -> BoolArray:
        """Predicted findings, shape ``(L, N)``: scores > 0.5 (multi-label and binary tasks)."""
        return np.asarray(self.columns > THRESHOLD)

    @cached_property
    def rankings(self) -> list[Ranking]:
        """The L columns, each sorted once."""
        return [Ranking.of(column, self.positive(label)) for label, column in enumerate(self.columns)]

    @cached_property
    def class_rankings(self) -> list[Ranking]:
        """The scores of each of `class_ids`, sorted once; class 0 of the binary task uses the negated scores."""
        if self.task is not Task.BINARY:
            return self.rankings
        return [Ranking.of(-self.columns[0], ~self.positive(0)), *self.rankings]

    @cached_property
    def cells(self) -> IntArray:
        """Index of each row's cell in the flattened K x K confusion matrix, shape ``(N,)``."""
        return np.asarray(self.ids) * self.class_count + self.chosen

    @cached_property
    def outcomes(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Multi-label task: true positives, positives and predicted positives as 0 or 1, each ``(N, L)``."""
        true, flagged = np.asarray(self.hot).T, self.flagged.T
        return (true & flagged).astype(float), true.astype(float), flagged.astype(float)

    @cached_property
    def agreed(self) -> FloatArray:
        """Multi-label task: number of correctly predicted labels in each row, shape ``(N,)``."""
        return np.asarray((self.flagged == self.hot).sum(axis=0), np.float64)

    @cached_property
    def squared(self) -> FloatArray:
        """Squared distance of each row's probabilities from its true labels, shape ``(N,)``."""
        self._require_probabilities("brier")
        truth = np.stack([self.positive(label) for label in range(self.labels)])
        distance = np.square(self.columns.astype(np.float64) - truth).sum(axis=0)
        return np.asarray(distance / (self.labels if self.task is Task.MULTI_LABEL else 1), np.float64)

    @cached_property
    def calibration(self) -> tuple[IntArray, FloatArray]:
        """Bin of each confidence, and hit (0 or 1) minus confidence, both ``(R, N)``; see `confidence` for R."""
        self._require_probabilities("ece")
        confidence = self.confidence
        if self.ids is not None and self.task is not Task.BINARY:
            hit = (self.chosen == self.ids)[None, :]
        else:
            hit = np.stack([self.positive(label) for label in range(self.labels)])
        edges = np.linspace(0, 1, ECE_BINS + 1)[1:-1]
        return np.searchsorted(edges, confidence, side="left"), np.asarray(hit - confidence)

    @property
    def confidence(self) -> FloatArray:
        """Confidences, shape ``(R, N)``: each row's largest score (R = 1), or all scores (R = L).

        All scores are used in the binary and multi-label tasks, whose columns are separate probabilities.
        """
        single = self.ids is not None and self.task is not Task.BINARY
        return np.asarray(self.columns.max(axis=0, keepdims=True) if single else self.columns, np.float64)

    def _require_probabilities(self, metric: str) -> None:
        low, high = float(self.columns.min()), float(self.columns.max())
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise ScoreError(f"{metric} needs probabilities but scores run from {low:.4g} to {high:.4g}: leave it out")
        if self.task in (Task.MULTI_CLASS, Task.ORDINAL):
            sums = self.columns.sum(axis=0, dtype=np.float64)
            row = int(np.argmax(np.abs(sums - 1)))
            # Prediction files hold rounded scores, so rows sum to 1 only approximately.
            if abs(sums[row] - 1) > 1e-2:
                raise ScoreError(
                    f"{metric} needs rows that sum to 1 but row {row} sums to {sums[row]:.4g}: leave it out"
                )


def as_task(task: Task | str) -> Task:
    """Convert the value of a task, or its name in the official package, to a `Task`.

    Raises:
        ScoreError: There is no such task.
    """
    for member in Task:
        if task in (member, member.official_name):
            return member
    raise ScoreError(f"unknown task {task!r}: choose from {', '.join(map(repr, map(str, Task)))}")


def check(
    references: object,
    scores: object,
    task: Task | str,
    *,
    from_logits: bool | None = None,
    num_classes: int | None = None,
    allow_unscored: bool = False,
) -> Predictions:
    """Check references and scores and arrange them by column.

    Args:
        references: True labels of N rows. Single-label tasks: class ids, shape ``(N,)`` or ``(N, 1)``, or one-hot
            rows ``(N, K)``. Multi-label task: multi-hot rows ``(N, L)`` or a list with the findings of each row.
            May be arrays, tensors, nested sequences or columns of ``datasets``; axes of length one are ignored.
        scores: Scores of the N rows. Binary: ``(N,)``, ``(N, 1)`` or ``(N, 2)``, of which the last column is used.
            Other tasks: ``(N, K)``, one column per class. Float32 stays float32, other types become float64.
        task: The task; a `Task`, its value or its official name.
        from_logits: ``None`` expects probabilities and refuses values outside 0..1. ``True`` turns logits into
            float64 probabilities (softmax over the columns of the single-label tasks, the logistic function for one
            binary column and for the multi-label task). ``False`` accepts any scores unchanged, as the official
            evaluator does.
        num_classes: Number of classes or findings that the scores must have columns for, if known.
        allow_unscored: Accept class ids without a score column. As in the official evaluator, such a row is negative
            for every column and never predicted correctly.

    Raises:
        ScoreError: The input would give a wrong or undefined result; the message says what is wrong and where.
    """
    task = as_task(task)
    table = _score_array(scores)
    if task is Task.MULTI_LABEL:
        # With a single label or a single row, the axis of length one has a meaning.
        table = table[:, None] if table.ndim == 1 else table
        hot = _hot_references(references, table.shape[1])
        _same_rows(hot.shape[0], table.shape[0])
        _right_columns(table, task, num_classes)
        return Predictions(task, _columns(table, task, from_logits), None, np.ascontiguousarray(hot.T))
    truth = _plain_array(references, "references")
    if truth.ndim == 2 and truth.shape[0] == 1 and (table.shape[0] != 1 or (table.size > 2 and task is Task.BINARY)):
        truth = truth.reshape(-1)
    if task is Task.BINARY and truth.ndim == 1 and table.shape == (1, truth.shape[0]):
        table = table.reshape(-1)
    table = table[:, None] if table.ndim == 1 else table
    _right_columns(table, task, num_classes)
    _same_rows(truth.shape[0], table.shape[0])
    ids = _class_ids(truth, 2 if task is Task.BINARY else table.shape[1], allow_unscored and task is not Task.BINARY)
    return Predictions(task, _columns(table, task, from_logits), ids, None)


def check_paired(first: Predictions, second: Predictions) -> None:
    """Check that two sets of predictions have the same task and rows, as a comparison requires.

    Raises:
        ScoreError: They differ in labels, task or references.
    """
    if first.labels != second.labels:
        raise ScoreError(
            f"predictions of {first.labels} and of {second.labels} classes: compare predictions of one subset"
        )
    if first.task is not second.task or not np.array_equal(first.truth, second.truth):
        raise ScoreError("predictions of different tasks or rows: check both against the same references")


def multi_hot(findings: Iterable[Sequence[int]], labels: int) -> BoolArray:
    """Convert lists of findings to multi-hot rows, shape ``(N, labels)``; an empty list is a row without findings.

    Raises:
        ScoreError: A finding is not an id from 0 to ``labels - 1``, or is listed twice in a row.
    """
    rows = list(findings)
    lengths = np.fromiter((len(row) for row in rows), np.intp, len(rows))
    listed = list(chain.from_iterable(rows))
    flat = np.asarray(listed) if listed else np.zeros(0, np.intp)
    if flat.dtype == np.bool_:
        raise ScoreError(f"references: rows of true and false need {labels} columns; pass multi-hot rows or ids")
    flat = _integers(flat, "finding")
    owner = np.repeat(np.arange(len(rows)), lengths)
    _in_range(flat, labels, "finding", owner)
    hot = np.zeros((len(rows), labels), np.bool_)
    hot[owner, flat] = True
    twice = np.flatnonzero(hot.sum(axis=1) != lengths)
    if twice.size:
        raise ScoreError(f"references: row {twice[0]} lists a finding twice; list each once, or pass multi-hot rows")
    return hot


def _plain_array(values: object, what: str) -> Array:
    """Convert to an array, rows first, with the other axes of length one removed."""
    try:
        array = np.asarray(plain(values))
        if array.dtype == object:
            array = np.asarray([np.asarray(row) for row in array.reshape(-1)] if array.ndim == 1 else array.tolist())
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ScoreError(f"{what} are not a table of numbers: pass an array, or rows of equal length") from None
    if array.dtype.kind not in "biuf":
        raise ScoreError(f"{what} have type {array.dtype}: pass numbers")
    if array.size == 0:
        raise ScoreError(f"{what} are empty: pass one row or more")
    if array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    array = array.reshape(array.shape[:1] + tuple(length for length in array.shape[1:] if length != 1) or (1,))
    if array.ndim > 2:
        raise ScoreError(f"{what} have shape {array.shape}: pass rows by columns")
    return array


def _score_array(scores: object) -> Array:
    table = _plain_array(scores, "scores")
    if table.dtype == np.float16:
        return table.astype(np.float32)
    return table if table.dtype in (np.float32, np.float64) and table.dtype.isnative else table.astype(np.float64)


def _same_rows(references: int, scores: int) -> None:
    if references != scores:
        raise ScoreError(f"{counted(references, 'reference')} but {counted(scores, 'row')} of scores: pass as many")


def _right_columns(table: Array, task: Task, num_classes: int | None) -> None:
    width = table.shape[1]
    if task is Task.BINARY:
        if width > 2:
            raise ScoreError(f"scores have {width} columns: the binary task needs 1, or 2 of which the last is used")
    elif num_classes is not None and width != num_classes:
        raise ScoreError(f"scores have {counted(width, 'column')}: {num_classes} classes need one column each")
    elif width < 2 and task is not Task.MULTI_LABEL:
        raise ScoreError(f"scores have {width} column: the {task.value} task needs one column per class")


def _columns(table: Array, task: Task, from_logits: bool | None) -> Array:
    """Finite score columns, shape ``(L, N)``; the positive class alone for the binary task."""
    low, high = table.min(), table.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise ScoreError(f"scores hold {table[row, column]} at row {row}, column {column}: pass finite numbers")
    if from_logits:
        table = _probabilities(table.astype(np.float64), task)
    elif from_logits is None and (low < -ROUNDING or high > 1 + ROUNDING):
        raise ScoreError(
            f"scores run from {low:.4g} to {high:.4g}, outside 0..1: "
            "pass from_logits=True if they are logits, from_logits=False to score them unchanged"
        )
    # Always a copy: if the caller changed a shared array, the cached values would become wrong.
    return np.array((table[:, -1:] if task is Task.BINARY else table).T, order="C")


def _probabilities(logits: FloatArray, task: Task) -> FloatArray:
    # The difference of two finite logits may overflow float64; infinity still gives the correct 0 or 1.
    with np.errstate(over="ignore"):
        if task is Task.MULTI_LABEL or logits.shape[1] == 1:
            small = np.exp(-np.abs(logits))
            sigmoid: FloatArray = np.where(logits >= 0, 1.0, small) / (1.0 + small)
            return sigmoid
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax: FloatArray = powers / powers.sum(axis=1, keepdims=True)
    return softmax


def _integers(values: Array, what: str) -> IntArray:
    if values.dtype.kind not in "biuf":
        raise ScoreError(f"references: a {what} has type {values.dtype}; pass ids counted from 0")
    if values.dtype.kind == "f":
        odd = np.flatnonzero(~((np.abs(values) < 2**31) & (values == np.rint(values))))
        if odd.size:
            raise ScoreError(f"references: {values[odd[0]]} is not a {what}; pass ids counted from 0")
    return values.astype(np.intp)


def _in_range(ids: IntArray, count: int, what: str, rows: IntArray | None = None) -> None:
    if ids.size and (ids.min() < 0 or ids.max() >= count):
        bad = np.flatnonzero((ids < 0) | (ids >= count))[0]
        row = bad if rows is None else rows[bad]
        raise ScoreError(f"references: {what} {ids[bad]} at row {row} is out of range; ids run from 0 to {count - 1}")


def _class_ids(truth: Array, classes: int, allow_unscored: bool) -> IntArray:
    if truth.ndim == 1:
        ids = _integers(truth, "class id")
        _in_range(ids, np.iinfo(np.intp).max if allow_unscored else classes, "class id")
        return ids
    if truth.shape[1] != classes:
        raise ScoreError(f"references have shape {truth.shape}: pass class ids (N,), or one-hot rows (N, {classes})")
    wrong = np.flatnonzero(((truth != 0) & (truth != 1)).any(axis=1) | ((truth == 1).sum(axis=1) != 1))
    if wrong.size:
        raise ScoreError(f"references: row {wrong[0]} is not one-hot; pass class ids, or rows with a single 1")
    return np.nonzero(truth)[1]


def _hot_references(references: object, labels: int) -> BoolArray:
    """Convert multi-hot rows or lists of findings to multi-hot references, shape ``(N, labels)``."""
    values = plain(references)
    if not isinstance(values, list | tuple):
        try:
            values = np.asarray(values)
        except (TypeError, ValueError, RuntimeError):
            raise ScoreError("references cannot be read: pass multi-hot rows or lists of findings") from None
        if values.dtype != object or values.ndim != 1:
            return _hot_rows(values, labels)
    if not _ragged(values):
        return _hot_rows(values, labels)
    if any(len(row) != labels for row in values):
        return multi_hot(values, labels)
    table = np.asarray([np.asarray(row) for row in values])
    findings = table.dtype.kind in "iu" and bool((np.sort(table, axis=1) == np.arange(labels)).all())
    if findings and labels <= 2:
        raise ScoreError(
            f"references are ambiguous: multi-hot rows or lists of {labels} finding(s)? Pass an array of multi-hot "
            "rows; medmnist_hf.scoring.predictions.multi_hot converts lists to one"
        )
    return multi_hot(values, labels) if findings else _hot_rows(table, labels)


def _ragged(values: Sequence[Any] | Array) -> bool:
    """Whether every row is a flat list or array: a list of findings, or a multi-hot row."""
    if len(values) == 0 or not all(isinstance(row, list | tuple | np.ndarray) for row in values):
        return False
    first = next((row[0] for row in values if np.ndim(row) and len(row)), 0)
    return np.ndim(first) == 0


def _hot_rows(values: object, labels: int) -> BoolArray:
    table = _plain_array(values, "references")
    table = table[:, None] if table.ndim == 1 and labels == 1 else table
    if table.ndim != 2 or table.shape[1] != labels:
        raise ScoreError(
            f"references have shape {np.asarray(values).shape} for {labels} score columns: "
            f"pass multi-hot rows (N, {labels}), or lists of findings as Python lists"
        )
    wrong = (table != 0) & (table != 1)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ScoreError(f"references hold {table[row, column]} at row {row}, column {column}: pass 0 or 1")
    return table.astype(np.bool_)
