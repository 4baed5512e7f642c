"""Corruptions as an augmentation: uniform choices and strengths within their ends."""

from typing import Any

import numpy as np
import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.corruptions import augment, corruptions
from medmnist_hf.corruptions.augment import SHARES, corrupt_at_random
from medmnist_hf.corruptions.registry import Corruption
from tests.corruptions.test_registry import COUNTS

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("flag", COUNTS)
def test_strengths_between_the_ends(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Corruption, tuple[float, ...]]] = []

    def note(corruption: Corruption, image: Any, parameters: tuple[float, ...], generator: Any) -> Any:
        seen.append((corruption, parameters))
        return image

    monkeypatch.setattr(augment, "apply", note)
    count = len(corruptions(flag))
    tail = (3,) if subset(flag).channels == 3 else ()
    images = np.zeros((count + 1, 28, 28, *tail), np.uint8)
    for share in (0.0, 0.25, 1.0):
        corrupt_at_random(images, flag, range(count + 1), [[share] * SHARES] * (count + 1), range(count + 1))
        assert [corruption for corruption, _ in seen] == list(corruptions(flag))
        for corruption, parameters in seen:
            expected = np.array(corruption.at(1)) * (1 - share) + np.array(corruption.augmentation_end) * share
            assert parameters == pytest.approx(expected)
        seen.clear()


@pytest.mark.parametrize("flag", ["dermamnist", "pathmnist", "tissuemnist"])
def test_any_strength_runs(flag: str) -> None:
    count = len(corruptions(flag))
    tail = (3,) if subset(flag).channels == 3 else ()
    images = RNG.integers(0, 256, (2 * count + 1, 28, 28, *tail), np.uint8)
    choices = [*range(count), *range(count), count]
    shares = RNG.random((len(images), SHARES)).tolist()
    corrupted = corrupt_at_random(images, flag, choices, shares, range(len(images)))
    assert (corrupted[-1] == images[-1]).all() and (corrupted[:-1] != images[:-1]).any()
    alone = corrupt_at_random(images[[5]], flag, [choices[5]], [shares[5]], [5])
    assert (alone[0] == corrupted[5]).all()
