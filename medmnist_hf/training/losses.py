"""Losses and decisions by task: what a network's outputs are trained against, and the scores they stand for.

A network has one output a class, or a finding, except under the ordinal loss, where K grades have K - 1 outputs.
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


def outputs_of(loss: str, classes: int) -> int:
    """Number of outputs a network needs for a number of classes."""
    return classes - 1 if loss == "ordinal" else classes


def make_loss(
    loss: str, labels: npt.NDArray[Any], classes: int, *, weighted: bool = False, smoothing: float = 0.0
) -> LossFunction:
    """The loss of a batch: its mean over samples.

    Args:
        loss: ``cross-entropy``, ``bce`` or ``ordinal``.
        labels: Labels of the train split, class ids of shape (N,) or multi-hot of shape (N, L).
        classes: Number of classes or findings.
        weighted: Weight the classes by N / (K n_k), findings by their negatives / positives (both at most 100), as
            counted in `labels`; grades of the ordinal loss by the weight of their class.
        smoothing: Share of the target spread over all classes; binary targets are drawn towards one half.

    Returns:
        A function of logits (B, outputs) and labels: class ids (B,), or shares of classes (B, K) as mixup makes them,
        or findings (B, L) in 0..1.

    Raises:
        TrainingError: The loss does not go with an option.
    """
    if loss == "bce":
        weights = torch.from_numpy(_negatives_a_positive(labels)) if weighted else None
        return _Bce(weights, smoothing)
    weights = torch.from_numpy(_balance(labels, classes)) if weighted else None
    if loss == "ordinal":
        if smoothing:
            raise TrainingError("label_smoothing does not go with the ordinal loss: leave one of them out")
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
    """One threshold a grade: output k is the log-odds of a grade above k, each trained as a binary task.

    The form of Niu et al., "Ordinal regression with multiple output CNN for age estimation", CVPR 2016.
    """

    def __init__(self, weights: Tensor | None) -> None:
        self.weights = weights

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        steps = torch.arange(logits.shape[1], device=logits.device)
        if labels.ndim == 2:  # shares of classes: the share of those above each step
            above = labels.float().flip(1).cumsum(1).flip(1)[:, 1:]
        else:
            above = (labels[:, None] > steps).float()
        each = functional.binary_cross_entropy_with_logits(logits.float(), above, reduction="none").mean(1)
        if self.weights is None:
            return each.mean()
        weights = self.weights.to(logits.device, torch.float32)
        weight = labels.float() @ weights if labels.ndim == 2 else weights[labels]
        return (each * weight).sum() / weight.sum()


def to_scores(logits: npt.NDArray[Any], loss: str) -> npt.NDArray[np.float64]:
    """Outputs of a network -> the scores of a prediction file, float64.

    Args:
        logits: Shape (N, outputs).
        loss: The loss it was trained with.

    Returns:
        Probabilities of shape (N, K): a softmax; a sigmoid for each finding; or under the ordinal loss the
        differences of the probabilities of a grade above each step, made to fall along the grades first.
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


def _negatives_a_positive(labels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    positives = np.maximum(labels.sum(0, dtype=np.int64), 1)
    return np.asarray(np.minimum((len(labels) - positives) / positives, 100.0))
