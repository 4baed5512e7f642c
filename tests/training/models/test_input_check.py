"""Networks that do not see all pixels of an image are refused, with a size that they see completely."""

import re
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from torch import nn
from transformers import SiglipConfig, SiglipForImageClassification

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.methods.base import Run
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.models.input_check import check_input, pixels_seen, warn_if_small
from medmnist_hf.training.recipe import Recipe, make_recipe
from tests.fixtures.benchmarks import data_of
from tests.fixtures.tiny_models import SIZE, timm_model, vit


def recipe_of(dataset: str = "breastmnist", **options: Any) -> Recipe:
    return make_recipe({"dataset": dataset, "pretrained": False} | options)


@pytest.mark.parametrize(
    ("model", "size", "share", "fits"),
    [("vit_tiny_patch16_224", 28, 32, 32), ("vit_tiny_patch16_224", 36, 79, 48), ("test_convnext", 62, 93, 64)],
)
def test_sizes_with_incomplete_patches_are_refused(model: str, size: int, share: int, fits: int) -> None:
    refused = f"timm/{model} sees {share} % of an image of {size} x {size} pixels: give --image-size {fits} or auto$"
    with pytest.raises(TrainingError, match=refused):
        build_model(recipe_of(model=f"timm/{model}", image_size=size))
    assert build_model(recipe_of(model=f"timm/{model}", image_size=fits)).image_size == fits


def test_only_pixels_of_whole_patches_are_seen() -> None:
    seen = pixels_seen(timm_model("vit_tiny_patch16_224", img_size=36, depth=1), (3, 36, 36))
    expected = torch.zeros(36, 36, dtype=torch.bool)
    expected[:32, :32] = True
    assert torch.equal(seen, expected)


def test_a_zero_classifier_hides_no_pixels_and_the_model_is_not_modified() -> None:
    model: Any = timm_model("test_resnet")
    nn.init.zeros_(model.timm_model.fc.weight)
    model.timm_model.conv1[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.train().parameters()]
    state = torch.get_rng_state()
    assert pixels_seen(model, (3, 28, 28)).all()
    assert model.training and flags == [parameter.requires_grad for parameter in model.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_the_error_for_an_unreadable_size_names_a_readable_one() -> None:
    """A ViT of transformers reads only its own size."""
    with pytest.raises(
        TrainingError, match=rf"tiny cannot read images of 28 pixels \(.+\): give --image-size {SIZE} or auto$"
    ):
        check_input(vit(), "tiny", (3, 28, 28), lambda *_: vit())


def test_if_no_size_fits_the_error_suggests_another_model() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.fc(images[:, :, ::2].mean((2, 3)))
            return out

    with pytest.raises(TrainingError, match="half sees 50 % of an image of 8 x 8 pixels: name another model"):
        check_input(Half(), "half", (3, 8, 8), lambda *_: Half())


@pytest.mark.parametrize("volumetric", ["2.5d", "3d", "acs"])
def test_networks_for_volumes_see_what_their_2d_network_sees(volumetric: str) -> None:
    built = build_model(recipe_of("adrenalmnist3d", model="timm/test_resnet", volumetric=volumetric))
    seen = pixels_seen(built.model, (3, 28, 28, 28))
    assert all(seen.flatten(1).any(1)) and seen.any(0).all(), (
        "some pixels of every slice, and every position in some slice"
    )
    with pytest.raises(TrainingError, match=r"sees 93 % of an image of 62 x 62 pixels: give --image-size 64$"):
        build_model(recipe_of("adrenalmnist3d", model="timm/test_convnext", volumetric=volumetric, image_size=62))


def test_a_size_for_pooled_patches_is_found_without_building_large_networks() -> None:
    """Gemma 4 pools patches of 16 pixels in threes; trying its own size takes seconds and gigabytes."""

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert images.shape[-1] % 48 == 0
            out: torch.Tensor = self.fc(images.mean((2, 3)))
            return out

    for size, fitting in ((28, 48), (64, 96), (128, 144), (224, 240)):
        with pytest.raises(TrainingError, match=f"give --image-size {fitting} or auto$"):
            check_input(Pooled(), "pooled", (3, size, size), lambda *_: Pooled())


def test_the_networks_own_size_is_tried_too() -> None:
    with pytest.raises(TrainingError, match=r"timm/inception_v3 cannot read .*: give --image-size 299 or auto$"):
        build_model(recipe_of(model="timm/inception_v3"))


def test_blocks_that_are_initialized_to_zero_hide_no_pixels() -> None:
    """timm initializes the last norm of residual branches to zero, so an untrained ResNet ignores most pixels."""
    model: Any = timm.create_model("resnet18", num_classes=2)
    assert not model.layer1[0].bn2.weight.any()
    assert pixels_seen(model, (3, 28, 28)).all()
    assert not model.layer1[0].bn2.weight.any()


def test_gradients_that_underflow_in_float32_are_recomputed_in_float64() -> None:
    """As in MobileViT of transformers with random weights, where each layer reduces values, down to below 1e-45."""
    layers = [nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(12)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=1e-6)
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert pixels_seen(model, (3, 8, 8)).all()
    after = model.state_dict()
    assert all(after[name].dtype == value.dtype and torch.equal(after[name], value) for name, value in before.items())


def test_the_error_for_a_size_that_timm_cannot_build_names_one_that_it_can() -> None:
    refused = r"cannot make timm/botnet26t_256 \(.+\): give --image-size 256 or auto$"
    with pytest.raises(TrainingError, match=refused):
        build_model(recipe_of(model="timm/botnet26t_256"))


def test_acs_with_a_first_stride_of_two_skips_one_voxel_in_eight() -> None:
    """As documented: voxels with three odd coordinates are in none of the slices that the stride keeps."""
    built = build_model(recipe_of("adrenalmnist3d", model="timm/test_resnet", volumetric="acs"))
    seen = pixels_seen(built.model, (3, 28, 28, 28))
    assert not seen[1::2, 1::2, 1::2].any() and seen.float().mean() == 0.875


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"model": "timm/test_resnet"}, 160),
        ({"model": "timm/test_resnet", "image_size": 79}, 160),
        ({"model": "timm/test_resnet", "image_size": 80}, None),
        ({"model": "timm/test_resnet", "size": 128}, None),
        ({"model": "timm/test_resnet", "pretrained": False}, None),
        ({"model": "timm/test_resnet", "checkpoint": "own.pt"}, None),
        ({"model": "resnet18"}, None),
    ],
)
def test_images_much_smaller_than_in_pretraining_give_a_warning(
    options: dict[str, Any], size: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_of(**{"pretrained": True, **options})
    warn_if_small(recipe, build_model(replace(recipe, pretrained=False, checkpoint=None)).model)
    messages = [record.getMessage() for record in caplog.records]
    if size is None:
        assert not messages
    else:
        image_size = recipe.input_size
        (message,) = messages
        start = f"timm/test_resnet was pretrained on images of {size} pixels and gets {image_size}, "
        assert message.startswith(start)
        assert f"give --image-size {size} (or {size // 2}, " in message


def test_a_run_warns_of_small_images_once(caplog: pytest.LogCaptureFixture) -> None:
    recipe, lines = recipe_of(model="timm/test_resnet", pretrained=True), list[str]()
    built = replace(build_model(replace(recipe, pretrained=False)), origin="weights of timm/test_resnet")
    run = Run(recipe, {}, data_of(recipe), torch.device("cpu"), quiet=True, echo=lines.append)
    for seed in range(2):
        replace(run, is_first=seed == 0).describe(built, trained=7)
    total = sum(parameter.numel() for parameter in built.model.parameters())
    line = f"  model    {total:,} parameters, 7 trained; weights of timm/test_resnet; reads 28 pixels"
    assert lines == [line] * 2
    assert len(caplog.records) == 1


def siglip(size: int) -> Any:
    parts = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config: Any = SiglipConfig(
        text_config=parts | {"vocab_size": 8}, vision_config=parts | {"image_size": size, "patch_size": 32}
    )
    return SiglipForImageClassification(config)


@pytest.mark.parametrize("size", [32, 40])
def test_a_single_token_is_not_broadcast_over_positions_of_another_size(size: int) -> None:
    """SigLIP accepts an image of one patch and turns its token into one per position."""
    assert siglip(288)(torch.zeros(1, 3, size, size)).logits.shape == (1, 2)
    why = f"cannot read images of {size} pixels (its position embeddings are for another size)"
    with pytest.raises(TrainingError, match=rf"^tiny {re.escape(why)}: give --image-size 288 or auto$"):
        check_input(siglip(288), "tiny", (3, size, size), lambda *_: siglip(288))
    check_input(siglip(288), "tiny", (3, 288, 288), lambda *_: siglip(288))


def test_the_error_for_networks_that_read_only_rgb_says_so() -> None:
    """CSATv2 starts with a transform of three channels even if it is made for one."""
    with pytest.raises(TrainingError, match=r"^timm/csatv2 cannot read images of 64 pixels .*: give --channels 3$"):
        build_model(recipe_of(model="timm/csatv2", image_size=64, channels=1))


def test_the_error_names_channels_and_size_if_both_must_change() -> None:
    class Rgb(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3 * 8 * 8, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.fc(images.flatten(1))
            return out

    with pytest.raises(
        TrainingError, match=r"^rgb cannot read images of 6 .*: give --channels 3 --image-size 8 or auto$"
    ):
        check_input(Rgb(), "rgb", (1, 6, 6), lambda *_: Rgb())


def test_a_network_is_rebuilt_for_another_size_only_if_it_depends_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from medmnist_hf.training.models import factory

    sizes = list[int]()
    make = factory._make

    def record_and_make(recipe: Recipe) -> Any:
        sizes.append(recipe.input_size)
        return make(recipe)

    monkeypatch.setattr(factory, "_make", record_and_make)
    for model, expected in (("test_convnext", [62]), ("vit_tiny_patch16_224", [62, 64])):
        sizes.clear()
        with pytest.raises(TrainingError, match="give --image-size 64 or auto"):
            build_model(recipe_of(model=f"timm/{model}", image_size=62, channels=3))
        assert sizes == expected
