"""kNN: predict from the nearest train images in the space of frozen features."""

from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch.nn.functional import normalize

from medmnist_hf.array_types import FloatArray
from medmnist_hf.catalog import Task
from medmnist_hf.errors import TrainingError, counted
from medmnist_hf.training.methods.base import Fitted, Run
from medmnist_hf.training.methods.features import Features, split_features
from medmnist_hf.training.models.factory import build_model, parameter_counts

VOTE_TEMPERATURE: Final = 0.07
"""Temperature of the neighbors' votes, as in Wu et al. (see `nearest_neighbors`)."""

TIE: Final = 1e-6
"""Cosine similarities that differ by less count as equal; in float32, duplicates differ by less."""

BLOCK: Final = 2**22
"""Number of similarities computed at a time: 16 MiB of float32."""


def fit(run: Run, seed: int, folder: Path) -> Fitted:
    """Score images by the nearest train images in the space of frozen features."""
    recipe, entry = run.recipe, run.recipe.subset
    _check_neighbors(recipe.neighbors, len(run.labels("train")))
    built = build_model(recipe)
    run.describe(built, trained=0)
    features = split_features(run, built, ("train", *run.scored))
    scores = {
        split: nearest_neighbors(features["train"], features[split], entry.task, len(entry.labels), recipe.neighbors)
        for split in run.scored
    }
    facts = {
        "origin": built.origin,
        "image_size": built.image_size,
        "parameters": parameter_counts(built.model)[0],
        "trained_parameters": 0,
        "neighbors": recipe.neighbors,
        "features": features["train"].origin,
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
    """Score samples by the labels of their nearest train samples in cosine distance, weighted by similarity.

    The weight of a neighbor is ``exp(similarity / 0.07)``, as in Wu et al., "Unsupervised feature learning via
    non-parametric instance discrimination", CVPR 2018, which gives scores that are fine enough for an AUC. Train
    samples that tie with the last neighbor vote too, so scores do not depend on the order of train.

    Args:
        train: Features of train, with labels.
        queries: Features to score.
        task: The task.
        classes: Number of classes or findings.
        neighbors: Number of neighbors that vote.

    Returns:
        Shape (N, K): fraction of votes per class, or probability of each finding.

    Raises:
        TrainingError: There are fewer train samples than neighbors.
    """
    _check_neighbors(neighbors, len(train.values))
    hot = train.labels if task is Task.MULTI_LABEL else np.eye(classes)[train.labels]
    votes = torch.from_numpy(hot).to(torch.float32)
    keys = normalize(torch.from_numpy(train.values)).T
    scores = []
    for block in torch.split(torch.from_numpy(queries.values), max(1, BLOCK // len(train.values))):
        similarity = normalize(block) @ keys
        last = similarity.topk(neighbors).values[:, -1:]
        weight = torch.exp((similarity - similarity.amax(1, keepdim=True)) / VOTE_TEMPERATURE)
        weight = weight.where(similarity >= last - TIE, 0.0)
        scores.append(weight @ votes / weight.sum(1, keepdim=True))
    return torch.cat(scores).double().clamp(max=1).numpy()  # rounding of float32 sums may exceed 1


def _check_neighbors(neighbors: int, samples: int) -> None:
    if neighbors > samples:
        raise TrainingError(
            f"neighbors is {neighbors} but train has {counted(samples, 'sample')}: use fewer neighbors"
        )
