"""Brightness, contrast, gamma and saturation against their definitions."""

import colorsys

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.functional import adjust_gamma  # type: ignore[import-untyped]

from medmnist_hf.corruptions.functions.color import brightness, contrast, gamma, saturate

RNG = np.random.default_rng(0)
IMAGE = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)


@pytest.mark.parametrize("exponent", [0.4, 0.9, 1.1, 2.0])
def test_gamma_is_that_of_torchvision(exponent: float) -> None:
    assert (gamma(IMAGE, exponent) == np.asarray(adjust_gamma(Image.fromarray(IMAGE), exponent))).all()


def test_brightness_and_contrast_are_linear() -> None:
    assert np.abs(brightness(IMAGE, 1.4) - np.minimum(IMAGE * 1.4, 255)).max() < 1
    mean = np.round(np.asarray(Image.fromarray(IMAGE).convert("L")).mean())
    assert np.abs(contrast(IMAGE, 0.6) - (mean + 0.6 * (IMAGE - mean))).max() <= 1


def test_saturation_is_added() -> None:
    image = np.concatenate([IMAGE, np.full((2, 40, 3), 90, np.uint8), np.zeros((2, 40, 3), np.uint8)])
    for old, new in zip(image.reshape(-1, 3).tolist(), saturate(image, 0.15).reshape(-1, 3).tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in old))
        expected = colorsys.hsv_to_rgb(hue, min(1, saturation + 0.15), value)
        assert np.abs(np.array(new) - np.array(expected) * 255).max() < 1.001
