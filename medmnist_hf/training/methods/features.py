"""Extract frozen features, the inputs of a network's classifier, for the methods that work on them.

The network is in evaluation mode: there is no dropout, and batch norms keep their statistics.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from medmnist_hf.array_types import Int64Array
from medmnist_hf.errors import TrainingError
from medmnist_hf.training.data.recipe_transforms import input_transform, memory_format
from medmnist_hf.training.methods.base import Run
from medmnist_hf.training.models.heads import pooled_features
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.registry import METHODS


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Features of a split.

    Attributes:
        values: float32 of shape (N, F).
        labels: int64 of shape (N,), or multi-hot of shape (N, L).
    """

    values: npt.NDArray[np.float32]
    labels: Int64Array


@torch.inference_mode()
def extract(
    model: nn.Module,
    batches: Iterable[Mapping[str, torch.Tensor]],
    device: torch.device,
) -> Features:
    """Extract the features of all batches, in order.

    Args:
        model: A model of `medmnist_hf.training.models`. It is moved to the device and set to evaluation mode; weights
            and statistics do not change.
        batches: Batches of ``pixel_values`` and ``labels``.
        device: Device to compute on.

    Raises:
        TrainingError: The model has no linear classifier, or its logits are not finite.
    """
    model.eval().to(device)
    values, labels = [], []
    for batch in batches:
        values.append(pooled_features(model, batch["pixel_values"].to(device)).float().cpu().numpy())
        labels.append(batch["labels"].cpu().numpy())
    return Features(np.concatenate(values), np.concatenate(labels).astype(np.int64))


def split_features(run: Run, built: Built, splits: Iterable[str]) -> dict[str, Features]:
    """Extract the features of the given splits: split -> features.

    Raises:
        TrainingError: The loss is ordinal, for which there is no classifier on frozen features; or as for `extract`.
    """
    if run.recipe.resolved_loss == "ordinal":
        methods = " or ".join(name for name, method in METHODS.items() if method.trains)
        raise TrainingError(f"loss ordinal is not for frozen features: use {methods} without probe_first")
    run.claim()
    model: Any = built.model  # torch's stubs lack the memory format of modules
    model.to(memory_format=memory_format(run.recipe))
    transform = input_transform(run.recipe, built.mean, built.std, built.image_size)
    return {split: extract(built.model, run.batches(split, transform), run.device) for split in splits}
