"""Stains, bubbles, letters and black corners."""

import numpy as np
import pytest
from numpy.random import Generator, Philox

from medmnist_hf.corruptions.functions.objects import black_corner, bubble, characters, draw_stain, stain_deposit

GRAY = np.full((224, 224, 3), 128, np.uint8)


@pytest.mark.parametrize(("side", "least", "largest"), [(24, 0.48, 0.78), (32, 0.47, 0.61)])
def test_shapes_of_stains(side: int, least: float, largest: float) -> None:
    shapes = np.stack([draw_stain(Generator(Philox(seed)), side, least, largest) for seed in range(60)])
    shares = shapes.mean((1, 2))
    assert shapes.shape == (60, side, side) and least - 0.01 < shares.min() and shares.max() < largest + 0.01
    assert np.ptp(shares) > (largest - least) / 2 and len(np.unique(shapes, axis=0)) == 60
    middle = slice(side * 3 // 8, side * 5 // 8)
    assert shapes[:, middle, middle].mean() > 0.95


def test_stains_are_black_and_off_the_edges() -> None:
    areas = []
    for seed in range(40):
        covered = (stain_deposit(GRAY, Generator(Philox(seed)), 3, 24) == 0).all(2)
        assert not covered[:10].any() and not covered[-10:].any() and not covered[:, :10].any()
        areas.append(covered.sum())
    assert min(areas) >= 0.48 * 24**2 and 1.5 * 24**2 < max(areas) <= 3 * 0.79 * 24**2


def test_bubbles_lighten() -> None:
    covered = []
    for seed in range(30):
        bubbled = bubble(GRAY, Generator(Philox(seed)), 7, 15)
        assert bubbled.min() == 128 and bubbled.max() == round(128 + 127 * 130 / 255)
        covered.append((bubbled > 128).all(2).sum())
    assert min(covered) > 7 * 3.14 * 3**2 and max(covered) < 15 * 3.14 * 10**2


@pytest.mark.parametrize("size", [28, 224])
def test_black_corners(size: int) -> None:
    image = np.full((size, size, 3), 128, np.uint8)
    for factor in (1.1, 1.0, 0.9):
        y, x = np.indices((size, size)) - size // 2
        inside = np.hypot(x, y) <= int(size // 2 * factor)
        assert ((black_corner(image, factor) > 0).all(2) != inside).mean() < 0.04


def test_words() -> None:
    rows = []
    for seed in range(30):
        written = characters(GRAY, Generator(Philox(seed)), 1, 6, 0.14)
        changed = (written != GRAY).any(2)
        assert 10 < changed.sum() < 300 and not changed[:3].any()
        rows.append(np.nonzero(changed.any(1))[0])
    assert max(np.ptp(row) for row in rows) < 12 and len({row[0] for row in rows}) > 15
