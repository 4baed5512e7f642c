"""Real pipelines of tiny random models in our evaluator, with all scores, and in the original of `evaluate`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers
from datasets import ClassLabel, Dataset, Features, Image, List
from PIL import Image as Pillow

from medmnist_hf.catalog import Task, subset
from medmnist_hf.errors import MedMNISTError, ScoreError
from medmnist_hf.evaluate_module import metric
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import check


def tiny(flag: str, named: bool = True) -> tuple[Any, Any]:
    """A random model with the classes of a subset, and its image processor."""
    torch.manual_seed(0)
    labels = subset(flag).labels
    names: dict[str, Any] = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        **(names if named else {"num_labels": len(labels)}),
    )
    processor = transformers.ViTImageProcessorPil(size={"height": 28, "width": 28}, do_convert_rgb=True)
    model: torch.nn.Module = transformers.ResNetForImageClassification(config)
    return model.eval(), processor


def images(flag: str, rows: int = 24) -> Dataset:
    rng = np.random.default_rng(0)
    entry = subset(flag)
    labels: Any = ClassLabel(names=list(entry.labels))
    truth: list[Any] = [at % len(entry.labels) for at in range(rows)]
    if entry.task is Task.MULTI_LABEL:
        labels, truth = List(labels), [[] if at == 0 else [at % 14, (at * 5 + 3) % 14] for at in range(rows)]
        truth = [sorted(set(row)) for row in truth]
    pixels = [Pillow.fromarray(rng.integers(0, 255, (28, 28), dtype=np.uint8)) for _ in range(rows)]
    return Dataset.from_dict({"image": pixels, "label": truth}, features=Features(image=Image(), label=labels))


def logits_of(model: torch.nn.Module, processor: Callable[..., Any], data: Dataset) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        logits = model(**processor(images=list(data["image"]), return_tensors="pt")).logits
    return np.asarray(logits)


@pytest.mark.parametrize("flag", ["breastmnist", "pathmnist", "chestmnist"])
@pytest.mark.parametrize("named", [True, False])
def test_all_scores_of_a_pipeline_reach_the_metric(flag: str, named: bool) -> None:
    """Also for 9 or 14 classes, although a pipeline returns the best five by default."""
    model, processor = tiny(flag, named)
    data = images(flag)
    classifier = transformers.pipeline("image-classification", model=model, image_processor=processor)
    result = metric(flag).evaluator(measures=["balanced_accuracy"]).compute(model_or_pipeline=classifier, data=data)
    truth = data["label"][:]
    whole = score(check(truth, logits_of(model, processor, data), subset(flag).task, from_logits=True))
    assert (result["auc"], result["acc"]) == pytest.approx((whole.auc, whole.acc), abs=1e-3)
    assert 0 <= result["balanced_accuracy"] <= 1
    assert result["samples_per_second"] > 0


def test_models_folders_and_mappings(tmp_path: Path) -> None:
    model, processor = tiny("breastmnist")
    data = images("breastmnist")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    task = metric("breastmnist").evaluator(ci=True, resamples=20)
    result = task.compute(model_or_pipeline=str(tmp_path), data=data)
    again = task.compute(model_or_pipeline=model, feature_extractor=processor, data=data)
    assert {name: result[name] for name in ("auc", "acc", "auc_low", "auc_high")} == pytest.approx(
        {name: again[name] for name in ("auc", "acc", "auc_low", "auc_high")}, abs=1e-6
    )
    swapped = task.compute(
        model_or_pipeline=str(tmp_path), data=data, label_mapping={"malignant": 1, "normal, benign": 0}
    )
    assert swapped["auc"] == pytest.approx(1 - result["auc"], abs=1e-6)


def test_invalid_pipelines() -> None:
    model, processor = tiny("breastmnist")
    task = metric("breastmnist").evaluator()
    for model_or_pipeline, message in (
        (None, "is not an image-classification pipeline"),
        (lambda inputs: [], "is not an image-classification pipeline"),
        (model, "a model needs its image processor"),
    ):
        with pytest.raises(ScoreError, match=message):
            task.compute(model_or_pipeline=model_or_pipeline, data=images("breastmnist"))
    with pytest.raises(ScoreError, match="leave metric out"):
        task.compute(
            model_or_pipeline=model,
            feature_extractor=processor,
            data=images("breastmnist"),
            metric=metric("breastmnist"),
        )
    with pytest.raises(ScoreError, match="unknown option 'top_k'"):
        metric("breastmnist").evaluator(top_k=5)


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "medmnist_hf.evaluate_module.evaluator", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MedMNISTError, match=r"pip install 'evaluate\[evaluator\]'") as caught:
        metric("breastmnist").evaluator()
    assert "\n" not in str(caught.value)


def test_the_original_evaluator_only_gives_accuracy(tmp_path: Path) -> None:
    """It passes the best label of each image but no scores, and fails if it is given a pipeline."""
    model, processor = tiny("breastmnist")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    data = images("breastmnist")
    plain = evaluate.evaluator("image-classification")
    result = plain.compute(model_or_pipeline=str(tmp_path), data=data, metric=metric("breastmnist"))
    decisions = logits_of(model, processor, data).argmax(axis=1)
    assert result["acc"] == pytest.approx(float(np.mean(decisions == data["label"][:])))
    assert "auc" not in result
    classifier = transformers.pipeline("image-classification", model=model, image_processor=processor)
    with pytest.raises(AttributeError, match="TFPreTrainedModel"):
        plain.compute(model_or_pipeline=classifier, data=data, metric=metric("breastmnist"))
