"""The linear probe: frozen features and a linear classifier, solved to convergence and made the model's own."""

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
from medmnist_hf.scoring.official import ScoreWarning, score
from medmnist_hf.scoring.predictions import check
from medmnist_hf.training.losses import to_scores
from medmnist_hf.training.methods.base import Fitted, Run
from medmnist_hf.training.methods.features import Features, split_features
from medmnist_hf.training.models.factory import build_model, parameter_counts
from medmnist_hf.training.models.heads import classifier_of
from medmnist_hf.training.models.saving import Built

STRENGTHS: Final = tuple(10.0**power for power in range(-5, 2))
"""Inverse strengths C of the probe's L2 penalty that are tried, as scikit-learn counts them."""

TOLERANCE: Final = 1e-6
"""Largest gradient of the mean loss at which the solver has converged; scores then move by less than 0.01."""

MOST_STEPS: Final = 5000
"""Iterations that the solver may take until it has converged."""

NEVER: Final = 30.0
"""Minus the logit of what train never shows."""


def fit(run: Run, seed: int, folder: Path) -> Fitted:
    """Fit a linear classifier on frozen features and make it the model's own."""
    recipe = run.recipe
    built = build_model(recipe)
    run.describe(built.model, built.origin, trained=parameter_counts(classifier_of(built.model)[1])[0])
    probe, features = probe_model(run, built, ("train", *run.scored))
    loss = recipe.resolved_loss
    scores = {split: to_scores(probe.logits(features[split]), loss) for split in run.scored}
    facts = {
        "origin": built.origin,
        "parameters": parameter_counts(built.model)[0],
        "trained_parameters": probe.weight.size + probe.bias.size,
        "strength": probe.strength,
        "tried": {f"{strength:g}": auc for strength, auc in probe.tried.items()},
    }
    return Fitted(scores, facts, built)


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A linear classifier on features.

    Attributes:
        weight: float64 of shape (outputs, F), on features as they are.
        bias: float64 of shape (outputs,).
        strength: The C of `STRENGTHS` that validation chose.
        tried: C -> validation AUC.
    """

    weight: FloatArray
    bias: FloatArray
    strength: float
    tried: dict[float, float]

    def logits(self, features: Features) -> FloatArray:
        """Logits of shape (N, outputs): their softmax, or the sigmoid of each finding, are the scores."""
        return np.asarray(features.values @ self.weight.T + self.bias)


def fit_probe(train: Features, validation: Features, task: Task, classes: int, *, balanced: bool = False) -> Probe:
    """Logistic regression with an L2 penalty whose strength has the best AUC on validation.

    Features are standardized by train, and the probe is put back into their own units; a feature that is constant in
    train has no weight. The multi-label task is one regression a finding; the others one softmax over all classes. A
    class that train does not show is never predicted. Of strengths with the same AUC the stronger penalty is taken.

    Each strength starts from the solution of the one before. The grid ends early where a solver has not converged.

    Args:
        train: Features to fit.
        validation: Features to choose by.
        task: What is predicted.
        classes: Number of classes or findings.
        balanced: Weight classes by the inverse of their frequency.

    Raises:
        TrainingError: Train has one class alone, validation has no AUC, or no solver converged.
    """
    inputs, mean, spread = _standardized(train.values)
    constants, problems = _problems(train.labels, task, classes)
    weights = "balanced" if balanced else None
    solvers = [
        LogisticRegression(tol=TOLERANCE, max_iter=MOST_STEPS, class_weight=weights, warm_start=True) for _ in problems
    ]
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
        auc = _auc(validation, probe, task)
        if best is None or auc > tried[best.strength]:
            best = probe
        tried[strength] = auc
    if best is None:
        raise TrainingError(f"the linear probe did not converge in {MOST_STEPS} steps: check the features")
    return best


def _standardized(values: npt.NDArray[np.float32]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Values of mean 0 and variance 1 in float64, and the mean and spread of each feature.

    A constant, also one that wavers by the rounding of float32, becomes 0 by an infinite spread.
    """
    inputs = values.astype(np.float64)
    mean = inputs.mean(0)
    inputs -= mean
    spread = np.sqrt(np.einsum("nf,nf->f", inputs, inputs) / len(inputs))
    spread[spread <= 1e-6 * np.abs(mean)] = np.inf
    inputs /= spread
    return inputs, mean, spread


def _problems(labels: Int64Array, task: Task, classes: int) -> tuple[FloatArray, list[tuple[Int64Array, Int64Array]]]:
    """Biases of outputs that need no regression, and for each regression the outputs it gives and its targets."""
    bias = np.full(classes, -NEVER)
    if task is Task.MULTI_LABEL:
        bias[labels.all(0)] = NEVER
        mixed = np.flatnonzero(labels.any(0) & ~labels.all(0))
        return bias, [(np.array([at]), labels[:, at]) for at in mixed]
    present = np.unique(labels)
    if len(present) < 2:
        raise TrainingError(f"train has class {present[0]} alone: a probe needs two classes or more")
    if len(present) == 2:  # one regression gives the log-odds of the second against the first
        bias[present[0]] = 0.0
        return bias, [(present[1:], labels)]
    return bias, [(present, labels)]


def _solve(solver: Any, strength: float, inputs: FloatArray, targets: Int64Array) -> None:
    """Fit, from where the solver stands; raises a `ConvergenceWarning` where it does not converge."""
    solver.C = strength
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        solver.fit(inputs, targets)


def _auc(validation: Features, probe: Probe, task: Task) -> float:
    """AUC on validation, over the classes that it can rank."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ScoreWarning)
            auc = score(check(validation.labels, probe.logits(validation), task, from_logits=True)).auc
    except ScoreError as error:
        raise TrainingError(f"cannot choose the probe on validation: {error}") from None
    if math.isnan(auc):
        raise TrainingError("cannot choose the probe on validation: no class has positive and negative rows there")
    return auc


def with_classifier(model: nn.Module, weight: FloatArray, bias: FloatArray) -> nn.Module:
    """The model with the weights of its classifier exchanged in place, so that it predicts what a probe does.

    Args:
        model: The model whose features the probe was fitted to.
        weight: Shape (outputs, F).
        bias: Shape (outputs,).

    Raises:
        TrainingError: The classifier has no bias, or other outputs.
    """
    name, classifier = classifier_of(model)
    old: Any = classifier
    if old.bias is None or old.weight.flatten(1).shape != weight.shape:
        raise TrainingError(
            f"{name} of {type(model).__name__} cannot hold a probe of {weight.shape}: name another model"
        )
    with torch.no_grad():
        old.weight.copy_(torch.from_numpy(weight).view_as(old.weight))
        old.bias.copy_(torch.from_numpy(bias))
    return model


def probe_model(run: Run, built: Built, splits: Iterable[str]) -> tuple[Probe, dict[str, Features]]:
    """A linear probe, which becomes the classifier of the model, and the features of some splits.

    Args:
        run: What to do.
        built: The model.
        splits: The splits, among them train and validation.

    Raises:
        TrainingError: As `split_features`, `fit_probe` and `with_classifier`.
    """
    entry, features = run.recipe.subset, split_features(run, built, splits)
    probe = fit_probe(
        features["train"], features["validation"], entry.task, len(entry.labels), balanced=run.recipe.class_weights
    )
    with_classifier(built.model, probe.weight, probe.bias)
    return probe, features
