"""Mixup and CutMix for batches of any size."""

from collections.abc import Callable

import torch
from timm.data.mixup import Mixup, mixup_target
from torch import Tensor

from medmnist_hf.catalog import Task
from medmnist_hf.training.recipe import Recipe


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
