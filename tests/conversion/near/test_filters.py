"""Small copies, low frequencies and local contrast behave under symmetries as the search assumes."""

import numpy as np
import pytest

from medmnist_hf.conversion.near.filters import frequencies, local_contrast, small_copies, symmetries
from tests.fixtures.near import textures


@pytest.mark.parametrize(
    ("shape", "ndim", "side"),
    [((28, 28), 2, 28), ((64, 64, 3), 2, 32), ((224, 224), 2, 32), ((28, 28, 28), 3, 14), ((64, 64, 64), 3, 16)],
)
def test_small_copies_are_means_of_blocks(shape: tuple[int, ...], ndim: int, side: int) -> None:
    images = np.full((2, *shape), 90, np.uint8)
    images[1, : shape[0] // side] = 200
    copies = small_copies(images, ndim)
    assert copies.shape == (2, *(side,) * ndim) and copies.dtype == np.uint8
    assert (copies[0] == 90).all() and (copies[1, 0] == 200).all() and (copies[1, 1:] == 90).all()


@pytest.mark.parametrize(("ndim", "count"), [(2, 8), (3, 48)])
def test_symmetries_act_on_images_and_frequencies_alike(ndim: int, count: int) -> None:
    images = textures(3, (14,) * ndim)
    results = set()
    for symmetry in symmetries(ndim):
        turned = symmetry.of_images(images)
        results.add(turned.tobytes())
        np.testing.assert_allclose(symmetry.of_frequencies(frequencies(images)), frequencies(turned), atol=2e-2)
        np.testing.assert_allclose(symmetry.of_images(local_contrast(images)), local_contrast(turned), atol=1e-4)
    assert len(results) == count
    assert np.array_equal(symmetries(ndim)[0].of_images(images), images)


def test_frequencies_are_those_of_an_orthonormal_cosine_transform() -> None:
    rows, columns = np.mgrid[:28, :28]
    wave = np.cos(np.pi / 28 * 3 * (rows + 0.5)) * np.cos(np.pi / 28 * 5 * (columns + 0.5))
    values = frequencies(np.rint(128 + 100 * wave).astype(np.uint8)[None])[0]
    assert values[3, 5] == pytest.approx(100 * 14, rel=0.01) and values[0, 0] == pytest.approx(128 * 28, rel=0.01)
    values[3, 5] = values[0, 0] = 0
    assert np.abs(values).max() < 10


def test_local_contrast_ignores_brightness_and_blank_images() -> None:
    images = (textures(4, (28, 28)) // 2).astype(np.uint8)
    np.testing.assert_allclose(local_contrast(images + 80), local_contrast(images), atol=1e-4)
    assert not np.abs(local_contrast(np.full((1, 28, 28), 77, np.uint8))).max() > 1e-4
