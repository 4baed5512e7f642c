"""`medmnist_hf.training.data.recipe_transforms`: transforms of a recipe, and mixing as in timm for any batch size."""

from typing import Any

import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup

from medmnist_hf.errors import CatalogError, TrainingError
from medmnist_hf.training.data.augment import ColorJitter, Crop, Flip, QuarterTurns, Rotation
from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.recipe_transforms import (
    IntensityScale,
    RandomCorruption,
    augmentations,
    input_transform,
    make_mixing,
    memory_format,
    train_transform,
)
from medmnist_hf.training.recipe import Recipe, make_recipe

RNG = np.random.default_rng(0)
GRAY = ArrayDataset(RNG.integers(0, 256, (3, 28, 28), dtype=np.uint8), np.arange(3))
RGB = ArrayDataset(RNG.integers(0, 256, (3, 28, 28, 3), dtype=np.uint8), np.arange(3))
VOLUMES = ArrayDataset(RNG.integers(0, 256, (3, 28, 28, 28), dtype=np.uint8), np.arange(3))


def recipe_of(dataset: str = "breastmnist", **options: Any) -> Recipe:
    return make_recipe({"dataset": dataset, **options})


def test_gray_images_get_three_channels_and_the_models_normalization() -> None:
    values = input_transform(recipe_of(), (0.1, 0.2, 0.3), (1.0, 2.0, 4.0), 28)([GRAY.gather([0, 1])])["pixel_values"]
    pixels = GRAY.gather([0, 1]).images.float()[:, None] / 255
    expected = (pixels - torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)) / torch.tensor([1.0, 2, 4]).view(1, 3, 1, 1)
    assert torch.allclose(values, expected, atol=1e-6)
    assert values.is_contiguous(memory_format=torch.channels_last)


def test_without_normalization_pixels_are_in_0_to_1() -> None:
    values = input_transform(recipe_of(channels=1), (), (), 28)([GRAY.gather([2])])["pixel_values"]
    assert torch.allclose(values, GRAY.gather([2]).images[:, None].float() / 255)


def test_padding_is_zero_after_normalization() -> None:
    values = input_transform(recipe_of(resize="pad"), (0.5,) * 3, (0.5,) * 3, 32)([GRAY.gather([0])])["pixel_values"]
    assert values.shape == (1, 3, 32, 32)
    assert not values[..., :2, :].any() and not values[..., 30:].any()


@pytest.mark.parametrize("resize", ["nearest", "bilinear", "bicubic"])
def test_images_are_resized_as_named(resize: str) -> None:
    mean = std = (0.5,) * 3
    batch = input_transform(recipe_of("bloodmnist", resize=resize), mean, std, 32)([RGB.gather([0, 1, 2])])
    assert batch["pixel_values"].shape == (3, 3, 32, 32)
    other = {"nearest": "bicubic", "bilinear": "nearest", "bicubic": "bilinear"}[resize]
    other_batch = input_transform(recipe_of("bloodmnist", resize=other), mean, std, 32)([RGB.gather([0, 1, 2])])
    assert not torch.equal(batch["pixel_values"], other_batch["pixel_values"])


def test_volumes_are_resized_along_depth_too() -> None:
    values = input_transform(recipe_of("adrenalmnist3d"), (), (), 32)([VOLUMES.gather([0])])["pixel_values"]
    assert values.shape == (1, 3, 32, 32, 32) and values.is_contiguous(memory_format=torch.channels_last_3d)
    with pytest.raises(TrainingError, match="bicubic is not for volumes"):
        input_transform(recipe_of("adrenalmnist3d", resize="bicubic"), (), (), 32)


def test_intensity_is_random_in_training_and_halved_in_evaluation() -> None:
    recipe = recipe_of("adrenalmnist3d", intensity_scale=True, channels=1)
    batch = VOLUMES.gather([0, 1, 2])
    pixels = batch.images[:, None].float() / 255
    evaluated = input_transform(recipe, (), (), 28)([batch])["pixel_values"]
    assert torch.allclose(evaluated, pixels / 2)
    augmented = train_transform(recipe, (), (), 28, 0)([batch])["pixel_values"]
    factors = augmented.flatten(1).sum(1) / pixels.flatten(1).sum(1)
    assert len(set(factors.tolist())) == 3 and factors.max() < 1
    assert torch.allclose(augmented, pixels * factors.view(-1, 1, 1, 1, 1), atol=0.5 / 255 + 1e-3)


def test_intensity_also_changes_float_pixels() -> None:
    pixels = torch.rand(4, 1, 5, 5)
    scaled = IntensityScale()(pixels, torch.Generator().manual_seed(0))
    factors = (scaled / pixels).flatten(1)
    assert torch.allclose(factors, factors[:, :1].expand(-1, 25), atol=1e-5)


def test_augmentations_follow_the_recipe_and_are_only_used_in_training() -> None:
    everything = {
        "flip_horizontal": 0.5,
        "flip_vertical": 0.25,
        "rotate90": True,
        "rotation": 10.0,
        "crop_padding": 2,
        "color_jitter": 0.2,
    }
    images = augmentations(recipe_of("bloodmnist", **everything))
    assert [type(step) for step in images] == [Flip, Flip, QuarterTurns, Rotation, Crop, ColorJitter]
    assert images[:2] == (Flip((-1,), 0.5), Flip((-2,), 0.25))
    del everything["color_jitter"]
    volumes = augmentations(recipe_of("adrenalmnist3d", **everything))
    assert volumes[1] == Flip((-2, -3), 0.25) and volumes[2] == QuarterTurns(QuarterTurns.VOLUME_PLANES)
    assert not augmentations(recipe_of())
    recipe = recipe_of("bloodmnist", **everything)
    assert not input_transform(recipe, (), (), 28).augment
    first, second = (train_transform(recipe, (), (), 28, seed)([RGB.gather([0])])["pixel_values"] for seed in (1, 2))
    assert not torch.equal(first, second)


def test_corruptions_are_drawn_per_image_with_the_seed() -> None:
    (step,) = augmentations(recipe_of("bloodmnist", corruptions=True))
    assert step == RandomCorruption("bloodmnist")
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (96, 3, 28, 28), np.uint8))
    corrupted = step(images, torch.Generator().manual_seed(3))
    choices, shares, seeds = step.draw(images.shape, torch.Generator().manual_seed(3))
    assert set(choices.tolist()) == set(range(12)), "eleven corruptions or none"
    same = (corrupted == images).flatten(1).all(1)
    assert same[choices == 11].all() and not same[choices != 11].all() and corrupted.dtype == torch.uint8
    part = step.apply(images[40:50], choices[40:50], shares[40:50], seeds[40:50])
    assert torch.equal(part, corrupted[40:50]), "in any piece of a batch"
    as_float = step.apply(images / 255, choices, shares, seeds)
    assert torch.equal((as_float * 255).round().to(torch.uint8), corrupted)
    gray = RandomCorruption("octmnist")(images[:, :1], torch.Generator().manual_seed(3))
    assert gray.shape == (96, 1, 28, 28) and not torch.equal(gray, images[:, :1])
    with pytest.raises(CatalogError, match="organmnist3d holds volumes"):
        augmentations(recipe_of("organmnist3d", corruptions=True))


@pytest.mark.parametrize(
    ("options", "size", "message"),
    [
        (
            {"dataset": "breastmnist", "resize": "none"},
            64,
            "resize is none, but the network reads 64 pixels and images have 28",
        ),
        (
            {"dataset": "breastmnist", "color_jitter": 0.1},
            28,
            "color_jitter needs RGB images, but breastmnist is gray",
        ),
    ],
)
def test_impossible_transforms_are_one_line_errors(options: dict[str, Any], size: int, message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        train_transform(make_recipe(options), (), (), size, 0)
    assert "\n" not in str(caught.value)


def test_the_memory_format_depends_on_the_dimensions() -> None:
    assert memory_format(recipe_of()) == torch.channels_last
    assert memory_format(recipe_of("adrenalmnist3d")) == torch.channels_last_3d


def mix(count: int, dataset: str = "pathmnist", **options: Any) -> tuple[torch.Tensor, ...]:
    """Images whose pixels are their index, and labels, before and after mixing."""
    mixed = make_mixing(make_recipe({"dataset": dataset, **options}))
    assert mixed is not None
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 1, 32, 32).clone()
    labels = (
        torch.arange(count) % 9 if dataset == "pathmnist" else (torch.arange(count)[:, None] % 14 == torch.arange(14))
    )
    np.random.seed(3)
    return images.clone(), labels, *mixed(images.clone(), labels.float() if labels.ndim == 2 else labels)


@pytest.mark.parametrize("options", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
@pytest.mark.parametrize("dataset", ["pathmnist", "chestmnist"])
def test_all_but_the_last_image_of_an_odd_batch_are_mixed(dataset: str, options: dict[str, float]) -> None:
    images, labels, mixed, targets = mix(7, dataset, **options)
    changed = (mixed != images).flatten(1).any(1)
    assert changed.tolist() == [True] * 6 + [False]
    assert targets.shape == (7, 9 if dataset == "pathmnist" else 14)
    last = torch.nn.functional.one_hot(labels[-1], 9) if labels.ndim == 1 else labels[-1]
    assert torch.equal(targets[-1], last.float())
    assert ((targets[:6] > 0) & (targets[:6] < 1)).any()


def test_an_even_batch_is_mixed_as_by_timm() -> None:
    images, labels, mixed, targets = mix(8, mixup=0.8, cutmix=1.0)
    np.random.seed(3)
    expected = Mixup(0.8, 1.0, label_smoothing=0, num_classes=9)(images, labels)  # type: ignore[no-untyped-call]
    assert torch.equal(mixed, expected[0]) and torch.equal(targets, expected[1])


def test_a_single_image_is_unchanged() -> None:
    images, labels, mixed, targets = mix(1, mixup=0.8)
    assert torch.equal(mixed, images) and torch.equal(targets, labels)


def test_a_recipe_without_mixing_gives_none() -> None:
    assert make_mixing(make_recipe({"dataset": "pathmnist"})) is None
