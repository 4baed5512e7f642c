"""Pixel sums are exact, and equal those of NumPy."""

import numpy as np
import pytest

from medmnist_hf.statistics.sums import PixelCounter, PixelSums, pooled

RNG = np.random.default_rng(0)


def sums_of(images: np.ndarray, step: int) -> PixelSums:
    counter = PixelCounter(images.shape[-1] if images.shape[-1] == 3 else 1)
    for start in range(0, len(images), step):
        counter.add(images[start : start + step])
    return counter.sums()


@pytest.mark.parametrize("shape", [(50, 9, 8), (50, 9, 8, 3), (50, 5, 6, 7)])
def test_sums_equal_numpy_in_any_blocks(shape: tuple[int, ...]) -> None:
    images = RNG.integers(0, 256, shape, np.uint8)
    channels = images.reshape(-1, 3 if shape[-1] == 3 else 1).astype(np.int64)
    sums = sums_of(images, 7)
    assert sums == sums_of(images, 50)
    assert sums == PixelSums(len(channels), tuple(channels.sum(0).tolist()), tuple((channels**2).sum(0).tolist()))
    np.testing.assert_allclose(sums.mean, channels.mean(0) / 255, rtol=1e-14)
    np.testing.assert_allclose(sums.std, channels.std(0) / 255, rtol=1e-12)


def test_equal_pixels_have_no_deviation() -> None:
    assert sums_of(np.full((3, 5, 5), 77, np.uint8), 1).std == (0.0,)


def test_gray_and_rgb_are_pooled() -> None:
    gray, color = RNG.integers(0, 256, (4, 5, 5), np.uint8), RNG.integers(0, 256, (3, 5, 5, 3), np.uint8)
    everything = np.concatenate([np.repeat(gray[..., None], 3, -1), color])
    assert pooled([sums_of(gray, 9), sums_of(color, 9)]) == sums_of(everything, 9)
