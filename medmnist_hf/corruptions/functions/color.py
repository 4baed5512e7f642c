"""Corruptions of brightness, contrast, saturation and gamma.

Each function takes an RGB image, uint8 (H, W, 3), and a parameter, and returns an image of the same shape; all but
`saturate` also take a gray one, uint8 (H, W).
"""

import numpy as np
from PIL import Image, ImageEnhance

from medmnist_hf.array_types import FloatArray, UInt8Array


def brightness(image: UInt8Array, factor: float) -> UInt8Array:
    """Multiply the pixels by a factor."""
    return np.asarray(ImageEnhance.Brightness(Image.fromarray(image)).enhance(factor))


def contrast(image: UInt8Array, factor: float) -> UInt8Array:
    """Multiply the differences from the mean gray value by a factor."""
    return np.asarray(ImageEnhance.Contrast(Image.fromarray(image)).enhance(factor))


def gamma(image: UInt8Array, exponent: float) -> UInt8Array:
    """Raise pixels, scaled to 0..1, to a power: the definition of torchvision's `adjust_gamma` for Pillow images."""
    levels = (255.999 * (np.arange(256) / 255.0) ** exponent).astype(np.uint8)
    return levels[image]


def saturate(image: UInt8Array, amount: float) -> UInt8Array:
    """Add an amount to the saturation of each pixel in the hue, saturation, value model, up to 1."""
    pixels = image / 255.0
    value = pixels.max(axis=2)
    spread = value - pixels.min(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        hue = _hue(pixels, value, spread)
        saturation = np.where(spread == 0, 0, spread / value)
    saturated = np.clip(_to_rgb(hue, np.clip(saturation + amount, 0, 1), value), 0, 1)
    return (saturated * 255).astype(np.uint8)


def _hue(pixels: FloatArray, value: FloatArray, spread: FloatArray) -> FloatArray:
    """Hue as a fraction of the circle; 0 for gray."""
    red, green, blue = np.moveaxis(pixels, 2, 0)
    sectors = np.select(
        [value == blue, value == green],
        [4 + (red - green) / spread, 2 + (blue - red) / spread],
        (green - blue) / spread,
    )
    return np.where(spread == 0, 0, (sectors / 6) % 1)


def _to_rgb(hue: FloatArray, saturation: FloatArray, value: FloatArray) -> FloatArray:
    sector = np.floor(hue * 6)
    offset = hue * 6 - sector
    low = value * (1 - saturation)
    falling = value * (1 - offset * saturation)
    rising = value * (1 - (1 - offset) * saturation)
    which = sector.astype(np.intp) % 6
    return np.stack(
        [
            np.choose(which, [value, falling, low, low, rising, value]),
            np.choose(which, [rising, value, value, falling, low, low]),
            np.choose(which, [low, low, rising, value, value, falling]),
        ],
        axis=2,
    )
