"""A plain `evaluate` module based on scikit-learn, with which `bench_metric.py` compares ours.

`evaluate.load` loads this file by its path. It scores like the ``roc_auc`` and ``accuracy`` modules of `evaluate`.
"""

from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn.metrics import accuracy_score, roc_auc_score


class PeerMetric(evaluate.Metric):  # type: ignore[misc]
    """AUC and ACC of rows of Python floats, with references as class ids or multi-hot."""

    def _info(self) -> Any:
        scores = datasets.Sequence(datasets.Value("float64"))
        hot = self.config_name == "multilabel"
        truth = datasets.Sequence(datasets.Value("int32")) if hot else datasets.Value("int32")
        features = datasets.Features({"references": truth, "prediction_scores": scores})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, references: Any, prediction_scores: Any) -> dict[str, float]:
        scores = np.array(prediction_scores)
        if self.config_name == "multilabel":
            flagged = scores > 0.5
            return {"auc": roc_auc_score(references, scores), "acc": float(np.mean(flagged == np.array(references)))}
        auc = roc_auc_score(references, scores, multi_class="ovr")
        return {"auc": auc, "acc": accuracy_score(references, scores.argmax(axis=1))}
