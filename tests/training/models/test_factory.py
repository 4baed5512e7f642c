"""`medmnist_hf.training.models.factory`: models of every kind, with the inputs and outputs of their recipe."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForImageClassification,
    Dinov2Config,
    PreTrainedConfig,
    ResNetConfig,
    SwinConfig,
    ViTConfig,
    ViTImageProcessor,
)

from medmnist_hf import pixel_statistics
from medmnist_hf.errors import TrainingError
from medmnist_hf.statistics.sums import pooled
from medmnist_hf.training.models import factory
from medmnist_hf.training.models.factory import build_model, parameter_counts
from medmnist_hf.training.models.saving import Built, save_model
from medmnist_hf.training.recipe import Recipe, make_recipe
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.own_code import write_code


def recipe_of(dataset: str = "breastmnist", **options: Any) -> Recipe:
    return make_recipe({"dataset": dataset, "model": "timm/test_efficientnet", "pretrained": False} | options)


@pytest.mark.parametrize(
    ("dataset", "options", "shape", "outputs"),
    [
        ("breastmnist", {"model": "resnet18", "channels": "images"}, (2, 1, 28, 28), 2),
        ("bloodmnist", {}, (2, 3, 28, 28), 8),
        ("breastmnist", {"channels": 1, "image_size": 40}, (2, 1, 40, 40), 2),
        ("chestmnist", {}, (2, 3, 28, 28), 14),
        ("retinamnist", {"loss": "ordinal"}, (2, 3, 28, 28), 4),
        ("adrenalmnist3d", {"volumetric": "2.5d"}, (2, 3, 28, 28, 28), 2),
    ],
)
def test_inputs_and_outputs_follow_the_recipe(
    dataset: str, options: dict[str, Any], shape: tuple[int, ...], outputs: int
) -> None:
    built = build_model(recipe_of(dataset, **options))
    assert built.origin == "random initialization" and built.image_size == shape[-1]
    assert built.model.eval()(torch.zeros(shape)).logits.shape == (2, outputs)
    assert len(built.mean) == len(built.std) == shape[1]


def test_inputs_are_normalized_by_the_statistics_of_the_data(phantoms: Phantoms, tmp_path: Path) -> None:
    for flag in ("breastmnist", "bloodmnist"):
        build(phantoms, tmp_path, flag, 28)
    options = {"root": str(tmp_path), "normalize": "dataset"}
    gray, color = (pixel_statistics(tmp_path / flag) for flag in ("breastmnist", "bloodmnist"))
    built = build_model(recipe_of("breastmnist", channels=1, **options))
    assert (built.mean, built.std) == (gray.mean, gray.std)
    assert build_model(recipe_of("breastmnist", model="resnet18", **options)).mean == gray.mean * 3
    assert build_model(recipe_of("bloodmnist", **options)).std == color.std
    joint = build_model(recipe_of("breastmnist,bloodmnist", **options))
    assert joint.mean == pooled([gray, color]).mean


@pytest.mark.parametrize(
    ("dataset", "options", "size"),
    [
        ("breastmnist", {"model": "resnet18"}, 28),
        ("breastmnist", {"model": "resnet18", "size": 64}, 64),
        ("adrenalmnist3d", {"model": "timm/test_resnet"}, 28),
        ("breastmnist", {"model": "timm/test_resnet"}, 160),
        ("breastmnist", {"model": "timm/test_vit", "channels": 1}, 160),
    ],
)
def test_the_size_may_be_that_of_the_pretraining(dataset: str, options: dict[str, Any], size: int) -> None:
    """On images of 28 pixels, of which a ViT would not see all."""
    recipe = recipe_of(dataset, image_size="auto", **options)
    torch.manual_seed(0)
    built = build_model(recipe)
    assert built.image_size == size and recipe.image_size == "auto"
    torch.manual_seed(0)
    named = build_model(recipe_of(dataset, image_size=size, **options))
    assert all(map(torch.equal, built.model.state_dict().values(), named.model.state_dict().values()))


SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.mark.parametrize(
    ("config", "processor", "size"),
    [
        (ViTConfig(image_size=48, patch_size=16, **SMALL), {"height": 32, "width": 32}, 48),
        (ViTConfig(image_size=[48, 48], patch_size=16, **SMALL), None, 48),
        (Dinov2Config(image_size=98, patch_size=14, **SMALL), None, 98),
        (Dinov2Config(image_size=60, patch_size=14, **SMALL), None, 56),  # 60 pixels are 4.3 patches
        (SwinConfig(image_size=64, embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=4), None, 64),
        (ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1]), {"shortest_edge": 96}, 96),
        (ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1]), None, 28),
    ],
    ids=["ViT", "list", "DINOv2", "not whole patches", "Swin", "of the processor", "unknown"],
)
def test_the_size_of_a_model_of_transformers(
    config: PreTrainedConfig, processor: dict[str, int] | None, size: int, tmp_path: Path
) -> None:
    """From its configuration, or else from its processor. If it does not fit, the nearest that fits."""
    config.save_pretrained(tmp_path)
    if processor is not None:
        ViTImageProcessor(size=processor).save_pretrained(tmp_path)
    built = build_model(recipe_of(model=str(tmp_path), normalize="half", image_size="auto"))
    assert built.image_size == size
    assert built.model.eval()(torch.zeros(1, 3, size, size)).logits.shape == (1, 2)


def test_a_network_that_reads_no_size_is_refused_as_with_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "nearest_size", lambda *_: None)
    monkeypatch.setattr(factory, "_own_size", lambda _: 28)
    with pytest.raises(TrainingError, match=r"^timm/test_vit cannot read images of 28 pixels \("):
        build_model(recipe_of(model="timm/test_vit", image_size="auto"))


def test_normalization_follows_the_recipe() -> None:
    own, half, none = (build_model(recipe_of("bloodmnist", normalize=kind)) for kind in ("model", "half", "none"))
    assert half.mean == half.std == (0.5,) * 3 and none.mean == none.std == ()
    assert own.mean == tuple(own.model.config.pretrained_cfg["mean"])  # type: ignore[union-attr, index]


def test_the_loss_follows_the_task() -> None:
    assert recipe_of("chestmnist").resolved_loss == "bce"
    assert recipe_of("retinamnist").resolved_loss == "cross-entropy"
    assert recipe_of("retinamnist", loss="ordinal").resolved_loss == "ordinal"


def test_weights_of_a_file_are_loaded_or_refused_by_name(tmp_path: Path) -> None:
    first = build_model(recipe_of("bloodmnist"))
    network: Any = first.model.timm_model
    weights = {name: value + 1 for name, value in network.state_dict().items()}
    save_file(weights, tmp_path / "own.safetensors")
    built = build_model(recipe_of("bloodmnist", checkpoint=str(tmp_path / "own.safetensors")))
    loaded: Any = built.model.timm_model
    assert built.origin == "weights of own.safetensors"
    assert torch.equal(loaded.conv_stem.weight, weights["conv_stem.weight"])
    save_file({"conv_stem.weight": torch.zeros(2, 3, 3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(TrainingError, match=r"conv_stem\.weight"):
        build_model(recipe_of("bloodmnist", checkpoint=str(tmp_path / "other.safetensors")))


def test_a_gray_network_is_saved_for_the_rgb_of_pipelines(tmp_path: Path) -> None:
    built = build_model(recipe_of(channels=1))
    save_model(built, tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    gray = torch.rand(2, 1, 28, 28)
    with torch.inference_mode():
        expected = built.model.eval()(gray).logits
        assert torch.allclose(loaded(gray.expand(-1, 3, -1, -1)).logits, expected, atol=1e-5)
    (stem,) = (value for name, value in load_file(tmp_path / "model.safetensors").items() if "conv_stem" in name)
    assert stem.shape[1] == 3


def test_unsupported_sizes_and_options_are_one_line_errors() -> None:
    with pytest.raises(TrainingError, match="has no stochastic depth: leave drop_path 0"):
        build_model(recipe_of(model="resnet18", drop_path=0.1))
    with pytest.raises(TrainingError, match=r"cannot (make|read)") as caught:
        build_model(recipe_of(model="timm/test_vit", image_size=30))
    assert "\n" not in str(caught.value)


def test_all_and_trained_parameters_are_counted() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    model[0].requires_grad_(False)
    assert parameter_counts(model) == (26, 10)


def own(tmp_path: Path, function: str, **options: Any) -> Built:
    torch.manual_seed(0)
    model = f"{write_code(tmp_path)}:{function}"
    return build_model(make_recipe({"dataset": "bloodmnist", "model_file": model, **options}))


def test_a_network_of_a_users_file_is_identified_by_its_weights(tmp_path: Path) -> None:
    first, second = own(tmp_path, "features"), own(tmp_path, "features")
    assert re.fullmatch(r"weights with SHA-256 [0-9a-f]{64} in my\.py:features", first.origin)
    assert first.origin == second.origin and first.image_size == 28 and first.mean == (0.5,) * 3
    torch.manual_seed(1)
    other = build_model(make_recipe({"dataset": "bloodmnist", "model": f"{tmp_path}/my.py:features"}))
    assert other.origin != first.origin


@pytest.mark.parametrize("function", ["features", "build"])
def test_weights_are_loaded_into_a_network_of_a_users_file(tmp_path: Path, function: str) -> None:
    source: Any = own(tmp_path, function).model
    body = source.network.body if function == "features" else source.network
    for name, tensors in {"all": source.state_dict(), "part": body.state_dict()}.items():
        save_file({key: value + 1 for key, value in tensors.items()}, tmp_path / f"{name}.safetensors")
        loaded: Any = own(tmp_path, function, checkpoint=str(tmp_path / f"{name}.safetensors")).model
        whole = loaded.state_dict()
        prefix = "network.body." if function == "features" and name == "part" else "" if name == "all" else "network."
        assert all(torch.equal(whole[prefix + key], value + 1) for key, value in tensors.items())
    save_file({"other": torch.zeros(1)}, tmp_path / "none.safetensors")
    with pytest.raises(TrainingError, match="does not fit the network"):
        own(tmp_path, function, checkpoint=str(tmp_path / "none.safetensors"))


def test_a_users_network_without_a_linear_classifier_can_only_be_fine_tuned(tmp_path: Path) -> None:
    assert own(tmp_path, "without_classifier").origin
    for options in ({"method": "knn"}, {"probe_first": True}):
        with pytest.raises(TrainingError, match=r"^my\.py:without_classifier has no features for (knn|probe_first)"):
            own(tmp_path, "without_classifier", **options)


def test_outputs_that_may_be_logits_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layers = "nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, n))"
    write_code(tmp_path, f"from torch import nn\n\n\ndef build(n=8):\n    return {layers}\n")
    build_model(make_recipe({"dataset": "bloodmnist", "model": f"{tmp_path}/my.py:build"}))
    assert "my.py:build does not accept num_classes, so a linear classifier is added to its 8 outputs" in caplog.text


def test_pixels_that_a_users_network_ignores_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layers = "nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(27, 8))"
    file = write_code(tmp_path, f"from torch import nn\ndef build(num_classes): return {layers}")
    assert build_model(make_recipe({"dataset": "bloodmnist", "model": f"{file}:build"})).image_size == 28
    assert "my.py:build sees 73 % of an image of 28 pixels: give another --image-size" in caplog.text
