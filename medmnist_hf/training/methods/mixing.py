"""Mixup and CutMix of the batches of a training, of any size."""

from collections.abc import Callable

import torch
from timm.data.mixup import Mixup, mixup_target
from torch import Tensor

from medmnist_hf.catalog import Task
from medmnist_hf.training.recipe import Recipe


def mixing(recipe: Recipe) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """What mixes a batch in place, one draw a batch, each image with that at the other end; None for no mixing.

    The image in the middle of an odd batch has none: the last image is left as it is and the others are mixed.

    Args:
        recipe: Says how strongly.

    Returns:
        A function of images (B, C, ...) and labels, class ids (B,) or findings (B, L), to images and targets: shares
        of the classes (B, K) or of the findings. One image alone is returned as it came.
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
            alone = mixup_target(labels[paired:], classes, multi_label=multi)  # type: ignore[no-untyped-call]
            targets = torch.cat([targets, alone])
        return images, targets

    return mixed
