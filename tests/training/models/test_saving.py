"""Saved models: pipelines read images as RGB, and get what was trained, whatever a network does with its weights."""

# Methods of transformers' classes carry no types.
# mypy: allow-untyped-calls

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from transformers import TimmWrapperForImageClassification

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.models.saving import load_model, save_model, spreads
from medmnist_hf.training.models.wrappers import NetworkConfig, NetworkForImageClassification
from medmnist_hf.training.recipe import make_recipe


def gray(model: str, **options: Any) -> Any:
    torch.manual_seed(0)
    recipe = {"dataset": "breastmnist", "model": f"timm/{model}", "pretrained": False, "channels": 1}
    return build_model(make_recipe(recipe | options))


@pytest.mark.parametrize(
    ("model", "spread"),
    [("test_resnet", True), ("test_efficientnet", True), ("test_vit", True), ("test_nfnet", False)],
)
def test_a_gray_network_gives_its_own_scores_for_the_rgb_of_pipelines(
    model: str, spread: bool, tmp_path: Path
) -> None:
    """A stem that standardizes its weights does not see that each of three channels has a third of them."""
    built: Any = gray(model, image_size=64)
    kind = TimmWrapperForImageClassification if spread else NetworkForImageClassification
    assert type(built.model) is kind
    save_model(built, tmp_path)
    loaded, images = load_model(tmp_path), torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        expected = built.model.eval()(pixel_values=images).logits
        found: Any = loaded(pixel_values=images.expand(-1, 3, -1, -1))
    assert torch.allclose(found.logits, expected, atol=1e-5)
    names = {
        "test_resnet": "conv1.0.weight",
        "test_efficientnet": "conv_stem.weight",
        "test_vit": "patch_embed.proj.weight",
        "test_nfnet": "stem.conv1.weight",
    }
    (stem,) = [one for key, one in load_file(tmp_path / "model.safetensors").items() if key.endswith(names[model])]
    assert stem.shape[1] == (3 if spread else 1)


def test_what_can_be_spread_is_measured_before_a_classifier_of_zeros() -> None:
    built = gray("test_resnet")
    network: Any = timm.create_model("test_nfnet", num_classes=2, in_chans=1)
    config = copy.deepcopy(built.model.config)
    config.architecture, config.pretrained_cfg = "test_nfnet", dict(network.pretrained_cfg) | {"mean": [0], "std": [1]}
    standardizing: Any = TimmWrapperForImageClassification(config)
    for model, expected in ((built.model, True), (standardizing, False)):
        torch.nn.init.zeros_(model.timm_model.get_classifier().weight)
        model.train()
        assert spreads(model, 64) is expected and model.training


def test_what_cannot_be_read_is_refused_with_a_size_whatever_the_network_raises() -> None:
    """MaxViT divides by the number of its windows, 0 at 28 pixels."""
    with pytest.raises(TrainingError, match=r"^timm/test_maxvit cannot read .* zero\): give --image-size 32$"):
        gray("test_maxvit", image_size=28)


def test_constants_that_no_file_holds_are_there_after_loading(tmp_path: Path) -> None:
    """Indices of relative positions are buffers that are not saved: loading leaves them empty."""
    torch.manual_seed(0)
    names: Any = {"num_labels": 2}
    config = NetworkConfig(architecture="timm/test_vit_relpos", model_args={"img_size": 64}, **names)
    model: Any = NetworkForImageClassification(config).eval()
    apart = {name for name, _ in model.named_buffers()} - model.state_dict().keys()
    assert apart
    model.save_pretrained(tmp_path)
    loaded, images = load_model(tmp_path), torch.rand(2, 3, 64, 64)
    assert all(torch.equal(loaded.get_buffer(name), model.get_buffer(name)) for name in apart)
    with torch.inference_mode():
        expected, found = (one(pixel_values=images).logits for one in (model, loaded))
    assert torch.allclose(found, expected, atol=1e-5)


def test_weights_that_have_two_names_are_saved_under_both(tmp_path: Path) -> None:
    """CoaT's blocks share their position encodings."""
    built = gray("coat_lite_tiny", image_size=32)
    tensors = built.model.state_dict()
    assert len({one.data_ptr() for one in tensors.values() if one.numel()}) == len(tensors)
    assert len(list(built.model.parameters())) < len(list(built.model.named_parameters(remove_duplicate=False)))
    save_model(built, tmp_path)
    images = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        expected = built.model.eval()(pixel_values=images).logits
        found = load_model(tmp_path)(pixel_values=images.expand(-1, 3, -1, -1)).logits
    assert torch.allclose(found, expected, atol=1e-5)
