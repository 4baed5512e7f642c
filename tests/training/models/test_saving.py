"""Saved models give the same outputs in pipelines, which read all images as RGB."""

# Methods of transformers' classes are untyped.
# mypy: allow-untyped-calls

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from transformers import TimmWrapperForImageClassification

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.models.saving import can_spread_channels, load_model, save_model
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
def test_a_saved_gray_network_gives_the_same_scores_for_rgb(model: str, spread: bool, tmp_path: Path) -> None:
    """A stem that standardizes its weights undoes the division by three channels."""
    built: Any = gray(model, image_size=64)
    kind = TimmWrapperForImageClassification if spread else NetworkForImageClassification
    assert type(built.model) is kind
    save_model(built, tmp_path)
    loaded, images = load_model(tmp_path), torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        expected = built.model.eval()(pixel_values=images).logits
        outputs: Any = loaded(pixel_values=images.expand(-1, 3, -1, -1))
    assert torch.allclose(outputs.logits, expected, atol=1e-5)
    names = {
        "test_resnet": "conv1.0.weight",
        "test_efficientnet": "conv_stem.weight",
        "test_vit": "patch_embed.proj.weight",
        "test_nfnet": "stem.conv1.weight",
    }
    tensors = load_file(tmp_path / "model.safetensors")
    (stem,) = (value for key, value in tensors.items() if key.endswith(names[model]))
    assert stem.shape[1] == (3 if spread else 1)


def test_spreading_is_checked_on_features_before_a_zero_classifier() -> None:
    built = gray("test_resnet")
    network: Any = timm.create_model("test_nfnet", num_classes=2, in_chans=1)
    config = copy.deepcopy(built.model.config)
    config.architecture, config.pretrained_cfg = "test_nfnet", dict(network.pretrained_cfg) | {"mean": [0], "std": [1]}
    standardizing: Any = TimmWrapperForImageClassification(config)
    for model, expected in ((built.model, True), (standardizing, False)):
        torch.nn.init.zeros_(model.timm_model.get_classifier().weight)
        model.train()
        assert can_spread_channels(model, 64) is expected and model.training


def test_any_exception_of_a_network_becomes_an_error_with_a_size() -> None:
    """MaxViT divides by its number of windows, which is 0 at 28 pixels."""
    with pytest.raises(TrainingError, match=r"^timm/test_maxvit cannot read .* zero\): give --image-size 32 or auto$"):
        gray("test_maxvit", image_size=28)


def test_constants_that_are_not_saved_are_restored_when_loading(tmp_path: Path) -> None:
    """Relative position indices are buffers that are not saved, so loading leaves them empty."""
    torch.manual_seed(0)
    names: Any = {"num_labels": 2}
    config = NetworkConfig(architecture="timm/test_vit_relpos", model_args={"img_size": 64}, **names)
    model: Any = NetworkForImageClassification(config).eval()
    constants = {name for name, _ in model.named_buffers()} - model.state_dict().keys()
    assert constants
    model.save_pretrained(tmp_path)
    loaded, images = load_model(tmp_path), torch.rand(2, 3, 64, 64)
    assert all(torch.equal(loaded.get_buffer(name), model.get_buffer(name)) for name in constants)
    with torch.inference_mode():
        expected, logits = (network(pixel_values=images).logits for network in (model, loaded))
    assert torch.allclose(logits, expected, atol=1e-5)


def test_shared_weights_are_saved_under_all_names(tmp_path: Path) -> None:
    """CoaT's blocks share their position encodings."""
    built = gray("coat_lite_tiny", image_size=32)
    tensors = built.model.state_dict()
    assert len({tensor.data_ptr() for tensor in tensors.values() if tensor.numel()}) == len(tensors)
    assert len(list(built.model.parameters())) < len(list(built.model.named_parameters(remove_duplicate=False)))
    save_model(built, tmp_path)
    images = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        expected = built.model.eval()(pixel_values=images).logits
        logits = load_model(tmp_path)(pixel_values=images.expand(-1, 3, -1, -1)).logits
    assert torch.allclose(logits, expected, atol=1e-5)


class _Code:
    """An object whose pickle creates a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_pickled_weights_are_not_loaded(tmp_path: Path) -> None:
    """Opening the pickle of this folder would create another one."""
    save_model(gray("test_resnet", image_size=64), tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save(_Code(tmp_path / "executed"), tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        load_model(tmp_path / "model")
    assert not (tmp_path / "executed").exists()
