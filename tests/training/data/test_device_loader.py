"""`DeviceLoader`: batch for batch those of an `ArrayLoader`, from images that are copied to the device once."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medmnist_hf.errors import TrainingError
from medmnist_hf.statistics.sums import PixelCounter
from medmnist_hf.training.data import loader
from medmnist_hf.training.data.augment import (
    Augmentation,
    ColorJitter,
    Crop,
    Erasing,
    Flip,
    QuarterTurns,
    Rotation,
)
from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.loader import ArrayLoader, DeviceLoader
from medmnist_hf.training.data.recipe_transforms import IntensityScale, RandomCorruption
from medmnist_hf.training.data.transforms import BatchTransform

Arrays = tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, Any]]


def arrays_of(shape: tuple[int, ...], labels: int = 0) -> Arrays:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, shape, np.uint8)
    return images, rng.integers(0, 2, (shape[0], labels)) if labels else np.arange(shape[0])


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, part in first.items():
        assert part.dtype == second[name].dtype and torch.equal(part, second[name]), name


IMAGE_STEPS: list[Augmentation] = [
    Flip((-1, -2)),
    QuarterTurns(),
    Rotation(20),
    Crop(2),
    ColorJitter(0.3, 0.3, 0.3, 0.1),
]
VOLUME_STEPS: list[Augmentation] = [
    Flip((-1, -3)),
    QuarterTurns(QuarterTurns.VOLUME_PLANES),
    Rotation(20),
    Crop(1),
    IntensityScale(),
]
TRANSFORMS: dict[str, tuple[tuple[int, ...], BatchTransform]] = {
    "gray": ((33, 8, 8), BatchTransform(augment=[Flip(), Erasing()], channels=3, channels_last=True)),
    "RGB": ((33, 8, 8, 3), BatchTransform(augment=[*IMAGE_STEPS, Erasing()], size=16, channels_last=True)),
    "per channel": (
        (33, 8, 8, 3),
        BatchTransform(mean=(0.1, 0.2, 0.3), std=(1, 2, 3), size=12, interpolation="nearest"),
    ),
    "padded": ((33, 8, 8), BatchTransform(augment=[Crop(2)], size=12, fit="pad", dtype="bfloat16")),
    "volumes": ((33, 6, 6, 6), BatchTransform(augment=VOLUME_STEPS, seed=3)),
}


class HostWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operations that read or write tensors on the CPU, other than views of them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if any(leaf.device.type == "cpu" for leaf in tensors) and not func.is_view:
            self.seen.append(str(func))
        return result


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_host_does_not_work_on_batches(name: str) -> None:
    """The meta device takes the code path of accelerators, and fails if one of its values is read."""
    shape, transform = TRANSFORMS[name]
    batches = iter(DeviceLoader(arrays_of(shape), 8, shuffle=True, transform=transform, device="meta"))
    next(batches)  # the epoch begins
    next(batches)
    with HostWatch() as watch:
        for _ in range(2):
            next(batches)
    assert watch.seen == []
    with HostWatch() as watch:  # it does see the host's work
        next(iter(ArrayLoader(arrays_of(shape), 8, transform=transform, device="meta")))
    assert watch.seen


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": True, "join_single": True},
        {"shuffle": True, "drop_last": True, "rank": 1, "world_size": 2},
        {"groups": np.arange(33) % 3, "seed": 4},
    ],
)
def test_parameters_drawn_ahead_are_those_of_an_array_loader(name: str, options: dict[str, Any]) -> None:
    shape, transform = TRANSFORMS[name]
    transform = replace(transform, with_indices=True)
    ours, usual = (make(arrays_of(shape), 8, transform=transform, **options) for make in (DeviceLoader, ArrayLoader))
    for _ in range(2):
        for first, second in zip(ours, usual, strict=True):
            assert_equal(first, second)
    usual.set_epoch(5)
    iterator = iter(usual)
    next(iterator)
    ours.load_state_dict(usual.state_dict())
    for first, second in zip(ours, iterator, strict=True):
        assert_equal(first, second)


class Noise(Augmentation):
    """Draws a number per pixel."""

    def draw(self, shape: Sequence[int], generator: Generator) -> tuple[Tensor, ...]:
        return (torch.randint(0, 256, tuple(shape), dtype=torch.uint8, generator=generator),)

    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        return images ^ parameters[0]


def invert(images: Tensor) -> Tensor:
    return 1 - images * torch.rand(len(images), 1, 1, 1)


@pytest.mark.parametrize(
    ("augment", "ahead"),
    [([Flip(), Noise()], False), ([Flip(), RandomCorruption("bloodmnist")], True), ([Flip(), invert], False)],
)
def test_what_is_not_drawn_ahead_is_drawn_step_by_step(augment: list[Any], ahead: bool) -> None:
    arrays = arrays_of((17, 16, 16, 3))
    counter = PixelCounter(3)
    counter.add(arrays[0])
    data = ArrayDataset(*arrays, statistics=counter.sums())
    transform = BatchTransform(augment=augment, stats="dataset", seed=1)
    ours, usual = (make(data, 8, shuffle=True, transform=transform) for make in (DeviceLoader, ArrayLoader))
    for first, second in zip(ours, usual, strict=True):
        assert_equal(first, second)
    assert isinstance(ours, DeviceLoader) and (ours._epochs[0].draws is not None) == ahead


def test_iterators_that_take_turns_draw_each_epoch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    transform = BatchTransform(augment=[Flip()])
    ours, usual = (
        make(arrays_of((33, 8, 8)), 8, shuffle=True, transform=transform) for make in (DeviceLoader, ArrayLoader)
    )
    assert isinstance(ours, DeviceLoader)
    begun: list[int] = []
    begin = ours._begin

    def note(number: int) -> Any:
        begun.append(number)
        return begin(number)

    monkeypatch.setattr(ours, "_begin", note)
    pairs = zip(zip(ours, ours, strict=True), zip(usual, usual, strict=True), strict=True)
    for both, expected in pairs:
        for first, second in zip(both, expected, strict=True):
            assert_equal(first, second)
    assert begun == [0, 1]
    next(iter(ours))
    assert begun == [0, 1, 2]


def test_a_batch_can_be_changed_by_its_owner() -> None:
    arrays = arrays_of((33, 8, 8))
    ours, usual = (make(arrays, 8, shuffle=True) for make in (DeviceLoader, ArrayLoader))
    for batch in ours:
        for part in batch.values():
            part.zero_()
    ours.set_epoch(0)
    for first, second in zip(ours, usual, strict=True):
        assert_equal(first, second)


@pytest.mark.parametrize(
    ("arrays", "options"),
    [
        (arrays_of((33, 8, 8)), {}),
        (arrays_of((33, 8, 8, 3)), {"shuffle": True, "seed": 5, "join_single": True}),
        (arrays_of((33, 6, 6, 6)), {"shuffle": True, "drop_last": True, "rank": 1, "world_size": 2}),
        (arrays_of((33, 8, 8), labels=4), {"groups": np.arange(33) % 3}),
    ],
)
@pytest.mark.parametrize("transformed", [True, False])
def test_batches_equal_those_of_an_array_loader(
    arrays: Arrays, options: dict[str, Any], transformed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "_COPIED", 1000)  # several pieces
    augment = (Flip(axes=(-1, -2)),)
    options |= {"transform": BatchTransform(augment=augment, seed=3)} if transformed else {}
    ours, usual = (make(arrays, 8, **options) for make in (DeviceLoader, ArrayLoader))
    assert len(ours) == len(usual)
    for _ in range(2):
        for first, second in zip(ours, usual, strict=True):
            assert_equal(first, second)


def test_few_rows_and_a_position_within_an_epoch(tmp_path: Path) -> None:
    """Rows of a memory-mapped file are copied once; a loader resumes where an `ArrayLoader` stopped."""
    images, labels = arrays_of((40, 8, 8))
    np.save(tmp_path / "images.npy", images)
    mapped = ArrayDataset(np.load(tmp_path / "images.npy", mmap_mode="r"), labels, np.arange(30)[::-1])
    ours, usual = (make(mapped, 4, shuffle=True) for make in (DeviceLoader, ArrayLoader))
    iterator = iter(usual)
    for _ in range(3):
        next(iterator)
    ours.load_state_dict(usual.state_dict())
    for first, second in zip(ours, iterator, strict=True):
        assert_equal(first, second)
    ours.set_epoch(0)
    usual.set_epoch(0)
    assert_equal(next(iter(ours)), next(iter(usual)))


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"unknown device nowhere: choose cpu"):
        DeviceLoader(arrays_of((4, 8, 8)), 2, device="nowhere")


def test_images_that_do_not_fit_are_refused() -> None:
    row = np.zeros((1, 1024, 1024), np.uint8)
    images = np.broadcast_to(row, (1 << 27, 1024, 1024))
    data = ArrayDataset(row, np.zeros(1, np.int64))
    data._images = torch.from_numpy(row).expand(images.shape)
    data.labels = torch.zeros(1, dtype=torch.int64).expand(len(images))
    with pytest.raises(TrainingError, match=r"the 134,217,728 images of 140,737\.5 GB do not fit on cpu: use ArrayLo"):
        DeviceLoader(data, 2)


def test_loaders_need_only_torch() -> None:
    """torchvision, timm and transformers are not imported, so that they need not be installed."""
    code = (
        "import sys\n"
        "for name in ('torchvision', 'timm', 'transformers', 'accelerate', 'peft'): sys.modules[name] = None\n"
        "import numpy as np\n"
        "from medmnist_hf.training.data import ArrayLoader, BatchTransform, DeviceLoader\n"
        "data = np.zeros((4, 8, 8), np.uint8), np.arange(4)\n"
        "for make in (ArrayLoader, DeviceLoader):\n"
        "    for mode in ('bilinear', 'bicubic', 'nearest', 'area'):\n"
        "        transform = BatchTransform(size=16, interpolation=mode)\n"
        "        print(next(iter(make(data, 4, transform=transform)))['pixel_values'].shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["torch.Size([4, 1, 16, 16])"] * 8
