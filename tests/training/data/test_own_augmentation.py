"""Augmentation from a user's file: the same images for the same seed, and a trial that refuses what does not fit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.data.augment import Flip
from medmnist_hf.training.data.own_augmentation import OwnAugmentation
from medmnist_hf.training.data.transforms import BatchTransform
from tests.conftest import Phantoms
from tests.fixtures.methods import fit
from tests.fixtures.own_code import write_code
from tests.fixtures.runs import build_all


@pytest.mark.parametrize("function", ["augment", "global_noise"])
def test_a_batch_is_augmented_alike_whatever_was_drawn_before(tmp_path: Path, function: str) -> None:
    own = OwnAugmentation(f"{write_code(tmp_path)}:{function}")
    transform = BatchTransform(augment=[Flip(), own], seed=3)
    stored = torch.randint(0, 256, (8, 10, 10, 3), dtype=torch.uint8)
    batch = {"images": stored, "labels": torch.zeros(8), "indices": torch.arange(8)}
    kept, state = stored.clone(), torch.get_rng_state()
    first = transform(batch)["pixel_values"].clone()
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(stored, kept) and transform.draws_globally
    torch.rand(5)
    assert torch.equal(transform(batch)["pixel_values"], first)
    assert not torch.equal(BatchTransform(augment=[Flip(), own], seed=4)(batch)["pixel_values"], first)
    assert not torch.equal(BatchTransform(augment=[Flip()], seed=3)(batch)["pixel_values"], first)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "images.float()",
            r"returned float32 of shape \(4, 1, 28, 28\) for uint8 of shape \(4, 1, 28, 28\)",
        ),
        ("images[:, :, 2:]", r"returned uint8 of shape \(4, 1, 26, 28\) for"),
        ("None", "returned a NoneType for"),
        ("images.missing", r"my\.py:augment failed \(AttributeError: 'Tensor' object .*, line 2\): fix it"),
    ],
)
def test_what_does_not_fulfill_the_contract_is_a_one_line_error(tmp_path: Path, body: str, expected: str) -> None:
    file = write_code(tmp_path, f"def augment(images, generator):\n    return {body}\n")
    with pytest.raises(TrainingError, match=expected):
        OwnAugmentation(f"{file}:augment").check((1, 28, 28))


def test_random_numbers_that_are_not_seeded_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"my\.py:unseeded gives other images when it is called again"):
        OwnAugmentation(f"{write_code(tmp_path)}:unseeded").check((3, 28, 28))


def test_a_module_of_torchvision_is_called_without_a_generator(tmp_path: Path) -> None:
    file = write_code(tmp_path, "from torchvision.transforms import v2\nflip = v2.RandomHorizontalFlip(1.0)\n")
    own, images = OwnAugmentation(f"{file}:flip"), torch.randint(0, 256, (2, 1, 4, 4), dtype=torch.uint8)
    own.check((1, 4, 4))
    assert torch.equal(own(images, torch.Generator()), images.flip(-1))


@pytest.mark.parametrize("function", ["augment", "global_noise"])
def test_a_resumed_training_has_the_same_weights(phantoms: Phantoms, tmp_path: Path, function: str) -> None:
    root = build_all(phantoms, tmp_path / "dist", "breastmnist")
    own = {"augmentation_file": f"{write_code(tmp_path)}:{function}", "schedule": "constant"}
    for name, epochs in (("resumed", 1), ("resumed", 2), ("whole", 2)):
        torch.manual_seed(0)
        fit(root, tmp_path / name, "breastmnist", epochs=epochs, **own)
    paths = [tmp_path / name / "checkpoints" / "checkpoint-6" / "model.safetensors" for name in ("whole", "resumed")]
    whole, resumed = map(load_file, paths)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
