"""Image processors of `transformers`: the same pixels as a run's own transform of stored images."""

# Methods of transformers' classes carry no types.
# mypy: allow-untyped-calls

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor
from transformers.models.timm_wrapper.image_processing_timm_wrapper import TimmWrapperImageProcessor

import medmnist_hf.training.models  # noqa: F401  (makes the processor known to the Auto classes)
from medmnist_hf.training.data.recipe_transforms import input_transform
from medmnist_hf.training.data.transforms import BatchTransform
from medmnist_hf.training.models.processors import CenteringImageProcessor, image_processor, timm_settings
from medmnist_hf.training.recipe import Recipe, make_recipe

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

WAYS: list[dict[str, Any]] = [
    {"resize": "none"},
    {"resize": "nearest", "image_size": 64},
    {"resize": "nearest", "image_size": 44},  # at odd sizes a center falls between two pixels, and either is right
    {"resize": "bilinear", "image_size": 40},
    {"resize": "bilinear", "image_size": 20},
    {"resize": "bicubic", "image_size": 40},
    {"resize": "pad", "image_size": 41},
    {"resize": "pad", "image_size": 29},
]


def known(architecture: str = "test_resnet") -> dict[str, Any]:
    network: Any = timm.create_model(architecture)
    return dict(network.pretrained_cfg)


def pictures(flag: str, size: int = 28) -> npt.NDArray[np.uint8]:
    shape = (3, size, size, 3) if flag == "bloodmnist" else (3, size, size)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def in_training(transform: BatchTransform, images: npt.NDArray[np.uint8]) -> Tensor:
    return transform({"images": torch.from_numpy(images), "labels": torch.zeros(len(images))})["pixel_values"]


def in_pipeline(processor: Any, images: npt.NDArray[np.uint8]) -> Tensor:
    """As a pipeline does: PIL images, as RGB."""
    shown = [Image.fromarray(image).convert("RGB") for image in images]
    return torch.as_tensor(processor(images=shown, return_tensors="pt")["pixel_values"])


def recipe_of(flag: str, way: dict[str, Any]) -> Recipe:
    return make_recipe({"dataset": flag, **way})


@pytest.mark.parametrize("flag", ["breastmnist", "bloodmnist"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_both_processors_make_what_the_transform_makes(flag: str, way: dict[str, Any], tmp_path: Path) -> None:
    recipe = recipe_of(flag, way)
    images = pictures(flag)
    transform = input_transform(recipe, MEAN, STD, recipe.image_size or 28)
    expected = in_training(transform, images)
    image_processor(recipe, transform).save_pretrained(tmp_path)
    found = in_pipeline(AutoImageProcessor.from_pretrained(tmp_path), images)
    assert found.shape == expected.shape
    # One step of a pixel, where Pillow and torch round a resized pixel differently.
    step = 1 / 255 / min(STD) + 1e-5
    rounded = step if recipe.resize in {"bilinear", "bicubic"} else 1e-5
    assert (found - expected).abs().max() <= rounded
    by_timm = in_pipeline(TimmWrapperImageProcessor(timm_settings(known(), recipe, transform)), images)
    assert by_timm.shape == expected.shape
    assert (by_timm - expected).abs().max() <= (step / 2 if recipe.resize == "pad" else rounded)


def test_images_that_are_resized_differ_in_few_pixels_alone() -> None:
    """The step that is allowed above is rare."""
    recipe = recipe_of("bloodmnist", {"resize": "bicubic", "image_size": 64})
    transform = input_transform(recipe, MEAN, STD, 64)
    images = pictures("bloodmnist")
    for processor in (
        image_processor(recipe, transform),
        TimmWrapperImageProcessor(timm_settings(known(), recipe, transform)),
    ):
        apart = (in_pipeline(processor, images) - in_training(transform, images)).abs() > 1e-4
        assert apart.float().mean() < 0.01


@pytest.mark.parametrize("resize", ["bilinear", "pad"])
@pytest.mark.parametrize("channels", [1, 3])
def test_without_normalization_pixels_are_in_0_to_1(resize: str, channels: int) -> None:
    recipe = recipe_of("breastmnist", {"resize": resize, "image_size": 32, "channels": channels, "normalize": "none"})
    transform = input_transform(recipe, (), (), 32)
    images = pictures("breastmnist")
    expected = in_training(transform, images).expand(-1, 3, -1, -1)
    found = in_pipeline(image_processor(recipe, transform), images)
    assert found.min() >= 0 and found.max() <= 1 + 1e-6
    assert (found - expected).abs().max() <= 1 / 255 + 1e-5
    shown = timm_settings(known(), recipe, transform)
    assert (shown["mean"], shown["std"]) == ([0.0] * channels, [1.0] * channels)


def test_images_of_another_size_are_brought_to_that_of_the_data_before_they_are_padded() -> None:
    recipe = recipe_of("breastmnist", {"resize": "pad", "image_size": 40})
    transform = input_transform(recipe, MEAN, STD, 40)
    large = np.full((1, 90, 90), 255, np.uint8)
    for processor, outside in (
        (image_processor(recipe, transform), 1e-6),
        (
            TimmWrapperImageProcessor(timm_settings(known("test_vit"), recipe, transform)),
            0.01,
        ),
    ):
        found = in_pipeline(processor, large)
        assert found.shape == (1, 3, 40, 40)
        assert (found[..., 6:34, 6:34] > 1).all()
        assert (found[..., :6, :].abs() < outside).all() and (found[..., 34:].abs() < outside).all()
    assert isinstance(image_processor(recipe, transform), CenteringImageProcessor)


def test_settings_of_timm_keep_what_they_do_not_change_and_name_no_other_weights() -> None:
    own = known("test_vit")
    recipe = recipe_of("bloodmnist", {"resize": "nearest", "image_size": 48})
    shown = timm_settings(own, recipe, input_transform(recipe, MEAN, STD, 48))
    assert (shown["first_conv"], shown["classifier"]) == (own["first_conv"], own["classifier"])
    assert not {"url", "hf_hub_id", "num_classes", "test_input_size"} & set(shown)
    assert (shown["input_size"], shown["interpolation"], shown["mean"]) == ([3, 48, 48], "nearest", list(MEAN))
