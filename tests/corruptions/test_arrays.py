"""`corrupt_batch`: rows alone, in any order and in any process, and what it refuses."""

import logging
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from medmnist_hf.corruptions import corrupt_batch
from medmnist_hf.corruptions.arrays import warn_of_size
from medmnist_hf.errors import CatalogError, MedMNISTError, SourceError

RNG = np.random.default_rng(0)


def images(*tail: int, rows: int = 6, size: int = 28) -> Any:
    return RNG.integers(0, 256, (rows, size, size, *tail), np.uint8)


@pytest.mark.parametrize("name", ["characters", "impulse_noise", "motion_blur", "zoom_blur"])
def test_a_row_alone_and_in_any_order(name: str) -> None:
    batch = images(3)
    whole = corrupt_batch(batch, "dermamnist", name, 4)
    order = [4, 0, 5]
    assert (corrupt_batch(batch[order], "dermamnist", name, 4, rows=order) == whole[order]).all()
    assert (corrupt_batch(batch[3:4], "dermamnist", name, 4, rows=[3]) == whole[3:4]).all()
    with ThreadPoolExecutor(4) as pool:
        rows = pool.map(lambda row: corrupt_batch(batch[[row]], "dermamnist", name, 4, rows=[row])[0], range(6))
        assert (np.stack(list(rows)) == whole).all()


def test_equal_images_in_other_rows_get_other_noise() -> None:
    twice = np.repeat(images(), 2, axis=0)
    noisy = corrupt_batch(twice, "breastmnist", "speckle_noise")
    assert (noisy[0] != noisy[1]).any()
    assert corrupt_batch(twice[:0], "breastmnist", "speckle_noise").shape == (0, 28, 28)


def test_other_sizes_are_marked_once(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_size.cache_clear()
    with caplog.at_level(logging.WARNING, "medmnist_hf"):
        corrupt_batch(images(size=224, rows=1), "octmnist", "pixelate")
        assert not caplog.records
        for _ in range(2):
            corrupt_batch(images(), "octmnist", "pixelate")
    (record,) = caplog.records
    assert "octmnist at size 28: MedMNIST-C is defined for images of 224 pixels" in record.message


@pytest.mark.parametrize(
    ("batch", "options", "message"),
    [
        (images(3), {}, "images of breastmnist are uint8 (6, 28, 28, 3): give uint8 (N, H, H), as stored"),
        (images().astype(float), {}, "images of breastmnist are float64 (6, 28, 28)"),
        (images()[0], {}, "give uint8 (N, H, H)"),
        (images()[:, :14], {}, "are uint8 (6, 14, 28)"),
        ([[1]], {}, "images of breastmnist are None ()"),
        (images(), {"rows": [1, 2]}, "6 images but 2 row numbers"),
        (images(), {"rows": range(-1, 5)}, "a row number is -1"),
    ],
)
def test_bad_images(batch: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=re.escape(message)):
        corrupt_batch(batch, "breastmnist", "pixelate", **options)
    with pytest.raises(CatalogError, match="severity is 9"):
        corrupt_batch(batch, "breastmnist", "pixelate", severity=9)


def test_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(MedMNISTError, match=r"cv2 is not installed: .* 'medmnist-hf\[corruptions\]'"):
        corrupt_batch(images(), "breastmnist", "motion_blur")
    assert corrupt_batch(images(), "breastmnist", "pixelate").any()
