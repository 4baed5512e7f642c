"""The image-classification evaluator of `evaluate`, changed where it keeps scores from a metric.

Two things in `evaluate` 0.4.6 stand in the way: it passes on the best label alone, out of the five that a pipeline
gives by default, and it asks `transformers` for ``TFPreTrainedModel``, which release 5 no longer has, whenever it is
given a pipeline.
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
    """Runs a pipeline over a data set and scores all that it says of each image.

    Example:
        >>> task = medmnist_hf.metric("breastmnist").evaluator(ci=True)  # doctest: +SKIP
        >>> task.compute(model_or_pipeline=classifier, data=test)  # doctest: +SKIP
    """

    def __init__(self, metric: Any, options: Mapping[str, Any]) -> None:
        super().__init__("image-classification")
        self.metric = metric
        self.PIPELINE_KWARGS: dict[str, Any] = {"top_k": sys.maxsize}  # a pipeline takes it for all there are
        if metric.config.task is Task.MULTI_LABEL:
            self.PIPELINE_KWARGS["function_to_apply"] = "sigmoid"
        self.METRIC_KWARGS = dict(options)

    def prepare_metric(self, metric: Any = None) -> Any:
        """The metric that this evaluator was made by; another one is refused."""
        if metric not in (None, self.metric):
            raise ScoreError("this evaluator belongs to a metric of its own: leave metric out")
        return self.metric

    def prepare_pipeline(
        self,
        model_or_pipeline: Any,
        tokenizer: object = None,
        feature_extractor: object = None,
        device: int | None = None,
    ) -> Any:
        """A pipeline as it is, or one made of a model.

        Args:
            model_or_pipeline: A pipeline for image classification, or anything called like one that has its ``task``;
                a model; or its name or folder.
            tokenizer: Not used.
            feature_extractor: The image processor; needed with a model.
            device: Number of the GPU, -1 for the CPU, or None for a GPU if there is one.

        Raises:
            ScoreError: There is no model, no image processor for it, or a pipeline for another task.
        """
        if isinstance(model_or_pipeline, transformers.PreTrainedModel) and feature_extractor is None:
            raise ScoreError("a model needs its image processor: pass it as feature_extractor, or pass a pipeline")
        if isinstance(model_or_pipeline, str | transformers.PreTrainedModel):
            device = self._infer_device() if device is None else device
            make: Any = transformers.pipeline  # of its 24 typed forms none takes a task by a variable
            return make(self.task, model=model_or_pipeline, image_processor=feature_extractor, device=device)
        if getattr(model_or_pipeline, "task", None) != self.task:
            raise ScoreError("no image-classification pipeline: pass one, a model, or a model's name or folder")
        return model_or_pipeline

    def predictions_processor(
        self, predictions: Sequence[Sequence[Mapping[str, Any]]], label_mapping: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """All scores of each image, a column for each class, for the metric."""
        return {"prediction_scores": label_table(predictions, self.metric.config, label_mapping)}
