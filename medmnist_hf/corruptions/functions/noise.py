"""Corruptions by noise, which is drawn for each pixel and channel from a generator of NumPy.

Each function takes an RGB image, uint8 (H, W, 3), a generator and a parameter, and returns an image of the same shape.
"""

import numpy as np
from numpy.random import Generator

from medmnist_hf.array_types import UInt8Array


def gaussian_noise(image: UInt8Array, generator: Generator, deviation: float) -> UInt8Array:
    """Add normal noise; the standard deviation is for pixels in 0..1."""
    noise = generator.standard_normal(image.shape, np.float32)
    noise *= np.float32(255 * deviation)
    noise += image
    return np.clip(noise, 0, 255, out=noise).astype(np.uint8)


def speckle_noise(image: UInt8Array, generator: Generator, deviation: float) -> UInt8Array:
    """Add normal noise that is multiplied by the pixel."""
    noise = generator.standard_normal(image.shape, np.float32)
    noise *= np.float32(deviation)
    noise += 1
    noise *= image
    return np.clip(noise, 0, 255, out=noise).astype(np.uint8)


def impulse_noise(image: UInt8Array, generator: Generator, amount: float) -> UInt8Array:
    """Replace a fraction of the values by 0 or 255 with equal probability."""
    drawn = generator.random(image.shape, np.float32)
    noisy = image.copy()
    noisy[drawn < amount / 2] = 0
    noisy[drawn >= 1 - amount / 2] = 255
    return noisy


def shot_noise(image: UInt8Array, generator: Generator, photons: float) -> UInt8Array:
    """Replace each value by a Poisson count with that mean; white stands for the given number of photons."""
    counts = generator.poisson(image / 255.0 * photons)
    return (np.clip(counts / photons, 0, 1) * 255).astype(np.uint8)
