"""MedMNIST's official AUC and ACC as an `evaluate` module, computed by `medmnist_hf.scoring.official`."""

from typing import Any

import evaluate

from medmnist_hf.evaluate_module import arrow_metric

_DESCRIPTION = """\
AUC and ACC with the semantics of the official MedMNIST evaluator, for its subsets and for other data of the same
tasks. Optionally with per-class values, further measures and intervals.
"""

_CITATION = """\
@article{medmnistv2,
    title = {{MedMNIST} v2 -- A large-scale lightweight benchmark for {2D} and {3D} biomedical image classification},
    author = {Yang, Jiancheng and Shi, Rui and Wei, Donglai and Liu, Zequan and Zhao, Lin and Ke, Bilian and Pfister, Hanspeter and Ni, Bingbing},
    journal = {Scientific Data},
    volume = {10},
    number = {1},
    pages = {41},
    year = {2023},
    publisher = {Nature Publishing Group UK London},
    doi = {10.1038/s41597-022-01721-8}
}
"""  # noqa: E501

_INPUTS = """
Args:
    references: Ground truth of N rows: class ids, (N, 1) or one-hot rows; for the multi-label task multi-hot rows or
        lists of present findings.
    prediction_scores: Scores of the same rows, (N, K); for the binary task (N,), (N, 1) or (N, 2), of which the last
        column is used.
    predictions: Class ids or names instead of scores, for acc only; a table of floats is treated as scores.
    from_logits: True for logits, False to use scores unchanged; by default, scores outside 0..1 raise an error.
    measures: Further measures, e.g. ["f1", "auc:*", "balanced_accuracy"].
    ci: True for 95 % intervals, or a level such as 0.9: DeLong's for AUC, Wilson's for ACC, and the bootstrap for most
        other measures, with the options resamples and seed.
    absent: How to treat a class that does not occur in the references: "skip", "nan" or "raise".
Returns:
    auc and acc, 0 to 1; the measures by name; {name}_low and {name}_high for an interval.
Examples:
    >>> metric = evaluate.load("medmnist/medmnist", "breastmnist")  # doctest: +SKIP
    >>> metric.compute(references=[0, 1, 1, 0], prediction_scores=[0.2, 0.9, 0.4, 0.3])  # doctest: +SKIP
    {'auc': 1.0, 'acc': 0.75}
"""


class Medmnist(arrow_metric.ArrowMetric):
    """AUC and ACC of a subset or a task."""

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=arrow_metric.features_of(self.config),
            license="Apache-2.0",
            homepage="https://medmnist.com",
            reference_urls=["https://github.com/MedMNIST/MedMNIST", "https://doi.org/10.1038/s41597-022-01721-8"],
        )
