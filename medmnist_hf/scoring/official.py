"""AUC and ACC with the semantics of the official MedMNIST evaluator, and a word on what it cannot rank.

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
    """A number that was asked for is undefined and comes as nan."""


@dataclass(frozen=True, slots=True)
class Score:
    """What the official evaluator reports, and how far it can be trusted.

    Attributes:
        task: The task whose rules were used.
        auc: Mean one-vs-rest AUC over the classes that could be ranked, 0 to 1; nan if none could.
        acc: Accuracy, 0 to 1.
        rows: Number of rows scored.
        absent: Ids of the classes without a positive or without a negative row, which have no AUC.
    """

    task: Task
    auc: float
    acc: float
    rows: int
    absent: tuple[int, ...] = ()


def score(predictions: Predictions, *, absent: Absent = "skip") -> Score:
    """AUC and ACC as the official evaluator computes them (``getAUC`` and ``getACC`` of ``medmnist`` 3.0.2).

    AUC: binary, of the last column. Others, the unweighted mean of the AUC of each score column against the rest;
    the ordinal task counts as multi-class, and scores need not sum to 1. ACC: binary, last column > 0.5 (0.5 itself
    is a negative decision); multi-class and ordinal, the first largest score; multi-label, the mean over labels of
    the accuracy at > 0.5. One row is scored like any other number of rows.

    Args:
        predictions: Scores and references from `medmnist_hf.scoring.predictions.check`.
        absent: What to do about a class that has no positive or no negative row, and so no AUC, where the official
            evaluator gives nan for the whole. ``"skip"``: the mean is over the other classes, and `Score.absent`
            names those left out. ``"nan"``: as the official one. ``"raise"``: an error.

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
            f"{_named(missing)} no positive or no negative row: AUC is undefined there; pass absent='skip'"
        )
    auc = math.nan if missing and absent == "nan" else float(mean_defined(np.array([each]))[0])
    if math.isnan(auc):
        warnings.warn(
            f"AUC is nan: {_named(missing)} no positive or no negative row among {predictions.rows}",
            ScoreWarning,
            stacklevel=2,
        )
    return Score(predictions.task, auc, accuracy(predictions), predictions.rows, missing)


def class_aucs(predictions: Predictions) -> list[float]:
    """One-vs-rest AUC of each column, L numbers; nan for a class without a positive or without a negative row."""
    return [auc_of(column, predictions.positive(label)) for label, column in enumerate(predictions.columns)]


def accuracy(predictions: Predictions) -> float:
    """Share of right decisions; multi-label: over rows and labels together, which is the mean over labels."""
    if predictions.hot is not None:
        return int(np.count_nonzero(predictions.flagged == predictions.hot)) / predictions.hot.size
    return int(np.count_nonzero(predictions.chosen == predictions.ids)) / predictions.rows


def _named(classes: tuple[int, ...]) -> str:
    listed = ", ".join(map(str, classes))
    return f"class {listed} has" if len(classes) == 1 else f"classes {listed} have"
