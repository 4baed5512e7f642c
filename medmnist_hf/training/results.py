"""What a seed scored and what all seeds of a run came to, as JSON that a report is made of."""

import dataclasses
import json
import logging
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from medmnist_hf.catalog import Task
from medmnist_hf.errors import ScoreError, TrainingError
from medmnist_hf.files import write_atomically
from medmnist_hf.scoring.bootstrap import bootstrap
from medmnist_hf.scoring.metrics import available, measures
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.published import stand
from medmnist_hf.training.recipe import Recipe

_log = logging.getLogger(__name__)

OUTCOME_NAME: Final = "result.json"
HEADLINE: Final = ("auc", "acc")
PER_CLASS: Final = ("auc", "average_precision", "sensitivity", "specificity", "f1")
RELEASES: Final = ("medmnist-hf", "torch", "transformers", "timm", "peft", "accelerate", "scikit-learn", "numpy")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed came to.

    Attributes:
        seed: The seed.
        validation: ``auc`` and ``acc`` on validation, by which choices were made.
        test: Measures on test, and of ``auc`` and ``acc`` the ends of 95 % intervals as ``{name}_low``, ``_high``;
            empty if test was not scored.
        per_class: Name of a label -> its measures on test.
        facts: What the method tells: epochs, what was tried, seconds; and the hardware and releases that it ran on.
    """

    seed: int
    validation: dict[str, float]
    test: dict[str, float]
    per_class: dict[str, dict[str, float]]
    facts: dict[str, Any]

    @property
    def partial(self) -> str:
        """How the search of an AutoML engine was broken off, whose best so far this is; empty as a rule."""
        return str(self.facts.get("partial", ""))


def outcome_of(
    recipe: Recipe,
    seed: int,
    scored: Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[np.float64]]],
    *,
    facts: Mapping[str, Any],
) -> Outcome:
    """Score a seed, once.

    Args:
        recipe: What was done.
        seed: The seed.
        scored: ``validation``, and as a rule ``test`` -> labels and scores.
        facts: What else is to be told.
    """
    entry, facts = recipe.subset, {**facts, "hardware": hardware(), "releases": releases()}
    found = score(*scored["validation"], entry.task, from_logits=False)
    validation = {"auc": found.auc, "acc": found.acc}
    if "test" not in scored:
        return Outcome(seed, validation, {}, {}, facts)
    labels, scores = scored["test"]
    whole = [name for name in available(entry.task) if name not in PER_CLASS and name not in HEADLINE]
    test = dict(measures(labels, scores, entry.task, [*HEADLINE, *whole], from_logits=False))
    test |= _intervals(labels, scores, entry.task)
    ids = [1] if entry.task is Task.BINARY else range(len(entry.labels))
    each = measures(
        labels, scores, entry.task, [f"{name}:{at}" for name in PER_CLASS for at in ids], from_logits=False
    )
    per_class = {entry.labels[at]: {name: each[f"{name}:{at}"] for name in PER_CLASS} for at in ids}
    return Outcome(seed, validation, test, per_class, facts)


def _intervals(labels: npt.NDArray[Any], scores: npt.NDArray[np.float64], task: Task) -> dict[str, float]:
    """Ends of the intervals; nan where rows cannot be resampled, which must not cost what was trained."""
    try:
        found = bootstrap(labels, scores, task, list(HEADLINE), from_logits=False)
    except ScoreError as error:
        _log.warning("no intervals: %s", error)
        return {f"{name}_{end}": math.nan for name in HEADLINE for end in ("low", "high")}
    return {f"{name}_{end}": getattr(interval, end) for name, interval in found.items() for end in ("low", "high")}


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write an outcome into its seed's folder; that it is there says that the seed is done."""
    write_atomically(folder / OUTCOME_NAME, to_json(dataclasses.asdict(outcome)))


def to_json(value: object) -> str:
    """JSON text of a result; numbers that are not finite, such as the AUC of a class without samples, are null."""
    return json.dumps(_finite(value), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_outcome(folder: Path) -> Outcome | None:
    """The outcome in a seed's folder, which may be partial; None if there is none.

    Raises:
        TrainingError: The file is damaged.
    """
    path = folder / OUTCOME_NAME
    if not path.is_file():
        return None
    try:
        return Outcome(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise TrainingError(f"{path} is damaged ({error}): remove it to run the seed again") from None


def summary(recipe: Recipe, outcomes: Sequence[Outcome], ensemble: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All seeds of a run together: means, deviations and the place among the published results.

    ``ensemble`` is what the mean of their scores came to, see `medmnist_hf.training.ensemble`.

    Hardware and releases are those of the last seed, wherever the summary is made, which may be another machine.
    """
    entry, told = recipe.subset, outcomes[-1].facts
    test = {name: _spread([outcome.test[name] for outcome in outcomes]) for name in outcomes[0].test}
    rank = None
    if test:
        standing = stand(entry.flag, test["auc"]["mean"], test["acc"]["mean"])
        rank = {"auc": standing.auc_rank, "acc": standing.acc_rank, "of": standing.places}
    return {
        "dataset": entry.flag,
        "size": recipe.size,
        "model": recipe.model,
        "method": recipe.method,
        "recipe": dataclasses.asdict(recipe),
        "validation": {name: _spread([outcome.validation[name] for outcome in outcomes]) for name in HEADLINE},
        "test": test,
        "rank": rank,
        "ensemble": ensemble,
        "runs": [dataclasses.asdict(outcome) for outcome in outcomes],
        "hardware": told.get("hardware") or hardware(),
        "releases": told.get("releases") or releases(),
    }


def check_whole(results: Mapping[str, Any]) -> None:
    """Raise a `TrainingError` if a seed of a run's results is partial: they are kept, but the run is not done."""
    broken = [f"seed {run['seed']} {run['facts']['partial']}" for run in results["runs"] if "partial" in run["facts"]]
    if broken:
        raise TrainingError(f"results are partial ({'; '.join(broken)}): run the same command again to go on")


def _spread(found: Sequence[float | None]) -> dict[str, float]:
    """Mean, and the standard deviation of a sample; 0 for one value, nan where a value does not exist."""
    values = [math.nan if value is None else value for value in found]  # null in the files of seeds that are done
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "std": spread}


def releases() -> dict[str, str]:
    """Library -> its release, of those that results depend on."""
    return {name: version(name) for name in RELEASES}


def hardware() -> dict[str, Any]:
    """The processor, the cores that may be used, and the GPUs."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())],
    }
