"""Random numbers of rows, and all corruptions at all severities."""

import numpy as np
import pytest

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import subset
from medmnist_hf.corruptions import corruptions
from medmnist_hf.corruptions.apply import FUNCTIONS, apply, row_generator
from medmnist_hf.corruptions.registry import SEVERITIES, find_corruption
from tests.conftest import Phantoms
from tests.corruptions.test_registry import COUNTS

NOT_MONOTONE = {"black_corner"}
"""Published with a fourth severity above the fifth."""


def phantom_images(phantoms: Phantoms, flag: str, size: int, rows: int) -> UInt8Array:
    with np.load(phantoms(flag, size).path) as file:
        images: UInt8Array = file["test_images"][:rows]
    return images


def test_numbers_of_a_row_depend_on_its_key_alone() -> None:
    noise, blur = (find_corruption("dermamnist", name) for name in ("gaussian_noise", "motion_blur"))
    other = find_corruption("retinamnist", "gaussian_noise")
    keys = [(noise, 1, 0), (noise, 1, 1), (noise, 2, 0), (blur, 1, 0), (other, 1, 0), (noise, 1, 1 << 40)]
    drawn = {tuple(row_generator(*key).random(4).tolist()) for key in keys}
    assert len(drawn) == len(keys)
    assert row_generator(noise, 1, 7).random() == row_generator(noise, 1, 7).random()


def test_every_function_runs_at_other_sizes_and_leaves_its_input() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for flag in COUNTS:
        tail = (3,) if subset(flag).channels == 3 else ()
        image = rng.integers(0, 256, (28, 28, *tail), np.uint8)
        before = image.copy()
        for corruption in corruptions(flag):
            if (corruption.function, tail) not in seen:
                seen.add((corruption.function, tail))
                result = apply(corruption, image, corruption.at(5), row_generator(corruption, 5, 0))
                assert result.shape == image.shape and result.dtype == np.uint8, corruption
                assert (image == before).all(), corruption
    assert {name for name, _ in seen} == set(FUNCTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("flag", COUNTS)
def test_all_corruptions_at_the_published_size(phantoms: Phantoms, flag: str) -> None:
    """Each of the 131 at five severities; with the same random numbers, a higher one changes the pixels more."""
    images = phantom_images(phantoms, flag, 224, 8)
    for corruption in corruptions(flag):
        changes = []
        for severity in SEVERITIES:
            parameters = corruption.at(severity)
            corrupted = np.stack(
                [
                    apply(corruption, image, parameters, row_generator(corruption, 1, row))
                    for row, image in enumerate(images)
                ]
            )
            assert corrupted.shape == images.shape and corrupted.dtype == np.uint8
            changes.append(np.abs(corrupted.astype(np.int16) - images).mean())
        assert min(changes) > 0, corruption
        if corruption.name not in NOT_MONOTONE:
            assert changes == sorted(changes), (corruption, changes)
