"""Pooled features of models of every kind, from which the classifier must compute the model's logits."""

import pytest
import torch
from torch import nn

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.models.heads import classifier_of, pooled_features
from tests.fixtures.tiny_models import CLASSES, IMAGE_MODELS, network, pixels, timm_model


@pytest.mark.parametrize("kind", [*IMAGE_MODELS, "2.5d", "3d", "acs"])
def test_the_classifier_on_pooled_features_gives_the_logits(kind: str) -> None:
    volumes = kind not in IMAGE_MODELS
    model = (network(volumetric=kind) if volumes else IMAGE_MODELS[kind]()).eval()
    inputs = pixels(4, ndim=3 if volumes else 2)
    with torch.inference_mode():
        features = pooled_features(model, inputs)
        name, classifier = classifier_of(model)
        shape = classifier.get_parameter("weight").shape
        logits = classifier(features.reshape(4, *shape[1:])).flatten(1)
        assert torch.allclose(logits, model(pixel_values=inputs).logits, atol=1e-6)
    assert features.shape == (4, shape[1:].numel()) and logits.shape == (4, CLASSES)
    assert model.get_submodule(name) is classifier
    assert not classifier._forward_hooks


def test_features_of_dinov2_are_the_class_token_and_the_mean_of_patches() -> None:
    model = IMAGE_MODELS["DINOv2"]().eval()
    hidden = model.get_submodule("dinov2")(pixels(2)).last_hidden_state
    expected = torch.cat([hidden[:, 0], hidden[:, 1:].mean(1)], 1)
    assert torch.allclose(pooled_features(model, pixels(2)), expected)


def test_two_heads_are_refused_by_name() -> None:
    model = timm_model("deit_tiny_distilled_patch16_224", img_size=32, embed_dim=16, depth=1, num_heads=2).eval()
    with pytest.raises(TrainingError, match=r"logits of TimmWrapper.* not those of timm_model\.head_dist alone"):
        pooled_features(model, pixels(2))
    assert not classifier_of(model)[1]._forward_hooks


def test_weights_that_are_not_finite_and_models_without_a_classifier_are_refused() -> None:
    model = IMAGE_MODELS["ViT"]().eval()
    nn.init.constant_(model.get_parameter("classifier.weight"), torch.nan)
    with pytest.raises(TrainingError, match="not finite"):
        pooled_features(model, pixels(2))
    with pytest.raises(TrainingError, match="no linear classifier"):
        classifier_of(nn.Flatten())
