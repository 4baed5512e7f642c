"""The computation of the `evaluate` module: from a config's name to its task, from rows to a flat dictionary.

Independent of `evaluate`: the numbers come from `medmnist_hf.scoring.official`, `metrics` and `intervals`.
"""

import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from medmnist_hf import catalog
from medmnist_hf.array_types import FloatArray
from medmnist_hf.catalog import Task
from medmnist_hf.errors import CatalogError, ScoreError, shorten
from medmnist_hf.scoring.intervals import intervals
from medmnist_hf.scoring.metrics import metrics
from medmnist_hf.scoring.official import Absent, ScoreWarning, accuracy, score
from medmnist_hf.scoring.predictions import as_task, check

LEVEL: Final = 0.95
"""Confidence level of ``ci=True``."""


@dataclass(frozen=True, slots=True)
class MetricConfig:
    """A config of the module.

    Attributes:
        name: Flag of a subset, or value of a task for other data.
        task: The task.
        num_classes: Number of classes or findings; ``None`` to take it from the scores.
        labels: Their names in order; empty for a task.
    """

    name: str
    task: Task
    num_classes: int | None = None
    labels: tuple[str, ...] = ()


def configs() -> tuple[str, ...]:
    """Names of all configs: the subsets, then the tasks."""
    return (*(entry.flag for entry in catalog.subsets()), *(task.value for task in Task))


def resolve(name: str | None, num_classes: int | None = None) -> MetricConfig:
    """Look up a config by name.

    Args:
        name: Flag of a subset in any letter case, or value or official name of a task.
        num_classes: Number of classes or findings, which is the number of score columns; only with a task.

    Raises:
        CatalogError: The name is neither a subset nor a task.
        ScoreError: `num_classes` does not match the config.
    """
    tasks = ", ".join(map(repr, map(str, Task)))
    if not isinstance(name, str) or name == "default":
        raise CatalogError(f"the config is missing: pass a subset such as 'pathmnist', or a task ({tasks})")
    if any(name in (task.value, task.official_name) for task in Task):
        task = as_task(name)
        fewest = 1 if task is Task.MULTI_LABEL else 2
        if num_classes is not None and (isinstance(num_classes, bool) or not isinstance(num_classes, int)):
            raise ScoreError(f"num_classes={num_classes!r}: pass a whole number")
        if num_classes is not None and (num_classes < fewest or (task is Task.BINARY and num_classes != 2)):
            raise ScoreError(f"num_classes={num_classes}: the {task.value} task has {_count(task)}")
        return MetricConfig(task.value, task, num_classes)
    try:
        entry, _ = catalog.sized_subset(name)
    except CatalogError as error:
        raise CatalogError(f"{error}; for other data pass a task ({tasks})") from None
    if num_classes not in (None, len(entry.labels)):
        raise ScoreError(f"num_classes={num_classes}: {entry.flag} has {len(entry.labels)}; leave it out")
    return MetricConfig(entry.flag, entry.task, len(entry.labels), entry.labels)


def _count(task: Task) -> str:
    return {Task.BINARY: "2 classes", Task.MULTI_LABEL: "1 finding or more"}.get(task, "2 classes or more")


def report(
    references: object,
    scores: object,
    config: MetricConfig,
    *,
    from_logits: bool | None = None,
    measures: Iterable[str] | None = None,
    ci: bool | float | None = None,
    resamples: int = 1000,
    seed: int = 0,
    absent: Absent = "skip",
) -> dict[str, float]:
    """Compute AUC, ACC and further measures as one flat dictionary.

    Args:
        references: Ground truth of N rows; for the shapes see `medmnist_hf.scoring.predictions.check`.
        scores: Scores of the same rows; for the shapes see there.
        config: The subset or task.
        from_logits: ``True`` for logits, ``False`` to use scores unchanged, ``None`` to reject scores outside 0..1.
        measures: Names as for `medmnist_hf.scoring.metrics.metrics`, or one name.
        ci: ``True`` for 95 % intervals of all values, or a level between 0 and 1; for the methods see
            `medmnist_hf.scoring.intervals`.
        resamples: Number of bootstrap resamples, for intervals that use the bootstrap.
        seed: Seed of the resamples.
        absent: How to treat a class without a positive or a negative row; see `medmnist_hf.scoring.official.score`.

    Returns:
        ``auc`` and ``acc``, 0 to 1, the measures by name, and ``{name}_low`` and ``{name}_high`` for an interval.

    Raises:
        ScoreError: The rows cannot be scored, or an option is out of range.

    Warns:
        ScoreWarning: A value is nan, or the AUC leaves out a class.
    """
    predictions = check(references, scores, config.task, from_logits=from_logits, num_classes=config.num_classes)
    official = score(predictions, absent=absent)
    if official.absent and absent == "skip" and len(official.absent) < predictions.labels:
        listed = ", ".join(map(str, official.absent))
        text = f"AUC leaves out class {listed}: no positive or no negative row among {official.rows}"
        warnings.warn(text, ScoreWarning, stacklevel=2)
    result = {"auc": official.auc, "acc": official.acc}
    names = [measures] if isinstance(measures, str) else list(measures or ())
    if names:
        result = result | metrics(predictions, names) | result
    if ci is not None and ci is not False:
        level = LEVEL if ci is True else ci
        bounds = intervals(predictions, list(result), resamples=resamples, level=level, seed=seed)
        for name, interval in bounds.items():
            result |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return result


_PASS_SCORES: Final = "for scores call compute(references=..., prediction_scores=...)"

OPTIONS: Final = tuple(
    name for name, kind in inspect.signature(report).parameters.items() if kind.kind is inspect.Parameter.KEYWORD_ONLY
)
"""Names of the options of `report`."""


def check_options(options: Mapping[str, object]) -> None:
    """Raise a `ScoreError` for an option that `report` does not have."""
    for name in options:
        if name not in OPTIONS:
            raise ScoreError(f"unknown option {shorten(name)}: choose from {', '.join(OPTIONS)}")


def decision_accuracy(references: object, predictions: Sequence[object], config: MetricConfig) -> dict[str, float]:
    """ACC of predicted class ids or label names, without scores, for N rows of a single-label task.

    Raises:
        ScoreError: The task is multi-label, a label is unknown, or the rows cannot be scored.
    """
    if config.task is Task.MULTI_LABEL:
        raise ScoreError(f"predictions of one label each are not multi-label decisions: {_PASS_SCORES}")
    try:
        ids = np.asarray(label_ids(list(predictions), config))
    except ValueError:  # rows of several lengths
        ids = np.empty(0)
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or not ids.size:
        raise ScoreError(
            "predictions are not class ids (whole numbers) or names: pass one per row, such as scores.argmax(1); "
            f"{_PASS_SCORES}"
        )
    classes = config.num_classes or int(max(ids.max(), np.max(np.asarray(references), initial=0), 1)) + 1
    if ids.min() < 0 or ids.max() >= classes:
        raise ScoreError(f"predictions: class id out of range; ids run from 0 to {classes - 1}")
    scores = ids if config.task is Task.BINARY else ids[:, None] == np.arange(classes)
    return {"acc": accuracy(check(references, scores, config.task, from_logits=False))}


def label_ids(labels: Sequence[object], config: MetricConfig, mapping: Mapping[str, Any] | None = None) -> list[Any]:
    """Convert a model's label names to class ids; labels that are not strings are returned unchanged.

    Args:
        labels: Names of the catalog, ``LABEL_3`` as in models without names, or ids.
        config: The subset whose names are valid.
        mapping: Name -> id, which takes precedence over both.

    Raises:
        ScoreError: A name is unknown.
    """
    ids = {f"LABEL_{at}": at for at in range(config.num_classes or len(labels))}
    ids |= {label: at for at, label in enumerate(config.labels)}
    ids |= mapping or {}
    for label in labels:
        if isinstance(label, str) and label not in ids:
            names = f" {config.name} has {', '.join(config.labels)};" if config.labels else ""
            raise ScoreError(f"unknown label {label!r}:{names} pass label_mapping with an id for each name")
    return [ids[label] if isinstance(label, str) else label for label in labels]


def label_table(
    rows: Sequence[Sequence[Mapping[str, Any]]], config: MetricConfig, mapping: Mapping[str, Any] | None = None
) -> FloatArray:
    """Convert the output of an image-classification pipeline to scores of shape ``(N, K)``, one column per class.

    Args:
        rows: For each of N images, the label and score of each of K classes, in any order.
        config: The subset or task.
        mapping: Label -> class id, if the model's labels are not those of the catalog.

    Raises:
        ScoreError: There are no rows, a label is unknown, or the labels are not exactly the classes.
    """
    if not rows:
        raise ScoreError("the pipeline returned no predictions: pass at least one image")
    labels = [entry["label"] for entry in rows[0]]
    ids = dict(zip(labels, label_ids(labels, config, mapping), strict=True))
    if sorted(ids.values()) != list(range(len(labels))):
        raise ScoreError(f"labels {', '.join(map(str, labels))} do not name each class once: pass label_mapping")
    table: FloatArray = np.full((len(rows), len(labels)), np.nan)
    for row, entries in zip(table, rows, strict=True):
        for entry in entries:
            row[ids[entry["label"]]] = entry["score"]
    return table
