"""Test results of a model in the forms that the Hub reads from a model's repository, linked to a data set's tasks.

There are two: a file below ``.eval_results/`` (https://huggingface.co/docs/hub/eval-results) and, older, the
``model-index`` of a model card. A task of the first holds one value, so AUC and ACC of each size have a task each;
``eval.yaml`` in the repository of a data set lists them.
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
"""Where the text of `results_yaml` goes in a model's repository."""

MEASURES: Final = {"auc": "roc_auc", "acc": "accuracy"}
"""Measure that a task may hold -> the Hub's name of that metric."""

TASK_CATEGORY: Final = "image-classification"
"""What the Hub calls the task of every subset, volumes included."""

TEST_SPLIT: Final = "test"


def to_yaml(value: object) -> str:
    """YAML as the Hub's client writes it, with keys in their order."""
    return str(utils.yaml_dump(value, sort_keys=False))  # type: ignore[attr-defined]


def task_id(size: int, measure: str) -> str:
    """Identifier of the task of one size and measure within a subset's repository, e.g. ``28_auc``."""
    return f"{size}_{measure}"


@dataclass(frozen=True, slots=True)
class ModelResult:
    """What a model reached on the test split of a subset in one size, by the official metric.

    Attributes:
        flag: Flag of the subset.
        size: Edge length in pixels or voxels.
        auc: AUC, 0 to 1.
        acc: ACC, 0 to 1.
        provenance: What the data is that it was measured on. Only verified data has the name of the subset: a score
            on a phantom or an altered file is none of its task.
        date: When it was measured, an ISO 8601 date or time; empty for the date of the commit.
        source_url: Where the run can be looked at; empty for nowhere.
        source_name: What to call that place; empty for its address.
        notes: How it was measured, in a few words.
        revision: Commit of the data set's repository, 40 hex digits; empty where it is not known.

    Raises:
        CatalogError: No such subset, or not in that size.
        ScoreError: The data is not verified, a measure is out of range, the date is none, notes are not one line, or
            a source has no address.
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
            raise ScoreError(f"{where} is of {self.provenance} data: only scores on verified data can be reported")
        for measure, value in self.values().items():
            if not (math.isfinite(value) and 0 <= value <= 1):
                raise ScoreError(f"{where} has the {measure.upper()} {value}: give a number from 0 to 1")
        try:
            datetime.fromisoformat(self.date or "2000-01-01")
        except ValueError:
            raise ScoreError(f"{where} has the date {self.date!r}: write it as 2026-01-31") from None
        if not self.notes.isprintable():
            raise ScoreError(f"{where} has notes with line ends or control characters: write one line of text")
        if self.source_name and not self.source_url:
            raise ScoreError(f"{where} names the source {self.source_name!r} without its address: give source_url")

    def values(self) -> dict[str, float]:
        """Measure -> value, in the order of `MEASURES`."""
        return {measure: float(getattr(self, measure)) for measure in MEASURES}


def results_yaml(result: ModelResult, repository: str) -> str:
    """The text of ``.eval_results/medmnist.yaml``: an entry for each measure, linked to its task.

    Args:
        result: What was reached.
        repository: The repository on the Hub that holds the tasks, as ``user/name``.
    """
    entries = [
        EvalResultEntry(
            dataset_id=repository,
            task_id=task_id(result.size, measure),
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
    """The same for ``ModelCardData(model_name=..., eval_results=...)``, which makes the ``model-index`` of them.

    Args:
        result: What was reached.
        repository: The repository on the Hub that was loaded, as ``user/name``.
    """
    return [
        EvalResult(
            task_type=TASK_CATEGORY,
            dataset_type=repository,
            dataset_name=catalog.subset(result.flag).python_class,
            dataset_config=str(result.size),
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
