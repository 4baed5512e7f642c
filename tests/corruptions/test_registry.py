"""The registry of corruptions: counts, order and errors."""

import re

import pytest

from medmnist_hf.catalog import subsets
from medmnist_hf.corruptions import corruptions
from medmnist_hf.corruptions.apply import FUNCTIONS
from medmnist_hf.corruptions.registry import find_corruption
from medmnist_hf.errors import CatalogError

COUNTS = {
    "pathmnist": 11,
    "bloodmnist": 11,
    "dermamnist": 15,
    "retinamnist": 8,
    "tissuemnist": 8,
    "octmnist": 6,
    "breastmnist": 7,
    "chestmnist": 13,
    "pneumoniamnist": 13,
    "organamnist": 13,
    "organcmnist": 13,
    "organsmnist": 13,
}


def test_all_131_corruptions() -> None:
    assert {entry.flag: len(corruptions(entry.flag)) for entry in subsets() if entry.ndim == 2} == COUNTS
    for flag in COUNTS:
        for corruption in corruptions(flag):
            assert corruption.subset == flag and corruption.function in FUNCTIONS and len(corruption.parameters) == 5


def test_order_and_parameters() -> None:
    names = [corruption.name for corruption in corruptions("DermaMNIST")]
    assert names[:3] == ["pixelate", "jpeg_compression", "gaussian_noise"] and names[-1] == "characters"
    assert find_corruption("dermamnist", "black_corner").parameters == ((1.10,), (1.05,), (1.0,), (0.9,), (0.95,))
    defocus = find_corruption("retinamnist", "defocus_blur")
    assert defocus.at(1) == (4, 0.1) and defocus.at(5) == (8, 0.5) and defocus.augmentation_end == (9, 0.6)
    assert not defocus.random and find_corruption("octmnist", "motion_blur").random


@pytest.mark.parametrize(
    ("flag", "name", "message"),
    [
        ("breastmnist", "bubble", "breastmnist has no corruption 'bubble': choose from pixelate, jpeg_compression"),
        ("organmnist3d", "pixelate", "organmnist3d holds volumes, and MedMNIST-C has corruptions of images only"),
        ("breast", "pixelate", "unknown subset"),
    ],
)
def test_what_a_subset_does_not_have(flag: str, name: str, message: str) -> None:
    with pytest.raises(CatalogError, match=re.escape(message)):
        find_corruption(flag, name)


@pytest.mark.parametrize("severity", [0, 6, -1, "3", None])
def test_severities(severity: int) -> None:
    with pytest.raises(CatalogError, match=r"severity is .*: choose from 1, 2, 3, 4, 5"):
        find_corruption("breastmnist", "pixelate").at(severity)
