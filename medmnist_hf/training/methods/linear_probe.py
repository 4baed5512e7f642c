"""The linear probe: a linear classifier fitted to frozen features until convergence, and set in the model."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import nn

from medmnist_hf.array_types import FloatArray, Int64Array
from medmnist_hf.catalog import Task
from medmnist_hf.errors import ScoreError, TrainingError
from medmnist_hf.scoring.metrics import LOWER_IS_BETTER, metrics
from medmnist_hf.scoring.official import ScoreWarning
from medmnist_hf.scoring.predictions import check
from medmnist_hf.training.losses import make_loss, to_scores
from medmnist_hf.training.methods.base import Fitted, Run
from medmnist_hf.training.methods.features import Features, split_features
from medmnist_hf.training.models.factory import build_model, parameter_counts
from medmnist_hf.training.models.heads import classifier_of
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.registry import LOSSES

STRENGTHS: Final = tuple(10.0**power for power in range(-5, 2))
"""Values of C to try, the inverse strength of scikit-learn's L2 penalty."""

TOLERANCE: Final = 1e-6
"""Largest gradient of the mean loss at convergence; further steps change scores by less than 0.01."""

MOST_STEPS: Final = 5000
"""Maximum number of iterations of the solver."""

NEVER: Final = 30.0
"""Negative logit of a class or finding that does not occur in train."""


def fit(run: Run, seed: int, folder: Path) -> Fitted:
    """Fit a linear classifier to frozen features and set it in the model."""
    recipe = run.recipe
    built = build_model(recipe)
    run.describe(built, trained=parameter_counts(classifier_of(built.model)[1])[0])
    probe, features = probe_model(run, built, ("train", *run.scored))
    loss = recipe.resolved_loss
    scores = {split: to_scores(probe.logits(features[split]), loss) for split in run.scored}
    facts = {
        "origin": built.origin,
        "image_size": built.image_size,
        "parameters": parameter_counts(built.model)[0],
        "trained_parameters": probe.weight.size + probe.bias.size,
        "strength": probe.strength,
        "tried": {f"{strength:g}": value for strength, value in probe.tried.items()},
        "features": features["train"].origin,
    }
    return Fitted(scores, facts, built)


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A linear classifier on features.

    Attributes:
        weight: float64 of shape (outputs, F), for features that are not standardized.
        bias: float64 of shape (outputs,).
        strength: The C of `STRENGTHS` that is best on validation.
        tried: C -> the validation measure by which it was selected.
    """

    weight: FloatArray
    bias: FloatArray
    strength: float
    tried: dict[float, float]

    def logits(self, features: Features) -> FloatArray:
        """Logits of shape (N, outputs), whose softmax, or sigmoid per finding, gives the scores."""
        return np.asarray(features.values @ self.weight.T + self.bias)


def fit_probe(
    train: Features, validation: Features, task: Task, classes: int, select: str = "auc", *, balanced: bool = False
) -> Probe:
    """Fit a logistic regression with an L2 penalty, selecting the strength that is best on validation.

    Features are standardized by train, and the weights are converted back to the original units. A feature that is
    constant in train gets no weight. The multi-label task uses one regression per finding, other tasks a softmax over
    all classes. A class that does not occur in train is never predicted. If strengths tie, the stronger penalty wins.

    Each fit starts from the solution for the previous strength. The grid ends early if a solver does not converge.

    Args:
        train: Features to fit.
        validation: Features to select on.
        task: The task.
        classes: Number of classes or findings.
        select: The measure to select by: ``loss``, or one of `medmnist_hf.scoring.metrics.available`.
        balanced: Weight classes by their inverse frequency.

    Raises:
        TrainingError: Train has only one class, the measure on validation is undefined, or no solver converged.
    """
    inputs, mean, spread = _standardized(train.values)
    constants, problems = _problems(train.labels, task, classes)
    weights = "balanced" if balanced else None
    solvers = [
        LogisticRegression(tol=TOLERANCE, max_iter=MOST_STEPS, class_weight=weights, warm_start=True) for _ in problems
    ]
    sign = -1 if select in {"loss", *LOWER_IS_BETTER} else 1
    tried: dict[float, float] = {}
    best: Probe | None = None
    for strength in STRENGTHS:
        weight, bias = np.zeros((classes, inputs.shape[1])), constants.copy()
        try:
            for solver, (outputs, targets) in zip(solvers, problems, strict=True):
                _solve(solver, strength, inputs, targets)
                weight[outputs], bias[outputs] = solver.coef_, solver.intercept_
        except ConvergenceWarning:
            break
        weight /= spread
        probe = Probe(weight, bias - weight @ mean, strength, tried)
        tried[strength] = value = _measure(validation, probe, task, select)
        if best is None or sign * value > sign * tried[best.strength]:
            best = probe
    if best is None:
        raise TrainingError(f"the linear probe did not converge in {MOST_STEPS} steps: check the features")
    return best


def _standardized(values: npt.NDArray[np.float32]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Standardize values to mean 0 and variance 1 in float64; also returns mean and standard deviation per feature.

    Features that are constant up to the rounding of float32 get an infinite standard deviation and become 0.
    """
    inputs = values.astype(np.float64)
    mean = inputs.mean(0)
    inputs -= mean
    spread = np.sqrt(np.einsum("nf,nf->f", inputs, inputs) / len(inputs))
    spread[spread <= 1e-6 * np.abs(mean)] = np.inf
    inputs /= spread
    return inputs, mean, spread


def _problems(labels: Int64Array, task: Task, classes: int) -> tuple[FloatArray, list[tuple[Int64Array, Int64Array]]]:
    """The biases of outputs that need no regression, and the outputs and targets of each regression."""
    bias = np.full(classes, -NEVER)
    if task is Task.MULTI_LABEL:
        bias[labels.all(0)] = NEVER
        mixed = np.flatnonzero(labels.any(0) & ~labels.all(0))
        return bias, [(np.array([at]), labels[:, at]) for at in mixed]
    present = np.unique(labels)
    if len(present) < 2:
        raise TrainingError(f"train has only class {present[0]}: a probe needs two classes or more")
    if len(present) == 2:  # one regression: the log-odds of the second class against the first
        bias[present[0]] = 0.0
        return bias, [(present[1:], labels)]
    return bias, [(present, labels)]


def _solve(solver: Any, strength: float, inputs: FloatArray, targets: Int64Array) -> None:
    """Fit from the solver's current solution. Raises `ConvergenceWarning` if it does not converge."""
    solver.C = strength
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        solver.fit(inputs, targets)


def _measure(validation: Features, probe: Probe, task: Task, name: str) -> float:
    """The loss or a measure on validation, over the classes for which it is defined."""
    logits = probe.logits(validation)
    if name == "loss":
        loss = make_loss(LOSSES[task][0], validation.labels, logits.shape[1])
        return float(loss(torch.from_numpy(logits), torch.from_numpy(validation.labels)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ScoreWarning)
            predictions = check(validation.labels, logits, task, from_logits=True)
            value = metrics(predictions, [name])[name]
    except ScoreError as error:
        raise TrainingError(f"cannot select the probe on validation: {error}") from None
    if math.isnan(value):
        raise TrainingError(f"cannot select the probe on validation: {name} is undefined there")
    return value


def set_classifier(model: nn.Module, weight: FloatArray, bias: FloatArray) -> nn.Module:
    """Overwrite the classifier of a model in place with the weights of a probe.

    Args:
        model: The model to whose features the probe was fitted.
        weight: Shape (outputs, F).
        bias: Shape (outputs,).

    Raises:
        TrainingError: The classifier has no bias or another shape.
    """
    name, layer = classifier_of(model)
    classifier: Any = layer
    if classifier.bias is None or classifier.weight.flatten(1).shape != weight.shape:
        raise TrainingError(
            f"{name} of {type(model).__name__} cannot hold a probe of {weight.shape}: name another model"
        )
    with torch.no_grad():
        classifier.weight.copy_(torch.from_numpy(weight).view_as(classifier.weight))
        classifier.bias.copy_(torch.from_numpy(bias))
    return model


def probe_model(run: Run, built: Built, splits: Iterable[str]) -> tuple[Probe, dict[str, Features]]:
    """Fit a linear probe and set it as the classifier of the model; also returns the features of the splits.

    Args:
        run: The run.
        built: The model.
        splits: The splits, including train and validation.

    Raises:
        TrainingError: As for `split_features`, `fit_probe` and `set_classifier`.
    """
    entry, features = run.recipe.subset, split_features(run, built, splits)
    probe = fit_probe(
        *(features["train"], features["validation"], entry.task, len(entry.labels), run.recipe.select),
        balanced=run.recipe.class_weights,
    )
    set_classifier(built.model, probe.weight, probe.bias)
    return probe, features
