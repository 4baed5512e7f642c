"""Arrays in memory-mapped files: found again in the file, and what was written to a copy of it is noticed."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from medmnist_hf.training.data import mapping
from medmnist_hf.training.data.mapping import Mapping, is_changed, mapping_of


def opened(folder: Path, mode: Literal["r", "r+", "c"]) -> NDArray[np.uint8]:
    path = folder / "images.npy"
    np.save(path, np.arange(40 * 64 * 64, dtype=np.int64).astype(np.uint8).reshape(40, 64, 64))
    return np.load(path, mmap_mode=mode)  # type: ignore[no-any-return]


def found_in(array: NDArray[np.uint8]) -> Mapping:
    found = mapping_of(array)
    assert found is not None
    return found


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("part", [slice(None), slice(7, 30)])
def test_an_array_is_found_in_its_file(tmp_path: Path, mode: Literal["r", "r+", "c"], part: slice) -> None:
    array = opened(tmp_path, mode)[part]
    found = found_in(array)
    np.testing.assert_array_equal(found.opened(), array)
    assert found.own_pages == (mode == "c")
    assert not is_changed(array, found)
    assert mapping_of(array.copy()) is None


@pytest.mark.parametrize("kernel", [True, False])
def test_what_was_written_to_a_copy_is_noticed(tmp_path: Path, kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what Linux says of mappings, and where there is no such system by comparing with the file."""
    if not kernel:
        monkeypatch.setattr(mapping, "_MAPS", tmp_path / "no such file")
    array = opened(tmp_path, "c")
    found = found_in(array)
    assert array.sum() and not is_changed(array, found), "reading is no change"
    array[33, 1, 1] += 1
    assert is_changed(array, found) and found.opened()[33, 1, 1] != array[33, 1, 1]


def test_what_is_written_to_a_shared_mapping_is_in_the_file(tmp_path: Path) -> None:
    array = opened(tmp_path, "r+")
    array[3] = 7
    assert not is_changed(array, found_in(array))
    np.testing.assert_array_equal(found_in(array).opened(), array)
