"""Lower resolution and JPEG."""

import numpy as np

from medmnist_hf.corruptions.functions.digital import jpeg, pixelate

RNG = np.random.default_rng(0)


def test_pixelate_averages_boxes() -> None:
    image = RNG.integers(0, 256, (224, 224, 3), np.uint8)
    means = image.reshape(56, 4, 56, 4, 3).mean((1, 3)).repeat(4, 0).repeat(4, 1)
    assert np.abs(pixelate(image, 0.25) - means).max() <= 1


def test_jpeg_loses_more_at_a_lower_quality() -> None:
    image = RNG.integers(0, 256, (224, 224, 3), np.uint8)
    losses = [np.abs(jpeg(image, quality) - image.astype(int)).mean() for quality in (95.0, 50.0, 30.0, 7.0)]
    assert losses[0] > 0 and losses == sorted(losses)
