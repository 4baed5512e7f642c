"""Losses by task, and the scores that a network's outputs stand for.

A network has one output per class or finding. Only with the ordinal loss, K grades have K - 1 outputs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from medmnist_hf.errors import TrainingError

LossFunction = Callable[[Tensor, Tensor], Tensor]


def output_count(loss: str, classes: int) -> int:
    """Number of outputs that a network needs for a number of classes."""
    return classes - 1 if loss == "ordinal" else classes


def make_loss(
    loss: str, labels: npt.NDArray[Any], classes: int, *, weighted: bool = False, smoothing: float = 0.0
) -> LossFunction:
    """Make the loss function, which returns the mean loss over the samples of a batch.

    Args:
        loss: ``cross-entropy``, ``bce`` or ``ordinal``.
        labels: Labels of the train split, class ids of shape (N,) or multi-hot of shape (N, L).
        classes: Number of classes or findings.
        weighted: Weight class k by N / (K n_k) and positives of a finding by negatives / positives, as counted in
            `labels` and capped at 100. The ordinal loss weights samples by their class.
        smoothing: Fraction of the target spread over all classes; binary targets are moved towards one half.

    Returns:
        A function of logits (B, outputs) and labels: class ids (B,), class fractions (B, K) as mixup makes them, or
        findings (B, L) in 0..1.

    Raises:
        TrainingError: The loss cannot be combined with an option.
    """
    if loss == "bce":
        weights = torch.from_numpy(_positive_weights(labels)) if weighted else None
        return _Bce(weights, smoothing)
    weights = torch.from_numpy(_balance(labels, classes)) if weighted else None
    if loss == "ordinal":
        if smoothing:
            raise TrainingError("label_smoothing cannot be combined with the ordinal loss: leave one of them out")
        return _Ordinal(weights)
    return _CrossEntropy(weights, smoothing)


class _CrossEntropy:
    def __init__(self, weights: Tensor | None, smoothing: float) -> None:
        self.weights, self.smoothing = weights, smoothing

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        weights = None if self.weights is None else self.weights.to(logits.device, torch.float32)
        return functional.cross_entropy(logits.float(), labels, weights, label_smoothing=self.smoothing)


class _Bce:
    def __init__(self, weights: Tensor | None, smoothing: float) -> None:
        self.weights, self.smoothing = weights, smoothing

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        targets = labels.float() * (1 - self.smoothing) + self.smoothing / 2
        weights = None if self.weights is None else self.weights.to(logits.device, torch.float32)
        return functional.binary_cross_entropy_with_logits(logits.float(), targets, pos_weight=weights)


class _Ordinal:
    """One threshold between adjacent grades: output k is the log-odds of a grade above k, trained as a binary task.

    As in Niu et al., "Ordinal regression with multiple output CNN for age estimation", CVPR 2016.
    """

    def __init__(self, weights: Tensor | None) -> None:
        self.weights = weights

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        steps = torch.arange(logits.shape[1], device=logits.device)
        if labels.ndim == 2:  # class fractions: sum those above each step
            above = labels.float().flip(1).cumsum(1).flip(1)[:, 1:]
        else:
            above = (labels[:, None] > steps).float()
        losses = functional.binary_cross_entropy_with_logits(logits.float(), above, reduction="none").mean(1)
        if self.weights is None:
            return losses.mean()
        weights = self.weights.to(logits.device, torch.float32)
        weight = labels.float() @ weights if labels.ndim == 2 else weights[labels]
        return (losses * weight).sum() / weight.sum()


def to_scores(logits: npt.NDArray[Any], loss: str) -> npt.NDArray[np.float64]:
    """Convert a network's outputs to the scores of a prediction file.

    Args:
        logits: Shape (N, outputs).
        loss: The loss that the network was trained with.

    Returns:
        Probabilities, float64 of shape (N, K): a softmax, or a sigmoid per finding. With the ordinal loss,
        differences of the probabilities of a grade above each step, first made non-increasing along the grades.
    """
    logits = np.asarray(logits, np.float64)
    if loss == "cross-entropy":
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))
    above = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
    if loss == "bce":
        return np.asarray(above)
    above = np.minimum.accumulate(above, 1)
    edges = np.concatenate([np.ones((len(above), 1)), above, np.zeros((len(above), 1))], 1)
    return np.asarray(edges[:, :-1] - edges[:, 1:])


def _balance(labels: npt.NDArray[Any], classes: int) -> npt.NDArray[np.float64]:
    counts = np.bincount(labels, minlength=classes)
    return np.asarray(np.minimum(len(labels) / (classes * np.maximum(counts, 1)), 100.0))


def _positive_weights(labels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    positives = np.maximum(labels.sum(0, dtype=np.int64), 1)
    return np.asarray(np.minimum((len(labels) - positives) / positives, 100.0))
