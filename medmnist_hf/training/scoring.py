"""Score a seed once, on validation and test, and sum up the seeds of a run."""

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
from medmnist_hf.scoring.published import stand
from medmnist_hf.training.losses import to_scores
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.results import (
    HEADLINE,
    DataRecord,
    EnsembleResult,
    Facts,
    Hardware,
    Measures,
    Rank,
    RunResult,
    SeedResult,
    Spread,
)

RELEASES: Final = ("medmnist-hf", "torch", "transformers", "timm", "peft", "accelerate", "scikit-learn", "numpy")


def check_scores(recipe: Recipe, labels: Array, scores: FloatArray) -> Predictions:
    """Labels and scores of a split, checked.

    Args:
        recipe: What was run.
        labels: Class ids, shape (N,), or findings, shape (N, L).
        scores: Shape (N, K).

    Raises:
        DivergenceError: Scores are not finite.
        ScoreError: The scores cannot be scored.
    """
    entry = recipe.subset
    lost = int((~np.isfinite(scores).all(1)).sum())
    if lost:
        raise DivergenceError(
            f"{recipe.method} with {recipe.model} gave scores that are not finite for {lost} of {len(scores)} images: "
            "check the weights that it starts from and its options"
        )
    return check(labels, scores, entry.task, from_logits=False, num_classes=len(entry.labels))


def score_seed(
    recipe: Recipe, seed: int, predictions: Mapping[str, Predictions], *, facts: Mapping[str, Any], data: DataRecord
) -> SeedResult:
    """Score a seed, once.

    Args:
        recipe: What was run.
        seed: The seed.
        predictions: ``validation`` and, unless configurations are still compared, ``test`` -> its predictions.
        facts: What the method reports, by name; hardware and releases are added.
        data: What was read.
    """
    result = score_splits(recipe, predictions)
    known = Facts.from_json_value({**facts, "hardware": hardware(), "releases": releases()})
    return SeedResult(seed, result.validation, result.test, result.per_class, known, data, result.intervals)


def score_splits(recipe: Recipe, predictions: Mapping[str, Predictions]) -> EnsembleResult:
    """Score one set of scores on validation and, with intervals, on test.

    Args:
        recipe: What was run.
        predictions: As for `score_seed`.
    """
    entry = recipe.subset
    exact = score(predictions["validation"])
    validation = Measures(auc=exact.auc, acc=exact.acc)
    if "test" not in predictions:
        return EnsembleResult(validation, Measures(), {})
    whole = [name for name in available(entry.task) if name not in CLASSWISE and name not in HEADLINE]
    test = Measures(metrics(predictions["test"], [*HEADLINE, *whole]))
    spans = intervals(predictions["test"], HEADLINE)
    test.update({f"{name}_{end}": getattr(span, end) for name, span in spans.items() for end in ("low", "high")})
    ids = predictions["test"].class_ids
    each = metrics(predictions["test"], [f"{name}:{at}" for name in CLASSWISE for at in ids])
    per_class = {entry.labels[at]: {name: each[f"{name}:{at}"] for name in CLASSWISE} for at in ids}
    return EnsembleResult(validation, test, per_class, {name: span.method for name, span in spans.items()})


def metrics_of(recipe: Recipe) -> Callable[[EvalPrediction], dict[str, float]]:
    """AUC and ACC of logits, as a trainer asks for them; nan where logits are not finite.

    What `medmnist_hf.metric` computes, without the library `evaluate` around it, which takes half a second to import.
    """
    loss, config = recipe.resolved_loss, resolve(recipe.dataset)

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        if not np.isfinite(prediction.predictions).all():
            return dict.fromkeys(("auc", "acc"), math.nan)
        references = np.asarray(prediction.label_ids).astype(np.int64)
        scores = to_scores(np.asarray(prediction.predictions), loss)
        return report(references, scores, config)

    return compute


def sum_up(recipe: Recipe, seeds: Sequence[SeedResult], ensemble: EnsembleResult | None = None) -> RunResult:
    """All seeds of a run together: means, deviations and the place among the published results.

    Hardware and releases are those of the last seed, wherever this is called, which may be another machine.

    Args:
        recipe: What was run.
        seeds: The seeds, one or more.
        ensemble: What the mean of their scores scored, see `medmnist_hf.training.ensemble`.
    """
    facts, test = seeds[-1].facts, _spreads([one.test for one in seeds])
    result = RunResult(
        recipe,
        _spreads([one.validation for one in seeds]),
        test,
        None,
        ensemble,
        tuple(seeds),
        facts.hardware or hardware(),
        facts.releases or releases(),
    )
    if not test or result.partial:
        return result
    standing = stand(recipe.dataset, test.auc.mean, test.acc.mean, provenance=result.provenance)
    if standing is None or standing.auc_rank is None or standing.acc_rank is None:
        return result
    return replace(result, rank=Rank(standing.auc_rank, standing.acc_rank, standing.places))


def _spreads(seeds: Sequence[Measures[float]]) -> Measures[Spread]:
    return Measures({name: _spread([one[name] for one in seeds]) for name in seeds[0]})


def _spread(values: Sequence[float]) -> Spread:
    mean = float(np.mean(values))
    return Spread(mean, None if len(values) < 2 or math.isnan(mean) else float(np.std(values, ddof=1)))


def releases() -> dict[str, str]:
    """Library -> its release, of those that results depend on."""
    return {name: version(name) for name in RELEASES}


def hardware() -> Hardware:
    """The processor, the cores that may be used, and the GPUs."""
    return Hardware(
        platform.processor() or platform.machine(),
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        tuple(torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())),
    )
