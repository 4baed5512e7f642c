"""Noise against its distributions."""

import numpy as np
import pytest
from numpy.random import Generator, Philox
from scipy.stats import kstest, norm

from medmnist_hf.corruptions.functions.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise

GRAY = np.full((224, 224, 3), 128, np.uint8)


def rng() -> Generator:
    return Generator(Philox(7))


@pytest.mark.parametrize(("function", "deviation"), [(gaussian_noise, 0.1 * 255), (speckle_noise, 0.1 * 128)])
def test_normal_noise(function: object, deviation: float) -> None:
    assert callable(function)
    noisy = function(GRAY, rng(), 0.1)
    jittered = noisy + np.random.default_rng(0).random(noisy.shape)  # undo the truncation to integers
    assert kstest(jittered.ravel()[::7], norm(128, deviation).cdf).pvalue > 0.01


def test_speckle_keeps_black_and_gaussian_is_clipped() -> None:
    black = np.zeros_like(GRAY)
    assert not speckle_noise(black, rng(), 0.6).any()
    assert 0.4 < (gaussian_noise(black, rng(), 0.2) == 0).mean() < 0.6


def test_impulses() -> None:
    noisy = impulse_noise(GRAY, rng(), 0.17)
    shares = {
        int(value): count / noisy.size for value, count in zip(*np.unique(noisy, return_counts=True), strict=True)
    }
    assert shares == pytest.approx({0: 0.085, 128: 0.83, 255: 0.085}, abs=0.003)


def test_shots_are_counts() -> None:
    noisy = shot_noise(GRAY, rng(), 25)
    assert set(np.unique(noisy)) <= {int(min(count / 25, 1) * 255) for count in range(80)}
    assert noisy.mean() == pytest.approx(128, abs=1)
    assert noisy.std() == pytest.approx(255 * np.sqrt(128 / 255 / 25), rel=0.02)
