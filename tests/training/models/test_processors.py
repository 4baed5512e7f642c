"""Image processors of `transformers`: the same pixels as a run's own transform of stored images."""

# Methods of transformers' classes are untyped.
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

import medmnist_hf.training.models  # noqa: F401  (registers the processor with the Auto classes)
from medmnist_hf.training.data.recipe_transforms import input_transform
from medmnist_hf.training.data.transforms import BatchTransform
from medmnist_hf.training.models.processors import CenteringImageProcessor, image_processor, timm_settings
from medmnist_hf.training.recipe import Recipe, make_recipe

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

WAYS: list[dict[str, Any]] = [
    {"resize": "none"},
    {"resize": "nearest", "image_size": 64},
    {"resize": "nearest", "image_size": 44},  # some centers fall between two pixels, where either is correct
    {"resize": "bilinear", "image_size": 40},
    {"resize": "bilinear", "image_size": 20},
    {"resize": "bicubic", "image_size": 40},
    {"resize": "pad", "image_size": 41},
    {"resize": "pad", "image_size": 29},
]


def timm_config(architecture: str = "test_resnet") -> dict[str, Any]:
    network: Any = timm.create_model(architecture)
    return dict(network.pretrained_cfg)


def pictures(flag: str, size: int = 28) -> npt.NDArray[np.uint8]:
    shape = (3, size, size, 3) if flag == "bloodmnist" else (3, size, size)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def in_training(transform: BatchTransform, images: npt.NDArray[np.uint8]) -> Tensor:
    return transform({"images": torch.from_numpy(images), "labels": torch.zeros(len(images))})["pixel_values"]


def in_pipeline(processor: Any, images: npt.NDArray[np.uint8]) -> Tensor:
    """Apply a processor to PIL images in RGB, as pipelines do."""
    rgb = [Image.fromarray(image).convert("RGB") for image in images]
    return torch.as_tensor(processor(images=rgb, return_tensors="pt")["pixel_values"])


def recipe_of(flag: str, way: dict[str, Any]) -> Recipe:
    return make_recipe({"dataset": flag, **way})


@pytest.mark.parametrize("flag", ["breastmnist", "bloodmnist"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_both_processors_are_equivalent_to_the_transform(flag: str, way: dict[str, Any], tmp_path: Path) -> None:
    recipe = recipe_of(flag, way)
    images = pictures(flag)
    transform = input_transform(recipe, MEAN, STD, recipe.input_size)
    expected = in_training(transform, images)
    image_processor(recipe, transform).save_pretrained(tmp_path)
    values = in_pipeline(AutoImageProcessor.from_pretrained(tmp_path), images)
    assert values.shape == expected.shape
    # One gray level, since Pillow and torch round resized pixels differently.
    step = 1 / 255 / min(STD) + 1e-5
    rounded = step if recipe.resize in {"bilinear", "bicubic"} else 1e-5
    assert (values - expected).abs().max() <= rounded
    by_timm = in_pipeline(TimmWrapperImageProcessor(timm_settings(timm_config(), recipe, transform)), images)
    assert by_timm.shape == expected.shape
    assert (by_timm - expected).abs().max() <= (step / 2 if recipe.resize == "pad" else rounded)


def test_resized_images_differ_in_only_a_few_pixels() -> None:
    """The step that is allowed above is rare."""
    recipe = recipe_of("bloodmnist", {"resize": "bicubic", "image_size": 64})
    transform = input_transform(recipe, MEAN, STD, 64)
    images = pictures("bloodmnist")
    for processor in (
        image_processor(recipe, transform),
        TimmWrapperImageProcessor(timm_settings(timm_config(), recipe, transform)),
    ):
        is_different = (in_pipeline(processor, images) - in_training(transform, images)).abs() > 1e-4
        assert is_different.float().mean() < 0.01


@pytest.mark.parametrize("resize", ["bilinear", "pad"])
@pytest.mark.parametrize("channels", [1, 3])
def test_without_normalization_pixels_are_in_0_to_1(resize: str, channels: int) -> None:
    recipe = recipe_of("breastmnist", {"resize": resize, "image_size": 32, "channels": channels, "normalize": "none"})
    transform = input_transform(recipe, (), (), 32)
    images = pictures("breastmnist")
    expected = in_training(transform, images).expand(-1, 3, -1, -1)
    values = in_pipeline(image_processor(recipe, transform), images)
    assert values.min() >= 0 and values.max() <= 1 + 1e-6
    assert (values - expected).abs().max() <= 1 / 255 + 1e-5
    settings = timm_settings(timm_config(), recipe, transform)
    assert (settings["mean"], settings["std"]) == ([0.0] * channels, [1.0] * channels)


def test_images_of_another_size_are_resized_to_the_size_of_the_data_before_padding() -> None:
    recipe = recipe_of("breastmnist", {"resize": "pad", "image_size": 40})
    transform = input_transform(recipe, MEAN, STD, 40)
    large = np.full((1, 90, 90), 255, np.uint8)
    for processor, outside in (
        (image_processor(recipe, transform), 1e-6),
        (
            TimmWrapperImageProcessor(timm_settings(timm_config("test_vit"), recipe, transform)),
            0.01,
        ),
    ):
        values = in_pipeline(processor, large)
        assert values.shape == (1, 3, 40, 40)
        assert (values[..., 6:34, 6:34] > 1).all()
        assert (values[..., :6, :].abs() < outside).all() and (values[..., 34:].abs() < outside).all()
    assert isinstance(image_processor(recipe, transform), CenteringImageProcessor)


def test_timm_settings_keep_other_entries_and_drop_those_of_the_weights() -> None:
    own = timm_config("test_vit")
    recipe = recipe_of("bloodmnist", {"resize": "nearest", "image_size": 48})
    settings = timm_settings(own, recipe, input_transform(recipe, MEAN, STD, 48))
    assert (settings["first_conv"], settings["classifier"]) == (own["first_conv"], own["classifier"])
    assert not {"url", "hf_hub_id", "num_classes", "test_input_size"} & set(settings)
    assert (settings["input_size"], settings["interpolation"], settings["mean"]) == (
        [3, 48, 48],
        "nearest",
        list(MEAN),
    )
