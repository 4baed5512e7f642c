"""kNN: the nearest train images vote, in the space of frozen features."""

from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch.nn.functional import normalize

from medmnist_hf.array_types import FloatArray
from medmnist_hf.catalog import Task
from medmnist_hf.errors import TrainingError
from medmnist_hf.training.methods.base import Fitted, Run
from medmnist_hf.training.methods.features import Features, split_features
from medmnist_hf.training.models.factory import build_model, parameter_counts

VOTE_TEMPERATURE: Final = 0.07
"""Temperature of the votes of neighbors, that of Wu et al. (see `nearest_neighbors`)."""

TIE: Final = 1e-6
"""Cosine similarities nearer than this are equal: float32 tells duplicates apart by less."""

BLOCK: Final = 2**22
"""Similarities that are computed at once; 16 MiB of float32."""


def fit(run: Run, seed: int, folder: Path) -> Fitted:
    """Let the nearest train images vote, in the space of frozen features."""
    recipe, entry = run.recipe, run.recipe.subset
    built = build_model(recipe)
    run.describe(built.model, built.origin, trained=0)
    features = split_features(run, built, ("train", *run.scored))
    scores = {
        split: nearest_neighbors(features["train"], features[split], entry.task, len(entry.labels), recipe.neighbors)
        for split in run.scored
    }
    facts = {
        "origin": built.origin,
        "parameters": parameter_counts(built.model)[0],
        "trained_parameters": 0,
        "neighbors": recipe.neighbors,
    }
    return Fitted(scores, facts)


@torch.inference_mode()
def nearest_neighbors(
    train: Features,
    queries: Features,
    task: Task,
    classes: int,
    neighbors: int,
) -> FloatArray:
    """Scores by the labels of the nearest train samples in cosine distance, each vote weighted by its similarity.

    The weight of a neighbor is ``exp(similarity / 0.07)``, as in Wu et al., "Unsupervised feature learning via
    non-parametric instance discrimination", CVPR 2018; so scores are fine enough to rank for an AUC. Train samples
    that are as near as the last neighbor vote too, so that no score depends on the order of train.

    Args:
        train: Features with known labels.
        queries: Features to score.
        task: What is predicted.
        classes: Number of classes or findings.
        neighbors: How many neighbors vote.

    Returns:
        Shape (N, K): share of each class, or probability of each finding.

    Raises:
        TrainingError: There are fewer train samples than neighbors.
    """
    if neighbors > len(train.values):
        raise TrainingError(f"neighbors is {neighbors} but train has {len(train.values)} samples: take fewer")
    hot = train.labels if task is Task.MULTI_LABEL else np.eye(classes)[train.labels]
    votes = torch.from_numpy(hot).to(torch.float32)
    keys = normalize(torch.from_numpy(train.values)).T
    scores = []
    for block in torch.split(torch.from_numpy(queries.values), max(1, BLOCK // len(train.values))):
        near = normalize(block) @ keys
        last = near.topk(neighbors).values[:, -1:]
        weight = torch.exp((near - near.amax(1, keepdim=True)) / VOTE_TEMPERATURE).where(near >= last - TIE, 0.0)
        scores.append(weight @ votes / weight.sum(1, keepdim=True))
    return torch.cat(scores).double().clamp(max=1).numpy()  # float32 sums may pass it by their rounding
