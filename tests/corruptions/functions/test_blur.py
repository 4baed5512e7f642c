"""Blurs against their definitions, SciPy and torchvision."""

import math

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import correlate, zoom
from torchvision.transforms.functional import gaussian_blur as blur_of_torchvision  # type: ignore[import-untyped]

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.corruptions.functions.blur import defocus_blur, gaussian_blur, motion_blur, motion_kernel, zoom_blur
from medmnist_hf.corruptions.registry import corruptions


def picture(size: int = 224) -> UInt8Array:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (28, 28, 3), np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    return (np.asarray(coarse) * 0.8 + rng.integers(0, 40, (size, size, 3))).astype(np.uint8)


def test_defocus_averages_a_disk() -> None:
    image = picture()
    x, y = np.meshgrid(*(np.arange(-8, 9),) * 2)
    disk = (x**2 + y**2 <= 25).astype(float)
    expected = correlate(image.astype(float), (disk / disk.sum())[..., None], mode="mirror")
    assert np.abs(defocus_blur(image, 5, 0.01) - np.floor(expected)).max() <= 1
    assert np.abs(defocus_blur(image, 0.5, 0.01) - image.astype(int)).max() <= 1


@pytest.mark.parametrize("angle", [-45.0, -20.0, 0.0, 33.0, 45.0])
def test_motion_kernel(angle: float) -> None:
    """Weights of half a Gaussian along a line of 2 * radius + 1 pixels, in the direction of the angle."""
    kernel, (column, row) = motion_kernel(10, 5, angle)
    weights = np.exp(-(np.arange(21) ** 2) / 50)
    turn = math.radians(angle)
    expected = np.zeros_like(kernel)
    for distance, weight in enumerate(weights / weights.sum()):
        place = (row + math.ceil(distance * math.sin(turn) - 0.5), column + math.ceil(distance * math.cos(turn) - 0.5))
        expected[place] += weight
    assert kernel.dtype == np.float32 and kernel == pytest.approx(expected, abs=1e-6)
    rows, columns = np.nonzero(kernel)
    off_line = (rows - row) * math.cos(turn) - (columns - column) * math.sin(turn)
    assert np.abs(off_line).max() <= math.sqrt(0.5) and (columns >= column).all()
    assert np.hypot(rows - row, columns - column).max() == pytest.approx(20, abs=1)


def test_motion_smears_a_point_along_the_line() -> None:
    image = np.zeros((224, 224, 3), np.uint8)
    image[100, 100] = 255
    blurred = motion_blur(image, np.random.default_rng(0), 15, 8)
    kernel, (column, row) = motion_kernel(15, 8, np.random.default_rng(0).uniform(-45, 45))
    height, width = kernel.shape
    part = blurred[100 + row - height + 1 : 101 + row, 100 + column - width + 1 : 101 + column, 0]
    assert np.abs(part - 255 * kernel[::-1, ::-1]).max() <= 1 and blurred.sum() == 3 * part.sum(dtype=int)


@pytest.mark.parametrize("size", [28, 224])
def test_zoom_is_that_of_scipy(size: int) -> None:
    image = picture(size)
    pixels = (image / 255.0).astype(np.float32)
    factors = np.arange(1, 1.31, 0.03)
    total = pixels.copy()
    for factor in factors:
        part = math.ceil(size / factor)
        top = (size - part) // 2
        large = zoom(pixels[top : top + part, top : top + part], (factor, factor, 1), order=1)
        trim = (len(large) - size) // 2
        total += large[trim : trim + size, trim : trim + size]
    expected = total / np.float32(len(factors) + 1) * 255
    found = zoom_blur(image, 1.31, 0.03)
    assert ((found == expected.astype(np.uint8)) | (np.abs(expected - expected.round()) < 1e-3)).all()


def test_zoom_blur_averages_the_published_numbers_of_factors() -> None:
    (zoomed,) = [corruption for corruption in corruptions("dermamnist") if corruption.name == "zoom_blur"]
    assert [len(np.arange(1, *zoomed.at(severity))) for severity in (1, 2, 3, 4, 5)] == [12, 16, 11, 13, 11]


@pytest.mark.parametrize("width", [3, 13, 25])
def test_gaussian_is_that_of_torchvision_up_to_rounding(width: int) -> None:
    image = picture()
    expected = np.asarray(blur_of_torchvision(Image.fromarray(image), width)).astype(int)
    difference = np.abs(gaussian_blur(image, width) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 2e-4
