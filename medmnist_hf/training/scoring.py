"""Score a seed on validation and test, and summarize the seeds of a run."""

import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import torch
from transformers import EvalPrediction

from medmnist_hf.array_types import Array, FloatArray
from medmnist_hf.errors import DivergenceError
from medmnist_hf.evaluate_module.report import report, resolve
from medmnist_hf.scoring.intervals import intervals
from medmnist_hf.scoring.metrics import CLASSWISE, available, metrics
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import Predictions, check
from medmnist_hf.training.losses import columns_of_heads, to_scores
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.results import (
    HEADLINE,
    DataRecord,
    EnsembleResult,
    Facts,
    Hardware,
    Measures,
    RunResult,
    SeedResult,
    Spread,
)
from medmnist_hf.training.standing import rank_of

RELEASES: Final = ("medmnist-hf", "torch", "transformers", "timm", "peft", "accelerate", "scikit-learn", "numpy")


def check_scores(recipe: Recipe, labels: Array, scores: FloatArray) -> Predictions:
    """Check the scores of a split against its labels.

    Args:
        recipe: The recipe that was run.
        labels: Class ids, shape (N,), or findings, shape (N, L).
        scores: Shape (N, K).

    Raises:
        DivergenceError: Scores are not finite.
        ScoreError: The scores do not fit the labels or the task.
    """
    entry = recipe.subset
    not_finite = int((~np.isfinite(scores).all(1)).sum())
    if not_finite:
        raise DivergenceError(
            f"{recipe.method} with {recipe.model} gave scores that are not finite for {not_finite} of {len(scores)} "
            "images: check its initial weights and options"
        )
    return check(labels, scores, entry.task, from_logits=False, num_classes=len(entry.labels))


def score_seed(
    recipe: Recipe, seed: int, predictions: Mapping[str, Predictions], *, facts: Mapping[str, Any], data: DataRecord
) -> SeedResult:
    """Score a seed.

    Args:
        recipe: The recipe that was run.
        seed: The seed.
        predictions: ``validation`` and, if the recipe scores it, ``test`` -> predictions.
        facts: Values that the method reports, by name; hardware and releases are added.
        data: The data that was read.
    """
    result = score_splits(recipe, predictions)
    typed_facts = Facts.from_json_value({**facts, "hardware": hardware(), "releases": releases()})
    return SeedResult(seed, result.validation, result.test, result.per_class, typed_facts, data, result.intervals)


def score_splits(recipe: Recipe, predictions: Mapping[str, Predictions]) -> EnsembleResult:
    """Compute measures on validation and, with confidence intervals, on test.

    Args:
        recipe: The recipe that was run.
        predictions: As for `score_seed`.
    """
    entry = recipe.subset
    exact = score(predictions["validation"])
    validation = Measures(auc=exact.auc, acc=exact.acc)
    if "test" not in predictions:
        return EnsembleResult(validation, Measures(), {})
    further = [name for name in available(entry.task) if name not in CLASSWISE and name not in HEADLINE]
    test = Measures(metrics(predictions["test"], [*HEADLINE, *further]))
    spans = intervals(predictions["test"], HEADLINE)
    test.update({f"{name}_{end}": getattr(span, end) for name, span in spans.items() for end in ("low", "high")})
    ids = predictions["test"].class_ids
    classwise = metrics(predictions["test"], [f"{name}:{at}" for name in CLASSWISE for at in ids])
    per_class = {entry.labels[at]: {name: classwise[f"{name}:{at}"] for name in CLASSWISE} for at in ids}
    return EnsembleResult(validation, test, per_class, {name: span.method for name, span in spans.items()})


def make_compute_metrics(recipe: Recipe) -> Callable[[EvalPrediction], dict[str, float]]:
    """The ``compute_metrics`` of a trainer: AUC, ACC and ``select`` of logits, nan if logits are not finite.

    For several subsets, they are means over the subsets. It computes the same as `medmnist_hf.metric` without the
    library `evaluate`, which takes half a second to import.
    """
    if recipe.is_joint:
        return _joint_compute_metrics(recipe)
    loss, config = recipe.resolved_loss, resolve(recipe.dataset)
    measures = [] if recipe.select in {"loss", *HEADLINE} else [recipe.select]

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        if not np.isfinite(prediction.predictions).all():
            return dict.fromkeys((*HEADLINE, *measures), math.nan)
        references = np.asarray(prediction.label_ids).astype(np.int64)
        scores = to_scores(np.asarray(prediction.predictions), loss)
        return report(references, scores, config, measures=measures)

    return compute


def _joint_compute_metrics(recipe: Recipe) -> Callable[[EvalPrediction], dict[str, float]]:
    """The means over subsets of the same measures, each computed among the rows and the outputs of its subset."""
    each = [make_compute_metrics(part) for part in recipe.parts]

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        logits, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
        tables = []
        for number, ((loss, classes), columns) in enumerate(columns_of_heads(recipe.heads)):
            rows = labels[:, 0] == number
            own = labels[rows, 1 : 1 + classes] if loss == "bce" else labels[rows, 1]
            tables.append(each[number](EvalPrediction(predictions=logits[rows, columns], label_ids=own)))
        return {name: float(np.mean([table[name] for table in tables])) for name in tables[0]}

    return compute


def summarize(recipe: Recipe, seeds: Sequence[SeedResult], ensemble: EnsembleResult | None = None) -> RunResult:
    """Summarize the seeds of a run: means, standard deviations and ranks among the published results.

    Hardware and releases are taken from the last seed, since this may be called on another machine.

    Args:
        recipe: The recipe that was run.
        seeds: Results of the seeds, one or more.
        ensemble: Result of the mean of their scores, see `medmnist_hf.training.sessions.ensemble`.
    """
    facts, test = seeds[-1].facts, spreads([seed.test for seed in seeds])
    result = RunResult(
        recipe,
        spreads([seed.validation for seed in seeds]),
        test,
        None,
        ensemble,
        tuple(seeds),
        facts.hardware or hardware(),
        facts.releases or releases(),
    )
    return replace(result, rank=rank_of(result))


def spreads(seeds: Sequence[Measures[float]]) -> Measures[Spread]:
    """Mean and standard deviation of each measure over the seeds."""
    return Measures({name: _spread([measures[name] for measures in seeds]) for name in seeds[0]})


def _spread(values: Sequence[float]) -> Spread:
    mean = float(np.mean(values))
    return Spread(mean, None if len(values) < 2 or math.isnan(mean) else float(np.std(values, ddof=1)))


def releases() -> dict[str, str]:
    """Library -> installed version, for the libraries that affect results."""
    return {name: version(name) for name in RELEASES}


def hardware() -> Hardware:
    """The processor, its usable cores, and the GPUs."""
    return Hardware(
        platform.processor() or platform.machine(),
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        tuple(torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())),
    )
