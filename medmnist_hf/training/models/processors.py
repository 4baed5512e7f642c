"""What makes a network's inputs in a pipeline of `transformers`, as a run's transform makes them of stored images."""

from typing import Any

import numpy as np
from PIL.Image import Resampling
from torch import Tensor
from transformers import ViTImageProcessor

from medmnist_hf.training.data.transforms import BatchTransform
from medmnist_hf.training.recipe import Recipe


class CenteringImageProcessor(ViTImageProcessor):
    """Resizes and normalizes images and puts zeros around them, as ``resize: pad`` does."""

    def pad(self, images: list[Tensor], pad_size: Any = None, **_: Any) -> Any:  # type: ignore[override]
        """Images in the middle of zeros."""
        return [self.center_crop(image, pad_size) for image in images]


def image_processor(recipe: Recipe, transform: BatchTransform) -> ViTImageProcessor:
    """The image processor of `transformers` that makes the inputs of a transform; images come to it as RGB.

    Args:
        recipe: What the transform was made for; its subset has images.
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


def timm_settings(known: dict[str, Any], recipe: Recipe, transform: BatchTransform) -> dict[str, Any]:
    """A ``pretrained_cfg`` of timm, by which timm's image processor makes the inputs of a transform.

    Zeros around the image are there pixels of the mean, rounded to whole values.

    Args:
        known: The network's own.
        recipe: What the transform was made for; its subset has images.
        transform: From `medmnist_hf.training.data.recipe_transforms.input_transform`.
    """
    apart = {"url", "file", "hf_hub_id", "hf_hub_filename", "num_classes", "test_input_size", "test_crop_pct"}
    size, channels, padded = transform.size or recipe.size, recipe.input_channels, transform.fit == "pad"
    return {name: value for name, value in known.items() if name not in apart} | {
        "input_size": [channels, size, size],
        "mean": np.broadcast_to(transform.mean, channels).tolist(),
        "std": np.broadcast_to(transform.std, channels).tolist(),
        "interpolation": transform.interpolation or "bilinear",
        # With a border, images are first brought to 1 / crop_pct of the size, rounded down.
        "crop_pct": size / (recipe.size + 0.5) if padded else 1.0,
        "crop_mode": "border" if padded else "center",
    }
