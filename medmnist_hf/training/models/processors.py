"""Image processors with which pipelines of `transformers` make the same inputs as the transform of a run."""

from typing import Any

import numpy as np
from PIL.Image import Resampling
from torch import Tensor
from transformers import ViTImageProcessor

from medmnist_hf.training.data.transforms import BatchTransform
from medmnist_hf.training.recipe import Recipe


class CenteringImageProcessor(ViTImageProcessor):
    """Resizes, normalizes and pads images with zeros, as ``resize: pad`` does."""

    def pad(self, images: list[Tensor], pad_size: Any = None, **_: Any) -> Any:  # type: ignore[override]
        """Center images in zeros."""
        return [self.center_crop(image, pad_size) for image in images]


def image_processor(recipe: Recipe, transform: BatchTransform) -> ViTImageProcessor:
    """Make an image processor of `transformers` equivalent to a transform, for RGB images.

    Args:
        recipe: The recipe of the transform; its subset has images.
        transform: From `medmnist_hf.training.data.recipe_transforms.input_transform`.
    """
    options: dict[str, Any] = {
        "resample": Resampling[(transform.interpolation or "bilinear").upper()],
        "image_mean": np.atleast_1d(transform.mean).tolist(),
        "image_std": np.atleast_1d(transform.std).tolist(),
    }
    size = transform.size or recipe.size
    side = {"height": size, "width": size}
    if transform.fit == "pad":
        stored = {"height": recipe.size, "width": recipe.size}
        return CenteringImageProcessor(size=stored, do_pad=True, pad_size=side, **options)
    return ViTImageProcessor(size=side, **options)


def timm_settings(own: dict[str, Any], recipe: Recipe, transform: BatchTransform) -> dict[str, Any]:
    """Make the ``pretrained_cfg`` with which timm's image processor is equivalent to a transform.

    Zero padding is approximated by pixels of the mean, rounded to integers.

    Args:
        own: The ``pretrained_cfg`` of the network.
        recipe: The recipe of the transform; its subset has images.
        transform: From `medmnist_hf.training.data.recipe_transforms.input_transform`.
    """
    omitted = {"url", "file", "hf_hub_id", "hf_hub_filename", "num_classes", "test_input_size", "test_crop_pct"}
    size, channels, padded = transform.size or recipe.size, recipe.input_channels, transform.fit == "pad"
    return {name: value for name, value in own.items() if name not in omitted} | {
        "input_size": [channels, size, size],
        "mean": np.broadcast_to(transform.mean, channels).tolist(),
        "std": np.broadcast_to(transform.std, channels).tolist(),
        "interpolation": transform.interpolation or "bilinear",
        # With a border, timm first resizes images to int(size / crop_pct), which is recipe.size here.
        "crop_pct": size / (recipe.size + 0.5) if padded else 1.0,
        "crop_mode": "border" if padded else "center",
    }
