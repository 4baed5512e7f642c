"""`medmnist_hf.training.data.mixing`: mixing of batches of any size, equal to timm for even sizes."""

from typing import Any

import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup

from medmnist_hf.training.data.mixing import make_mixing
from medmnist_hf.training.recipe import make_recipe


def mix(count: int, dataset: str = "pathmnist", **options: Any) -> tuple[torch.Tensor, ...]:
    """Images whose pixels are their index, and labels, before and after mixing."""
    mixed = make_mixing(make_recipe({"dataset": dataset, **options}))
    assert mixed is not None
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 1, 32, 32).clone()
    labels = (
        torch.arange(count) % 9 if dataset == "pathmnist" else (torch.arange(count)[:, None] % 14 == torch.arange(14))
    )
    np.random.seed(3)
    return images.clone(), labels, *mixed(images.clone(), labels.float() if labels.ndim == 2 else labels)


@pytest.mark.parametrize("options", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
@pytest.mark.parametrize("dataset", ["pathmnist", "chestmnist"])
def test_all_but_the_last_image_of_an_odd_batch_are_mixed(dataset: str, options: dict[str, float]) -> None:
    images, labels, mixed, targets = mix(7, dataset, **options)
    changed = (mixed != images).flatten(1).any(1)
    assert changed.tolist() == [True] * 6 + [False]
    assert targets.shape == (7, 9 if dataset == "pathmnist" else 14)
    last = torch.nn.functional.one_hot(labels[-1], 9) if labels.ndim == 1 else labels[-1]
    assert torch.equal(targets[-1], last.float())
    assert ((targets[:6] > 0) & (targets[:6] < 1)).any()


def test_an_even_batch_is_mixed_as_by_timm() -> None:
    images, labels, mixed, targets = mix(8, mixup=0.8, cutmix=1.0)
    np.random.seed(3)
    expected = Mixup(0.8, 1.0, label_smoothing=0, num_classes=9)(images, labels)  # type: ignore[no-untyped-call]
    assert torch.equal(mixed, expected[0]) and torch.equal(targets, expected[1])


def test_a_single_image_is_unchanged() -> None:
    images, labels, mixed, targets = mix(1, mixup=0.8)
    assert torch.equal(mixed, images) and torch.equal(targets, labels)


def test_a_recipe_without_mixing_gives_none() -> None:
    assert make_mixing(make_recipe({"dataset": "pathmnist"})) is None
