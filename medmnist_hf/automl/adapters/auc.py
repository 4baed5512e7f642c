"""The objective of a search, in its own module because an engine's worker processes import it by name."""

from __future__ import annotations

import numpy as np


def mean_auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return the unweighted mean AUC over classes (one against the rest) or findings, as MedMNIST defines it.

    Args:
        truth: Class ids (N,) or (N, 1), or findings (N, L) of 0 and 1.
        scores: Probabilities (N, K), or (N, L).

    Returns:
        The mean over the columns that have both positive and negative rows.
    """
    from sklearn.metrics import roc_auc_score

    truth = np.asarray(truth)
    hot = truth == 1 if truth.shape == scores.shape else truth.reshape(-1, 1) == np.arange(scores.shape[1])
    ranked = np.flatnonzero(hot.any(0) & ~hot.all(0))
    return float(np.mean([roc_auc_score(hot[:, column], scores[:, column]) for column in ranked]))
