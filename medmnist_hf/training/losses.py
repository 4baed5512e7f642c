"""Losses by task, and the scores that a network's outputs stand for.

A network has one output per class or finding. Only with the ordinal loss, K grades have K - 1 outputs. A network for
several subsets has the outputs of each side by side; its heads are the loss and the number of classes of each.

The labels of a batch from several subsets are float32 (B, 1 + W), W the most classes of a subset: the position of the
row's subset, then its class id or its findings, then zeros.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from medmnist_hf.errors import TrainingError

LossFunction = Callable[[Tensor, Tensor], Tensor]
Heads = Sequence[tuple[str, int]]


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


def make_joint_loss(
    heads: Heads,
    labels: Sequence[npt.NDArray[Any]],
    *,
    joint_head: bool = False,
    weighted: bool = False,
    smoothing: float = 0.0,
) -> LossFunction:
    """Make the loss function for several subsets: the mean over the rows of a batch, each with the loss of its subset.

    Args:
        heads: Loss and number of classes of each subset.
        labels: Labels of the train split of each subset, as for `make_loss`.
        joint_head: Take one cross-entropy over the classes of all subsets instead; each loss must be cross-entropy.
        weighted: As for `make_loss`, within each subset; with `joint_head`, over all classes.
        smoothing: As for `make_loss`; with `joint_head`, over the classes of all subsets.

    Returns:
        A function of logits (B, outputs) and labels (B, 1 + W), see above.

    Raises:
        TrainingError: A loss cannot be combined with an option.
    """
    if not joint_head:
        losses = [
            make_loss(loss, own, classes, weighted=weighted, smoothing=smoothing)
            for (loss, classes), own in zip(heads, labels, strict=True)
        ]
        return _JointLoss(heads, losses)
    starts = np.cumsum([0, *(classes for _, classes in heads)])
    ids = np.concatenate([start + own for start, own in zip(starts, labels, strict=False)])
    loss = make_loss("cross-entropy", ids, int(starts[-1]), weighted=weighted, smoothing=smoothing)
    first = torch.from_numpy(starts)

    def joint_loss(logits: Tensor, rows: Tensor) -> Tensor:
        subsets = rows[:, 0].long()
        return loss(logits, first.to(rows.device)[subsets] + rows[:, 1].long())

    return joint_loss


class _JointLoss:
    def __init__(self, heads: Heads, losses: Sequence[LossFunction]) -> None:
        self.heads, self.losses = heads, losses

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        total = torch.zeros((), device=logits.device)
        for number, ((kind, classes), columns) in enumerate(columns_of_heads(self.heads)):
            rows = (labels[:, 0] == number).nonzero().squeeze(1)
            if len(rows):
                own = labels[rows, 1 : 1 + classes] if kind == "bce" else labels[rows, 1].long()
                total = total + self.losses[number](logits[rows, columns], own) * len(rows)
        return total / len(labels)


def columns_of_heads(heads: Heads) -> Iterator[tuple[tuple[str, int], slice]]:
    """Yield each head with its columns among a network's outputs."""
    start = 0
    for loss, classes in heads:
        end = start + output_count(loss, classes)
        yield (loss, classes), slice(start, end)
        start = end


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


def to_joint_scores(logits: npt.NDArray[Any], heads: Heads) -> npt.NDArray[np.float64]:
    """Convert the outputs of a network for several subsets: the scores of each subset side by side, (N, sum of K)."""
    return np.concatenate([to_scores(logits[:, columns], loss) for (loss, _), columns in columns_of_heads(heads)], 1)


def _balance(labels: npt.NDArray[Any], classes: int) -> npt.NDArray[np.float64]:
    counts = np.bincount(labels, minlength=classes)
    return np.asarray(np.minimum(len(labels) / (classes * np.maximum(counts, 1)), 100.0))


def _positive_weights(labels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    positives = np.maximum(labels.sum(0, dtype=np.int64), 1)
    return np.asarray(np.minimum((len(labels) - positives) / positives, 100.0))
