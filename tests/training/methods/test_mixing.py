"""`medmnist_hf.training.methods.mixing`: batches of any size are mixed, those of an even size as timm does."""

from typing import Any

import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup

from medmnist_hf.training.methods.mixing import mixing
from medmnist_hf.training.recipe import make_recipe


def mix(count: int, dataset: str = "pathmnist", **options: Any) -> tuple[torch.Tensor, ...]:
    """Images that hold their number and labels, before and after they are mixed."""
    mixed = mixing(make_recipe({"dataset": dataset, **options}))
    assert mixed is not None
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 1, 32, 32).clone()
    labels = (
        torch.arange(count) % 9 if dataset == "pathmnist" else (torch.arange(count)[:, None] % 14 == torch.arange(14))
    )
    np.random.seed(3)
    return images.clone(), labels, *mixed(images.clone(), labels.float() if labels.ndim == 2 else labels)


@pytest.mark.parametrize("options", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
@pytest.mark.parametrize("dataset", ["pathmnist", "chestmnist"])
def test_of_an_odd_batch_all_but_the_last_image_are_mixed(dataset: str, options: dict[str, float]) -> None:
    images, labels, mixed, targets = mix(7, dataset, **options)
    changed = (mixed != images).flatten(1).any(1)
    assert changed.tolist() == [True] * 6 + [False]
    assert targets.shape == (7, 9 if dataset == "pathmnist" else 14)
    last = torch.nn.functional.one_hot(labels[-1], 9) if labels.ndim == 1 else labels[-1]
    assert torch.equal(targets[-1], last.float())
    assert ((targets[:6] > 0) & (targets[:6] < 1)).any()


def test_an_even_batch_is_mixed_as_timm_does() -> None:
    images, labels, mixed, targets = mix(8, mixup=0.8, cutmix=1.0)
    np.random.seed(3)
    theirs = Mixup(0.8, 1.0, label_smoothing=0, num_classes=9)(images, labels)  # type: ignore[no-untyped-call]
    assert torch.equal(mixed, theirs[0]) and torch.equal(targets, theirs[1])


def test_one_image_stays_as_it_is() -> None:
    images, labels, mixed, targets = mix(1, mixup=0.8)
    assert torch.equal(mixed, images) and torch.equal(targets, labels)


def test_a_recipe_without_mixing_has_none() -> None:
    assert mixing(make_recipe({"dataset": "pathmnist"})) is None
