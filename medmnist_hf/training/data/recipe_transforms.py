"""Make the transforms of a recipe, for training and for evaluation, and its mixup and CutMix."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Generator, Tensor

from medmnist_hf.catalog import Task
from medmnist_hf.corruptions.augment import SHARES, corrupt_at_random
from medmnist_hf.corruptions.registry import corruptions
from medmnist_hf.errors import TrainingError
from medmnist_hf.extras import require_modules
from medmnist_hf.training.data.augment import (
    Augmentation,
    ColorJitter,
    Crop,
    Flip,
    QuarterTurns,
    Rotation,
    rounded_like,
)
from medmnist_hf.training.data.own_augmentation import OwnAugmentation
from medmnist_hf.training.data.transforms import WHITE, BatchTransform, Interpolation, channels_first
from medmnist_hf.training.recipe import Recipe

EVALUATION_INTENSITY: Final = 0.5
"""Factor on voxels in evaluation, where training draws a factor from 0..1."""


@dataclass(frozen=True)
class IntensityScale(Augmentation):
    """Multiply each sample by a factor drawn uniformly from 0..1: ``shape_transform`` of the published experiments."""

    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        """Draw factors, float32 (B,)."""
        return (torch.rand(shape[0], generator=generator),)

    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """Multiply the samples by their factors."""
        factors = parameters[0].view(-1, *[1] * (images.ndim - 1))
        pixels = images.float() * factors if images.dtype == torch.uint8 else images * factors
        return rounded_like(images, pixels)


@dataclass(frozen=True)
class RandomCorruption(Augmentation):
    """Corrupt each sample by one of the subset's corruptions of MedMNIST-C, or none, all equally likely.

    The parameters are drawn uniformly between those of severity 1 and the last ones listed, as published. Images are
    changed one after the other on the CPU.

    Attributes:
        flag: Flag of the subset.
    """

    flag: str

    def __post_init__(self) -> None:
        corruptions(self.flag)

    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        """Draw corruptions, int64 (B,), shares of the way between parameters, (B, 3), and seeds, int64 (B,)."""
        return (
            torch.randint(len(corruptions(self.flag)) + 1, (shape[0],), generator=generator),
            torch.rand(shape[0], SHARES, generator=generator),
            torch.randint(1 << 62, (shape[0],), generator=generator),
        )

    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """Corrupt the samples."""
        pixels = images if images.dtype == torch.uint8 else (images * WHITE).round().to(torch.uint8)
        stored = pixels[:, 0] if pixels.shape[1] == 1 else pixels.movedim(1, -1)
        drawn = (parameter.tolist() for parameter in parameters)
        corrupted = torch.from_numpy(corrupt_at_random(stored.cpu().contiguous().numpy(), self.flag, *drawn))
        corrupted = channels_first(corrupted).to(images.device)
        return corrupted if images.dtype == torch.uint8 else (corrupted / WHITE).to(images.dtype)


def input_transform(recipe: Recipe, mean: Sequence[float], std: Sequence[float], size: int) -> BatchTransform:
    """Make the transform from stored images to the network's input, without augmentation.

    Args:
        recipe: The recipe.
        mean: Mean per channel for normalization, in units of 0..1; empty for none.
        std: Standard deviation, as `mean`.
        size: Edge length of the input.

    Raises:
        TrainingError: The recipe cannot bring the subset's images to this size.
    """
    intensity = EVALUATION_INTENSITY if recipe.intensity_scale else 1.0
    return _transform(recipe, mean, std, size, intensity, (), 0)


def train_transform(
    recipe: Recipe, mean: Sequence[float], std: Sequence[float], size: int, seed: int
) -> BatchTransform:
    """Like `input_transform`, but with the recipe's augmentation, drawn with a seed."""
    return _transform(recipe, mean, std, size, 1.0, augmentations(recipe), seed)


def augmentations(recipe: Recipe) -> tuple[Augmentation | OwnAugmentation, ...]:
    """The augmentations of a recipe, in the order in which they are applied.

    Raises:
        TrainingError: An augmentation does not support the subset's images, or does not fulfill its contract.
    """
    volumes = recipe.ndim == 3
    steps: list[Augmentation | OwnAugmentation] = []
    if recipe.flip_horizontal:
        steps.append(Flip((-1,), recipe.flip_horizontal))
    if recipe.flip_vertical:
        steps.append(Flip((-2, -3) if volumes else (-2,), recipe.flip_vertical))
    if recipe.rotate90:
        steps.append(QuarterTurns(QuarterTurns.VOLUME_PLANES) if volumes else QuarterTurns())
    if recipe.rotation:
        steps.append(Rotation(recipe.rotation))
    if recipe.crop_padding:
        steps.append(Crop(recipe.crop_padding))
    if recipe.color_jitter:
        if gray := [entry.flag for entry in recipe.subsets if entry.channels != 3]:
            raise TrainingError(f"color_jitter needs RGB images, but {gray[0]} is gray: leave it out")
        steps.append(ColorJitter(recipe.color_jitter, recipe.color_jitter, recipe.color_jitter))
    if recipe.intensity_scale:
        steps.append(IntensityScale())
    if recipe.corruptions:
        require_modules("corruptions", "cv2")
        steps.append(RandomCorruption(recipe.dataset))
    if recipe.augmentation_file:
        own = OwnAugmentation(recipe.augmentation_file)
        own.check((recipe.stored_channels, *(recipe.size,) * recipe.ndim))
        steps.append(own)
    return tuple(steps)


def _transform(  # noqa: PLR0917
    recipe: Recipe,
    mean: Sequence[float],
    std: Sequence[float],
    size: int,
    intensity: float,
    augment: Sequence[Augmentation | OwnAugmentation],
    seed: int,
) -> BatchTransform:
    if recipe.resize == "none" and size != recipe.size:
        raise TrainingError(
            f"resize is none, but the network reads {size} pixels and images have {recipe.size}: use another resize"
        )
    resized = recipe.resize not in {"none", "pad"}
    return BatchTransform(
        mean=tuple(value / intensity for value in mean) or 0.0,
        std=tuple(value / intensity for value in std) or 1.0 / intensity,
        channels=3 if recipe.input_channels == 3 else None,
        size=size,
        fit="resize" if resized or size == recipe.size else "pad",
        interpolation=_interpolation(recipe) if resized else None,
        channels_last=True,
        augment=augment,
        seed=seed,
    )


def _interpolation(recipe: Recipe) -> Interpolation:
    if recipe.ndim == 2:
        return cast("Interpolation", recipe.resize)
    names: dict[str, Any] = {"nearest": "nearest", "bilinear": "trilinear"}
    if recipe.resize not in names:
        raise TrainingError(f"resize {recipe.resize} is not for volumes: use nearest or bilinear (trilinear there)")
    return cast("Interpolation", names[recipe.resize])


def memory_format(recipe: Recipe) -> torch.memory_format:
    """The memory format of inputs and weights: channels last, which is fastest for convolutions."""
    return torch.channels_last_3d if recipe.ndim == 3 else torch.channels_last


def make_mixing(recipe: Recipe) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """Make a function that mixes a batch in place, with one draw per batch; None if the recipe does not mix.

    Each image is mixed with the one at the mirrored position. In a batch of odd size, the last image is left
    unchanged.

    Args:
        recipe: The recipe with mixup and cutmix.

    Returns:
        A function of images (B, C, ...) and labels, class ids (B,) or findings (B, L), which returns images and
        targets: fractions of the classes (B, K) or of the findings (B, L). A single image is returned unchanged.
    """
    if not (recipe.mixup or recipe.cutmix):
        return None
    from timm.data.mixup import Mixup, mixup_target  # noqa: PLC0415  (loaders, imported with this, need torch only)

    classes, multi = len(recipe.subset.labels), recipe.subset.task is Task.MULTI_LABEL
    # Smoothing is done by the loss, so it is off here; multi-label targets are mixed as fractions.
    mix = Mixup(  # type: ignore[no-untyped-call]
        recipe.mixup, recipe.cutmix, label_smoothing=0, num_classes=classes, multi_label=multi
    )

    def mixed(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        paired = len(images) - len(images) % 2
        if not paired:
            return images, labels
        _, targets = mix(images[:paired], labels[:paired])
        if paired < len(images):
            last = mixup_target(labels[paired:], classes, multi_label=multi)  # type: ignore[no-untyped-call]
            targets = torch.cat([targets, last])
        return images, targets

    return mixed
