"""`medmnist_hf.training.data.order`: how samples are distributed, and how groups of them are balanced."""

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, DistributedSampler

import medmnist_hf
from medmnist_hf.errors import TrainingError
from medmnist_hf.training.data import ArrayDataset, ArrayLoader, BalancedBatches, EpochBatches, joint_groups

GROUPS = np.repeat([3, 5, 9], [40, 11, 3])
"""Three groups of very different sizes."""


def drawn(batches: EpochBatches, epochs: int) -> list[int]:
    return [index for _ in range(epochs) for batch in batches for index in batch]


@given(st.integers(1, 60), st.integers(1, 7), st.integers(1, 9), st.booleans())
@settings(deadline=None, max_examples=100)
def test_samples_are_distributed_as_by_torchs_distributed_sampler(
    samples: int, world: int, batch_size: int, drop_last: bool
) -> None:
    if drop_last and samples // world < batch_size:
        return
    for rank in range(world):
        sampler = EpochBatches(samples, batch_size, drop_last=drop_last, rank=rank, world_size=world)
        reference = [*DistributedSampler(range(samples), world, rank, shuffle=False, drop_last=drop_last)]  # type: ignore[arg-type]
        full = len(reference) // batch_size * batch_size if drop_last else len(reference)
        batches = list(sampler)
        assert [index for batch in batches for index in batch] == reference[:full]
        assert len(sampler) == len(batches)


@pytest.mark.parametrize(
    ("samples", "world", "batch_size", "sizes"),
    [
        (257, 1, 128, [128, 129]),
        (258, 1, 128, [128, 128, 2]),
        (256, 1, 128, [128, 128]),
        (257, 2, 128, [129]),  # both ranks have 129
        (257, 2, 64, [64, 65]),
        (3, 1, 2, [3]),
        (1, 1, 128, [1]),
        (3, 1, 1, [1, 1, 1]),
    ],
)
def test_a_last_batch_of_one_sample_joins_the_previous(
    samples: int, world: int, batch_size: int, sizes: list[int]
) -> None:
    for rank in range(world):
        options: dict[str, Any] = {"shuffle": True, "seed": 3, "rank": rank, "world_size": world}
        joined, plain = (EpochBatches(samples, batch_size, join_single=join, **options) for join in (True, False))
        batches = list(joined)
        assert [len(batch) for batch in batches] == sizes and len(joined) == len(sizes)
        assert [*chain(*batches)] == [*chain(*plain)]


@given(st.integers(1, 5), st.integers(1, 90), st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_groups_and_their_samples_are_drawn_equally_often(epochs: int, samples: int, seed: int) -> None:
    batches = BalancedBatches(GROUPS, 8, samples=samples, seed=seed)
    rows = drawn(batches, epochs)
    assert len(rows) == epochs * samples
    of_groups = Counter({int(group): 0 for group in np.unique(GROUPS)}) | Counter(GROUPS[rows].tolist())
    assert max(of_groups.values()) - min(of_groups[group] for group in (3, 5, 9)) <= 1
    for group in (3, 5, 9):
        counts = np.bincount(rows, minlength=len(GROUPS))[group == GROUPS]
        assert counts.max() - counts.min() <= 1


def test_classes_are_balanced_within_groups() -> None:
    classes = np.array([0] * 30 + [1] * 10 + [0] * 9 + [1] + [2] + [0] * 3)
    rows = drawn(BalancedBatches(np.stack([GROUPS, classes], axis=1), 8), 10)
    counts = Counter(zip(GROUPS[rows].tolist(), classes[rows].tolist(), strict=True))
    assert counts == {(3, 0): 90, (3, 1): 90, (5, 0): 60, (5, 1): 60, (5, 2): 60, (9, 0): 180}


def test_the_order_depends_on_seed_and_epoch_alone_and_looks_random() -> None:
    first, again, other = (BalancedBatches(GROUPS, 8, seed=seed) for seed in (1, 1, 2))
    epochs = [drawn(first, 1) for _ in range(3)]
    assert [drawn(again, 1) for _ in range(3)] == epochs and drawn(other, 1) != epochs[0]
    again.set_epoch(2)
    assert drawn(again, 1) == epochs[2] and epochs[0] != epochs[1] != epochs[2]
    groups = GROUPS[epochs[0]]
    assert 10 < np.count_nonzero(np.diff(groups)) < 50  # neither sorted nor in turns


def test_ranks_share_one_order() -> None:
    whole = drawn(BalancedBatches(GROUPS, 8), 1)
    ranks = [drawn(BalancedBatches(GROUPS, 8, rank=rank, world_size=3), 1) for rank in range(3)]
    assert [*chain(*zip(*ranks, strict=True))] == whole


def test_an_array_loader_balances_and_resumes_within_an_epoch() -> None:
    images = np.random.default_rng(0).integers(0, 256, (len(GROUPS), 6, 6), dtype=np.uint8)
    data = ArrayDataset(images, GROUPS.astype(np.int64))

    def loader(groups: np.ndarray[Any, Any] | None = GROUPS) -> ArrayLoader:
        return ArrayLoader(data, 8, shuffle=True, seed=4, groups=groups)

    whole, expected = loader(), BalancedBatches(GROUPS, 8, seed=4)
    for _ in range(2):
        assert [batch["indices"].tolist() for batch in whole] == list(expected)
    interrupted = loader()
    iterator = iter(interrupted)
    for _ in range(3):
        next(iterator)
    resumed = loader()
    resumed.load_state_dict(interrupted.state_dict())
    assert [batch["indices"].tolist() for batch in resumed] == list(BalancedBatches(GROUPS, 8, seed=4))[3:]
    for groups in (None, GROUPS[::-1].copy()):
        with pytest.raises(TrainingError, match=r"^cannot resume: groups was \w+ and is \w+: use the same"):
            loader(groups).load_state_dict(interrupted.state_dict())


def test_batches_of_many_subsets_are_balanced_in_a_torch_loader(all_2d: Path) -> None:
    train = medmnist_hf.load_many("all-2d", split="train", root=all_2d, as_rgb=True).with_format("torch")
    batches = BalancedBatches(joint_groups(train), 24, samples=48)
    torch_loader = DataLoader(train.remove_columns("label"), batch_sampler=batches)
    loaded = list(torch_loader)
    assert [batch["image"].shape for batch in loaded] == [(24, 3, 28, 28)] * 2
    assert torch.cat([batch["subset"] for batch in loaded]).bincount().tolist() == [4] * 12


@pytest.mark.parametrize(
    ("groups", "options", "says"),
    [
        (np.zeros(3), {}, "groups are float64 of shape"),
        (np.zeros((2, 2, 2), int), {}, r"give integers of shape \(N,\) or \(N, 2\)"),
        (np.zeros(0, int), {}, "groups are int64 of shape"),
        (GROUPS, {"samples": 0}, "must be 1 or more"),
        (GROUPS, {"samples": 5, "drop_last": True}, "do not fill a batch"),
    ],
)
def test_wrong_groups_are_refused(groups: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        BalancedBatches(groups, 8, **options)


def test_an_array_loader_needs_a_group_per_sample() -> None:
    with pytest.raises(TrainingError, match=r"^there are 54 groups for 2 samples: give one per sample$"):
        ArrayLoader((np.zeros((2, 4, 4), np.uint8), np.zeros(2, int)), 1, groups=GROUPS)
