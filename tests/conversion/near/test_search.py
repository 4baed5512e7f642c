"""The search finds altered copies and nothing else, whatever the blocks in which pairs are compared."""

import numpy as np
import pytest

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.conversion.near import search
from medmnist_hf.conversion.near.filters import small_copies
from medmnist_hf.conversion.near.search import find_pairs
from tests.fixtures.near import ALTERED, textures


def pairs_of(images: UInt8Array, ndim: int = 2) -> dict[tuple[int, int], bool]:
    """The pairs of rows, and whether the second image is turned."""
    pairs = find_pairs(small_copies(images, ndim))
    assert (np.diff(pairs.similarity) <= 0).all() and pairs.similarity.max(initial=0) < 1.001
    columns = pairs.first.tolist(), pairs.second.tolist(), (pairs.symmetry > 0).tolist()
    return {(first, second): turned for first, second, turned in zip(*columns, strict=True)}


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (64, 64)])
def test_altered_copies_are_found(shape: tuple[int, ...]) -> None:
    images = textures(120, (28, *shape[1:])) if shape[0] == 28 else textures(120, (32, 32)).repeat(2, 1).repeat(2, 2)
    copies = [alter(images[row]) for row, alter in enumerate(ALTERED.values())]
    found = pairs_of(np.concatenate([images, np.stack(copies)]))
    assert set(found) == {(row, 120 + row) for row in range(len(ALTERED))}
    assert list(map(found.__getitem__, sorted(found))) == [name in {"turned", "mirrored"} for name in ALTERED]


def test_altered_volumes_are_found() -> None:
    volumes = textures(30, (28, 28, 28))
    brighter = np.clip(volumes[3] * 1.2, 0, 255).astype(np.uint8)
    copies = [brighter, np.roll(volumes[4], 2, 1), volumes[5].transpose(1, 0, 2), volumes[6][:, ::-1]]
    found = pairs_of(np.concatenate([volumes, np.stack(copies)]), 3)
    assert found == {(3, 30): False, (4, 31): False, (5, 32): True, (6, 33): True}


def test_pairs_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = textures(90, (28, 28))
    images[70], images[80], images[81] = ALTERED["shifted"](images[3]), ALTERED["turned"](images[5]), images[5]
    whole = pairs_of(images)
    assert set(whole) == {(3, 70), (5, 80), (5, 81), (80, 81)}
    for name, value in (("_ROWS", 16), ("_COLUMNS", 25), ("_PIECE", 5000)):
        monkeypatch.setattr(search, name, value)
    seen: list[int] = []
    assert pairs_of(images) == whole
    find_pairs(images, on_progress=seen.append)
    assert sum(seen) == 90


def test_blank_images_and_what_all_images_share_make_no_pair() -> None:
    images = textures(60, (28, 28)) // 4
    rows, columns = np.mgrid[:28, :28]
    images[:, np.hypot(rows - 13.5, columns - 13.5) < 10] += 120  # the same disk in all
    images[50:] = np.arange(10)[:, None, None]
    assert pairs_of(images) == {}
    assert pairs_of(images[:1]) == {}


@pytest.mark.parametrize(
    ("flag", "within"), [("breastmnist", (150, 240)), pytest.param("retinamnist", (20, 40), marks=pytest.mark.slow)]
)
def test_official_files_hold_near_duplicates(real_data: object, flag: str, within: tuple[int, int]) -> None:
    with np.load(f"{real_data}/{flag}.npz") as file:
        images = np.concatenate([file[f"{split}_images"] for split in ("train", "val", "test")])
    found = pairs_of(images)
    assert within[0] < len(found) < within[1]
    if flag == "breastmnist":  # the pair of the catalog's caveat: train row 115, test row 76
        assert found[115, 546 + 78 + 76] is False
