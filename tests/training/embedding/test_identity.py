"""Weights and input identify a store; the classifier, which features do not depend on, does not."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants

from medmnist_hf.training.embedding.identity import input_record, model_record, releases, weights_digest
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.models.heads import classifier_of
from medmnist_hf.training.models.saving import Built
from tests.fixtures.runs import tiny
from tests.fixtures.tiny_models import timm_model


def test_every_weight_except_the_classifier_counts() -> None:
    model = timm_model("test_efficientnet")
    digest, count = weights_digest(model)
    name, classifier = classifier_of(model)
    with torch.no_grad():
        next(classifier.parameters()).add_(1)
        assert weights_digest(model) == (digest, count)
        heads = sum(value.numel() for value in classifier.state_dict().values())
        assert count == sum(value.numel() for value in model.state_dict().values()) - heads
        for key, value in model.state_dict().items():
            if not key.startswith(f"{name}."):
                value.flatten()[:1].add_(1) if value.ndim else value.add_(1)
                changed = weights_digest(model)[0]
                assert changed != digest, key
                digest = changed


def test_the_memory_format_does_not_count() -> None:
    model: Any = timm_model("test_efficientnet")
    before = weights_digest(model)
    assert weights_digest(model.to(memory_format=torch.channels_last)) == before


def test_the_input_is_recorded() -> None:
    recipe = tiny(Path("dist"), "adrenalmnist3d", method="knn", volumetric="2.5d", depth_stride=True, image_size=32)
    recipe3 = tiny(Path("dist"), "breastmnist", method="knn", depth_stride=True)
    record = input_record(recipe, build_model(recipe))
    assert (record.image_size, record.resize, record.volumetric, record.depth_stride) == (32, "bilinear", "2.5d", True)
    assert record.slice_pooling == "mean"
    images = input_record(recipe3, build_model(recipe3))
    assert (images.image_size, images.resize, images.volumetric, images.depth_stride) == (28, "none", "", False)
    assert images.slice_pooling == ""
    assert len(images.mean) == len(images.std) == images.channels == 3


def test_the_revision_is_that_of_the_cached_file(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit, repository = "a" * 40, tmp_path / "models--timm--test_efficientnet.r160_in1k"
    file = repository / "snapshots" / commit / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    recipe = tiny(Path("dist"), "breastmnist", method="knn")
    built = build_model(recipe)
    assert model_record(recipe, built).revision == ""
    named = tiny(Path("dist"), "breastmnist", method="knn", model="timm/test_efficientnet.r160_in1k", pretrained=True)
    assert model_record(named, Built(built.model, (), (), 28, "weights")).revision == commit


def test_releases_are_those_of_installed_libraries() -> None:
    assert releases()["torch"] == torch.__version__.partition("+")[0] or releases()["torch"] == torch.__version__
