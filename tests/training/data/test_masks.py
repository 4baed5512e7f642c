"""The code for accelerators changes samples like that for the CPU."""

import pytest
import torch

from medmnist_hf.training.data import augment
from medmnist_hf.training.data.augment import Augmentation, Erasing
from tests.training.data.test_augment import ALL, pixels, seeded


@pytest.mark.parametrize(("augmentation", "shape"), [*ALL, (Erasing(p=0.7), (40, 3, 12, 17))])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_augmentations_equal_those_of_the_cpu(
    augmentation: Augmentation, shape: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pixels(shape, dtype)
    expected, before = augmentation(images, seeded()), images.clone()
    monkeypatch.setattr(augment, "_on_cpu", lambda images: False)
    assert torch.equal(augmentation(images, seeded()), expected)
    assert torch.equal(images, before)
