"""What a search maximizes; a module of its own since the processes of an engine import it by name, as no script is."""

from __future__ import annotations

import numpy as np


def mean_auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Unweighted mean of the AUCs of each class against the rest, or of each finding, as MedMNIST defines it.

    Args:
        truth: Class ids (N,) or (N, 1), or findings (N, L) of 0 and 1.
        scores: Probabilities (N, K), or (N, L).

    Returns:
        The mean over the columns in which both answers occur.
    """
    from sklearn.metrics import roc_auc_score

    truth = np.asarray(truth)
    hot = truth == 1 if truth.shape == scores.shape else truth.reshape(-1, 1) == np.arange(scores.shape[1])
    ranked = np.flatnonzero(hot.any(0) & ~hot.all(0))
    return float(np.mean([roc_auc_score(hot[:, at], scores[:, at]) for at in ranked]))
