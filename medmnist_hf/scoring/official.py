"""AUC and ACC as the official MedMNIST evaluator computes them, with explicit handling of absent classes.

Example:
    >>> from medmnist_hf.scoring.official import score
    >>> from medmnist_hf.scoring.predictions import check
    >>> result = score(check([0, 1, 1, 0], [0.2, 0.9, 0.4, 0.3], "binary-class"))
    >>> result.auc, result.acc
    (1.0, 0.75)
"""

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medmnist_hf.catalog import Task
from medmnist_hf.errors import ScoreError
from medmnist_hf.scoring.auc import auc as auc_of
from medmnist_hf.scoring.auc import mean_defined
from medmnist_hf.scoring.predictions import Predictions

Absent = Literal["skip", "nan", "raise"]


class ScoreWarning(UserWarning):
    """A requested metric is undefined and returned as nan."""


@dataclass(frozen=True, slots=True)
class Score:
    """The official AUC and ACC, and the classes without an AUC.

    Attributes:
        task: The task whose rules were used.
        auc: Mean one-vs-rest AUC, 0 to 1, over the classes that have one; nan if no class has one.
        acc: Accuracy, 0 to 1.
        rows: Number of rows scored.
        absent: Ids of the classes without positive or without negative rows, for which AUC is undefined.
    """

    task: Task
    auc: float
    acc: float
    rows: int
    absent: tuple[int, ...] = ()


def score(predictions: Predictions, *, absent: Absent = "skip") -> Score:
    """AUC and ACC as the official evaluator computes them (``getAUC`` and ``getACC`` of ``medmnist`` 3.0.2).

    AUC: for the binary task, of the last column; for the others, the unweighted mean of the one-vs-rest AUC of each
    score column. The ordinal task is treated as multi-class, and scores need not sum to 1. ACC: for the binary task,
    last column > 0.5 (0.5 itself is a negative decision); multi-class and ordinal, the first largest score;
    multi-label, the mean over labels of the accuracy at > 0.5. A single row is scored by the same rules.

    Args:
        predictions: Scores and references from `medmnist_hf.scoring.predictions.check`.
        absent: How to treat a class without positive or without negative rows, whose AUC is undefined. ``"skip"``
            averages over the other classes and lists the class in `Score.absent`; ``"nan"`` makes the mean nan, as
            the official evaluator does; ``"raise"`` raises an error.

    Raises:
        ScoreError: A class is absent and ``absent="raise"``, or ``absent`` is not a valid choice.

    Warns:
        ScoreWarning: The AUC is nan.
    """
    if absent not in ("skip", "nan", "raise"):
        raise ScoreError(f"unknown choice absent={absent!r}: choose 'skip', 'nan' or 'raise'")
    each = class_aucs(predictions)
    missing = tuple(label for label, value in zip(predictions.classes, each, strict=True) if math.isnan(value))
    if missing and absent == "raise":
        raise ScoreError(
            f"{_named(missing)} no positive or no negative rows: AUC is undefined there; pass absent='skip'"
        )
    auc = math.nan if missing and absent == "nan" else float(mean_defined(np.array([each]))[0])
    if math.isnan(auc):
        warnings.warn(
            f"AUC is nan: {_named(missing)} no positive or no negative rows among {predictions.rows}",
            ScoreWarning,
            stacklevel=2,
        )
    return Score(predictions.task, auc, accuracy(predictions), predictions.rows, missing)


def class_aucs(predictions: Predictions) -> list[float]:
    """One-vs-rest AUC of each of the L columns; nan for a class without positive or without negative rows."""
    return [auc_of(column, predictions.positive(label)) for label, column in enumerate(predictions.columns)]


def accuracy(predictions: Predictions) -> float:
    """Share of right decisions; multi-label: over all rows and labels, which equals the mean over labels."""
    if predictions.hot is not None:
        return int(np.count_nonzero(predictions.flagged == predictions.hot)) / predictions.hot.size
    return int(np.count_nonzero(predictions.chosen == predictions.ids)) / predictions.rows


def _named(classes: tuple[int, ...]) -> str:
    listed = ", ".join(map(str, classes))
    return f"class {listed} has" if len(classes) == 1 else f"classes {listed} have"
