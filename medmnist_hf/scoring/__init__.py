"""Scores against labels: the official AUC and ACC, further metrics, intervals, comparison, published results.

Example:
    >>> from medmnist_hf.scoring import score
    >>> result = score([0, 1, 1, 0], [0.2, 0.9, 0.4, 0.3], "binary-class")
    >>> result.auc, result.acc
    (1.0, 0.75)
"""

from typing import Any

from medmnist_hf.catalog import Task
from medmnist_hf.scoring.official import Score
from medmnist_hf.scoring.official import score as score_predictions
from medmnist_hf.scoring.predictions import check

__all__ = ["score"]


def score(references: object, scores: object, task: Task | str, **options: Any) -> Score:
    """Check references and scores with `predictions.check` and compute AUC and ACC with `official.score`.

    Args:
        references: True labels of N rows.
        scores: Scores of the same rows.
        task: A `Task`, its value or its official name.
        **options: Options of `predictions.check`, such as ``from_logits``.

    Raises:
        ScoreError: The rows cannot be scored.

    Warns:
        ScoreWarning: The AUC is nan.
    """
    return score_predictions(check(references, scores, task, **options))
