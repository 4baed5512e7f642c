"""The errors of MedMNIST-C: balanced error (BE) and relative balanced error (rBE), both as multiples of AlexNet's.

Di Salvo, Doerrich and Ledig, arXiv 2406.17536 (2024), define both. The errors of AlexNet are in ``alexnet.csv``: on
the clean test split of each subset, and for each corruption the mean over its five severities, as in
``medmnistc/utils/baselines.py`` of their package medmnistc 0.1.0 (Apache-2.0).

Example:
    >>> from medmnist_hf.corruptions import balanced_errors
    >>> errors = balanced_errors("retinamnist", 0.5, {"pixelate": 0.6, "motion_blur": 0.7})
    >>> f"{errors.be:.3f} {errors.be_scores['pixelate']:.3f}"
    '0.993 0.997'
"""

import csv
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Final

import numpy as np

from medmnist_hf.catalog import Task
from medmnist_hf.corruptions.registry import corruptions, find_corruption
from medmnist_hf.errors import ScoreError, shorten
from medmnist_hf.scoring.auc import mean_defined
from medmnist_hf.scoring.metrics import Weighted, balanced_accuracy, sensitivity, specificity
from medmnist_hf.scoring.predictions import Predictions

BASELINES_NAME: Final = "alexnet.csv"

SMALLEST: Final = 0.005
"""Increase of AlexNet's error below which a corruption's relative error says little."""

_CLEAN: Final = "clean"


@dataclass(frozen=True, slots=True)
class Baseline:
    """The errors of AlexNet on a subset.

    Attributes:
        clean: On the clean test split.
        corrupted: Corruption -> mean over the five severities.
    """

    clean: float
    corrupted: dict[str, float]


@dataclass(frozen=True, slots=True)
class BalancedErrors:
    """Errors of a model on a subset; lower is better, and 1 is as good as AlexNet.

    Attributes:
        subset: Flag of the subset.
        clean: Error on the clean test split.
        be: Mean of `be_scores`.
        rbe: Mean of `rbe_scores`. Read `be` first: see `marks`.
        raw_scores: Corruption -> error of the model, mean over the severities.
        be_scores: Corruption -> balanced error: the model's error divided by that of AlexNet.
        rbe_scores: Corruption -> relative balanced error: the increase of the model's error over its clean error,
            divided by that increase for AlexNet.
        marks: Corruption -> why its relative error says little: AlexNet's error does not increase, or hardly, so the
            sign is reversed or the value explodes.
        missing: Corruptions of the subset without an error; if there are any, the means are not comparable.
    """

    subset: str
    clean: float
    be: float
    rbe: float
    raw_scores: dict[str, float]
    be_scores: dict[str, float]
    rbe_scores: dict[str, float]
    marks: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def balanced_error(predictions: Predictions) -> float:
    """One minus the balanced accuracy, from 0 to 1.

    Decisions are scores above 0.5 for the binary task, in its last column, and for each label of the multi-label task,
    whose balanced accuracies are averaged; otherwise the first largest score. Classes without rows do not count.
    """
    weighted = Weighted(predictions)
    if predictions.task is not Task.MULTI_LABEL:
        return 1.0 - float(balanced_accuracy(weighted)[0])
    recalls = np.stack([sensitivity(weighted)[0], specificity(weighted)[0]], axis=1)
    return 1.0 - float(mean_defined(recalls).mean())


def baseline(subset: str) -> Baseline:
    """The errors of AlexNet on a subset.

    Args:
        subset: Flag of the subset.

    Raises:
        CatalogError: The subset is unknown, or holds volumes.
    """
    return _baselines()[corruptions(subset)[0].subset]


def balanced_errors(subset: str, clean: float, errors: Mapping[str, float]) -> BalancedErrors:
    """Compute BE and rBE of a model.

    Args:
        subset: Flag of the subset.
        clean: Error of the model on the clean test split, from 0 to 1, see `balanced_error`.
        errors: Corruption -> mean of its errors over the five severities. The means over corruptions are comparable
            if all corruptions of the subset are given.

    Raises:
        CatalogError: The subset is unknown or holds volumes, or it has no such corruption.
        ScoreError: There are no corruptions, or an error is not from 0 to 1.
    """
    flag, alexnet = corruptions(subset)[0].subset, baseline(subset)
    if not errors:
        raise ScoreError(f"no corruptions of {flag} given: choose from {', '.join(alexnet.corrupted)}")
    for name in errors:
        find_corruption(flag, name)
    for name, error in {_CLEAN: clean, **errors}.items():
        if not 0 <= error <= 1:
            raise ScoreError(f"error of {flag} {name} is {shorten(error)}: give a number from 0 to 1")
    known = {name: float(errors[name]) for name in alexnet.corrupted if name in errors}
    increases = {name: alexnet.corrupted[name] - alexnet.clean for name in known}
    be = {name: error / alexnet.corrupted[name] for name, error in known.items()}
    rbe = {name: (error - clean) / increases[name] for name, error in known.items()}
    return BalancedErrors(
        flag,
        float(clean),
        statistics.fmean(be.values()),
        statistics.fmean(rbe.values()),
        known,
        be,
        rbe,
        {name: mark for name, increase in increases.items() if (mark := _mark(increase))},
        tuple(name for name in alexnet.corrupted if name not in errors),
    )


def _mark(increase: float) -> str:
    if increase >= SMALLEST:
        return ""
    return f"AlexNet's error {'falls' if increase < 0 else 'rises only'} by {abs(increase):.4f}"


@cache
def _baselines() -> dict[str, Baseline]:
    text = resources.files("medmnist_hf.corruptions").joinpath(BASELINES_NAME).read_text(encoding="utf-8")
    found: dict[str, dict[str, float]] = {}
    for row in csv.DictReader(text.splitlines()):
        found.setdefault(row["subset"], {})[row["corruption"]] = float(row["alexnet_error"])
    return {flag: Baseline(errors.pop(_CLEAN, math.nan), errors) for flag, errors in found.items()}
