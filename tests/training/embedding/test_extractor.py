"""A row has the same bits however the work is divided; extraction does not change the network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.embedding.extractor import CPU_ROWS, Extractor
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe
from tests.fixtures.methods import CPU
from tests.fixtures.runs import tiny
from tests.fixtures.tiny_models import IMAGE_MODELS, SIZE, timm_model

RNG = np.random.default_rng(0)
HALF = (0.5,) * 3


def recipe(**options: Any) -> Recipe:
    return tiny(Path("dist"), "bloodmnist", method="knn", **options)


def extractor_of(model: nn.Module, *, size: int = SIZE, workers: int | None = None, **options: Any) -> Extractor:
    return Extractor(recipe(image_size=size, **options), Built(model, HALF, HALF, size, "tests"), CPU, workers)


def values(extractor: Extractor, images: np.ndarray[Any, Any], *cuts: int) -> np.ndarray[Any, Any]:
    return np.concatenate(list(extractor.extract(np.split(images, cuts), len(images))))


def rows(count: int, size: int = 28) -> np.ndarray[Any, Any]:
    return RNG.integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.mark.parametrize("kind", IMAGE_MODELS)
def test_bits_do_not_depend_on_blocks_threads_or_start(kind: str) -> None:
    model, images = IMAGE_MODELS[kind]().eval(), rows(13)
    serial = extractor_of(model, workers=0, batch_size=4)
    expected = values(serial, images)
    assert expected.shape == (13, serial.width) and expected.dtype == np.float32
    assert len({row.tobytes() for row in expected}) == 13
    threaded = extractor_of(model, workers=3, batch_size=4)
    cores = torch.get_num_threads()
    for extractor in (serial, threaded):
        assert values(extractor, images, 1, 9, 10).tobytes() == expected.tobytes()
        assert values(extractor, images[8:]).tobytes() == expected[8:].tobytes()  # as after an interruption
    torch.set_num_threads(2)
    try:
        assert values(serial, images).tobytes() == expected.tobytes()
        assert values(extractor_of(model, batch_size=4), images).tobytes() == expected.tobytes()
    finally:
        torch.set_num_threads(cores)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "vit_tiny_patch16_224"])
def test_bits_of_real_networks_do_not_depend_on_threads(name: str) -> None:
    """With several cores per batch, bits of the first network change: 6e-6 for a batch of 8 on 2 cores."""
    torch.manual_seed(0)
    images, model, cores = rows(16, 224), timm_model(name, 3), torch.get_num_threads()
    bits = set()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            bits.add(values(extractor_of(model, size=224, batch_size=8), images).tobytes())
    finally:
        torch.set_num_threads(cores)
    assert len(bits) == 1


def test_the_last_batch_is_padded() -> None:
    shapes = []
    model = timm_model("test_resnet")
    model.register_forward_pre_hook(
        lambda _, args, options: shapes.append(tuple(options["pixel_values"].shape)), with_kwargs=True
    )
    values(extractor_of(model, workers=0, batch_size=4), rows(6))
    assert shapes == [(4, 3, SIZE, SIZE)] * 2


def test_batches_are_short_on_a_cpu() -> None:
    assert extractor_of(timm_model("test_resnet"), batch_size=256).rows == CPU_ROWS


@pytest.mark.parametrize("kind", IMAGE_MODELS)
def test_extraction_changes_no_weight_or_statistic(kind: str) -> None:
    model = IMAGE_MODELS[kind]().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    values(extractor_of(model), rows(5))
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items()) and before.keys() == after.keys()


def test_extraction_disables_dropout() -> None:
    extractor, images = extractor_of(timm_model("test_resnet", drop_rate=0.9).train()), rows(4)
    assert np.array_equal(values(extractor, images), values(extractor, images))


class TwoWidths(nn.Module):
    """A model whose classifier reads more positions than it has inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(28, 3)

    def forward(self, pixel_values: torch.Tensor) -> Any:
        return type("Output", (), {"logits": self.head(pixel_values.mean(1)).flatten(1)})


class NotFinite(TwoWidths):
    """A model of nan."""

    def forward(self, pixel_values: torch.Tensor) -> Any:
        return type("Output", (), {"logits": self.head(pixel_values[:, 0, 0]) + torch.nan})


@pytest.mark.parametrize(
    ("model", "message"),
    [(TwoWidths, r"features of shape \(4, 784\) for 4 images, not \(4, 28\)"), (NotFinite, "not finite")],
)
def test_a_model_with_other_outputs_is_refused(model: Callable[[], nn.Module], message: str) -> None:
    extractor = extractor_of(model(), size=28, workers=0, batch_size=4)
    with pytest.raises(TrainingError, match=message):
        values(extractor, rows(4))


def test_a_model_without_a_classifier_is_refused() -> None:
    with pytest.raises(TrainingError, match="no linear classifier"):
        extractor_of(nn.Identity())
    assert timm.is_model("test_vit")
