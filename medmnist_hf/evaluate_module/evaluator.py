"""The image-classification evaluator of `evaluate`, changed to pass all scores to a metric.

It works around two limitations of `evaluate` 0.4.6. It passes on only the best label, of the five that a pipeline
returns by default. And for a pipeline, it looks up ``TFPreTrainedModel``, which `transformers` 5 has removed.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import transformers
from evaluate.evaluator import ImageClassificationEvaluator

from medmnist_hf.catalog import Task
from medmnist_hf.errors import ScoreError
from medmnist_hf.evaluate_module.report import label_table


class MedmnistEvaluator(ImageClassificationEvaluator):  # type: ignore[misc]
    """Runs a pipeline over a data set and scores all of its scores of each image.

    Example:
        >>> task = medmnist_hf.metric("breastmnist").evaluator(ci=True)  # doctest: +SKIP
        >>> task.compute(model_or_pipeline=classifier, data=test)  # doctest: +SKIP
    """

    def __init__(self, metric: Any, options: Mapping[str, Any]) -> None:
        super().__init__("image-classification")
        self.metric = metric
        self.PIPELINE_KWARGS: dict[str, Any] = {"top_k": sys.maxsize}  # all labels
        if metric.config.task is Task.MULTI_LABEL:
            self.PIPELINE_KWARGS["function_to_apply"] = "sigmoid"
        self.METRIC_KWARGS = dict(options)

    def prepare_metric(self, metric: Any = None) -> Any:
        """The metric that this evaluator belongs to; another one raises a `ScoreError`."""
        if metric not in (None, self.metric):
            raise ScoreError("this evaluator belongs to another metric: leave metric out")
        return self.metric

    def prepare_pipeline(
        self,
        model_or_pipeline: Any,
        tokenizer: object = None,
        feature_extractor: object = None,
        device: int | None = None,
    ) -> Any:
        """Return a pipeline, after creating it if a model is passed.

        Args:
            model_or_pipeline: A pipeline for image classification, or any callable like one with the same ``task``;
                a model; or its name or folder.
            tokenizer: Not used.
            feature_extractor: The image processor; required with a model.
            device: Index of the GPU, -1 for the CPU; None chooses a GPU if available.

        Raises:
            ScoreError: The model or its image processor is missing, or the pipeline has another task.
        """
        if isinstance(model_or_pipeline, transformers.PreTrainedModel) and feature_extractor is None:
            raise ScoreError("a model needs its image processor: pass it as feature_extractor, or pass a pipeline")
        if isinstance(model_or_pipeline, str | transformers.PreTrainedModel):
            device = self._infer_device() if device is None else device
            make: Any = transformers.pipeline  # no overload accepts the task as a variable
            return make(self.task, model=model_or_pipeline, image_processor=feature_extractor, device=device)
        if getattr(model_or_pipeline, "task", None) != self.task:
            raise ScoreError(
                "model_or_pipeline is not an image-classification pipeline: pass one, a model, or its name or folder"
            )
        return model_or_pipeline

    def predictions_processor(
        self, predictions: Sequence[Sequence[Mapping[str, Any]]], label_mapping: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """All scores of each image, one column per class, for the metric."""
        return {"prediction_scores": label_table(predictions, self.metric.config, label_mapping)}
