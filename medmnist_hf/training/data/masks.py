"""Change the samples of a batch on any device, without a value that the host reads and waits for.

On the CPU, where nothing waits, `augment` has code of its own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def crop(images: Tensor, corners: Tensor, sides: Sequence[int]) -> Tensor:
    """Crop a window from each sample.

    Args:
        images: (B, C, H, W) or (B, C, D, H, W), as in all functions here.
        corners: int64 (B, axes), the first pixel or voxel of each window.
        sides: Lengths of the windows.
    """
    samples = torch.arange(len(images), device=images.device)
    for axis, side in enumerate(sides, 2):
        images = images.unfold(axis, side, 1)
    return images[samples, :, *corners.T]


def flip(images: Tensor, flips: Tensor, axes: Sequence[int]) -> Tensor:
    """Flip samples along each axis for which `flips`, bool (B, axes), is true."""
    for axis, is_flipped in zip(axes, flips.T, strict=True):
        images = torch.where(_per_sample(is_flipped, images), images.flip(axis), images)
    return images


def turn(images: Tensor, planes: Tensor, quarters: Tensor, choices: Sequence[tuple[int, int]]) -> Tensor:
    """Rotate samples by quarter turns, int64 (B,), in planes that are numbers of `choices`, int64 (B,)."""
    turned = images
    for number, plane in enumerate(choices):
        for turns in (1, 2, 3):
            is_turned = (planes == number) & (quarters == turns)
            turned = torch.where(_per_sample(is_turned, images), images.rot90(turns, plane), turned)
    return turned


def erase(images: Tensor, edges: Tensor) -> Tensor:
    """Set a rectangle of each image to 0: `edges` is int64 (B, 4) with top, bottom, left and right, as slices."""
    top, bottom, left, right = edges.T[:, :, None]
    row, column = (torch.arange(side, device=images.device) for side in images.shape[2:])
    rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
    return images.masked_fill((rows[:, :, None] & columns[:, None])[:, None], 0)


def _per_sample(values: Tensor, images: Tensor) -> Tensor:
    """View values (B,) so that they broadcast over images (B, ...)."""
    return values.view(-1, *(1,) * (images.ndim - 1))
