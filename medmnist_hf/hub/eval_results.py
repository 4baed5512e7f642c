"""Test results of a model in the formats that the Hub reads from model repositories, linked to a data set's tasks.

There are two formats: a file in ``.eval_results/`` (https://huggingface.co/docs/hub/eval-results) and the older
``model-index`` of a model card. In the first, a task holds one value, so AUC and ACC of each size are separate tasks;
``eval.yaml`` in a data set's repository lists them.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml, utils

from medmnist_hf import catalog
from medmnist_hf.errors import ScoreError
from medmnist_hf.manifest import Provenance

RESULTS_PATH: Final = ".eval_results/medmnist.yaml"
"""Path of the file with `results_yaml` in a model's repository."""

MEASURES: Final = {"auc": "roc_auc", "acc": "accuracy"}
"""Measure of a task -> name of the metric on the Hub."""

TASK_CATEGORY: Final = "image-classification"
"""Name of the task on the Hub, for all subsets including volumes."""

TEST_SPLIT: Final = "test"


def to_yaml(value: object) -> str:
    """Format a value as YAML like `huggingface_hub`, keeping the order of keys."""
    return str(utils.yaml_dump(value, sort_keys=False))  # type: ignore[attr-defined]


def task_id(config: str, measure: str) -> str:
    """Return the id of the task for a config and a measure within a subset's repository, e.g. ``28_auc``."""
    return f"{config}_{measure}"


@dataclass(frozen=True, slots=True)
class ModelResult:
    """Test scores of a model on a subset in one size, by the official metric.

    Attributes:
        flag: Flag of the subset.
        size: Edge length in pixels or voxels.
        auc: AUC, 0 to 1.
        acc: ACC, 0 to 1.
        provenance: Provenance of the data; it must be verified, since a score on a phantom or an altered file is not a
            result on the subset.
        date: Date or time of the measurement in ISO 8601; empty for the date of the commit.
        source_url: URL of the run; empty if it has none.
        source_name: Name of the source; empty to show its URL.
        notes: How the scores were measured, in a few words.
        revision: Commit of the data set's repository, 40 hex digits; empty if unknown.

    Raises:
        CatalogError: The subset is unknown, or does not have that size.
        ScoreError: The data is not verified, a measure is out of range, the date is not valid, the notes are not one
            line, or a named source has no URL.
    """

    flag: str
    size: int
    auc: float
    acc: float
    provenance: Provenance
    date: str = ""
    source_url: str = ""
    source_name: str = ""
    notes: str = ""
    revision: str = ""

    def __post_init__(self) -> None:
        catalog.subset(self.flag).file(self.size)
        where = f"the result on {self.flag} {self.size}"
        if not self.provenance.comparable:
            raise ScoreError(
                f"{where} was measured on {self.provenance} data: only scores on verified data can be reported"
            )
        for measure, value in self.values().items():
            if not (math.isfinite(value) and 0 <= value <= 1):
                raise ScoreError(f"{where} has {measure.upper()} {value}: give a number from 0 to 1")
        try:
            datetime.fromisoformat(self.date or "2000-01-01")
        except ValueError:
            raise ScoreError(f"{where} has the date {self.date!r}: write it as 2026-01-31") from None
        if not self.notes.isprintable():
            raise ScoreError(f"{where} has notes with line ends or control characters: write one line of text")
        if self.source_name and not self.source_url:
            raise ScoreError(f"{where} names the source {self.source_name!r} without a URL: give source_url")

    @property
    def config(self) -> str:
        """Name of the config on the Hub."""
        return catalog.subset(self.flag).config_name(self.size)

    def values(self) -> dict[str, float]:
        """Return measure -> value, in the order of `MEASURES`."""
        return {measure: float(getattr(self, measure)) for measure in MEASURES}


def results_yaml(result: ModelResult, repository: str) -> str:
    """Return the text of ``.eval_results/medmnist.yaml``, with an entry for each measure linked to its task.

    Args:
        result: The scores.
        repository: The data set repository with the tasks, as ``user/name``.
    """
    entries = [
        EvalResultEntry(
            dataset_id=repository,
            task_id=task_id(result.config, measure),
            value=value,
            dataset_revision=result.revision or None,
            date=result.date or None,
            source_url=result.source_url or None,
            source_name=result.source_name or None,
            notes=result.notes or None,
        )
        for measure, value in result.values().items()
    ]
    return to_yaml(eval_result_entries_to_yaml(entries))


def card_results(result: ModelResult, repository: str) -> list[EvalResult]:
    """Return the scores for ``ModelCardData(model_name=..., eval_results=...)``, which writes them as ``model-index``.

    Args:
        result: The scores.
        repository: The data set repository that was loaded, as ``user/name``.
    """
    return [
        EvalResult(
            task_type=TASK_CATEGORY,
            dataset_type=repository,
            dataset_name=catalog.subset(result.flag).python_class,
            dataset_config=result.config,
            dataset_split=TEST_SPLIT,
            dataset_revision=result.revision or None,
            metric_type=MEASURES[measure],
            metric_name=measure.upper(),
            metric_value=value,
            source_url=result.source_url or None,
            source_name=result.source_name or None,
        )
        for measure, value in result.values().items()
    ]
