"""Arrays in memory-mapped files: finding the file, and detecting writes to a private copy."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from medmnist_hf.training.data import mapping
from medmnist_hf.training.data.mapping import Mapping, find_mapping, is_changed


def opened(folder: Path, mode: Literal["r", "r+", "c"]) -> NDArray[np.uint8]:
    path = folder / "images.npy"
    np.save(path, np.arange(40 * 64 * 64, dtype=np.int64).astype(np.uint8).reshape(40, 64, 64))
    return np.load(path, mmap_mode=mode)  # type: ignore[no-any-return]


def mapping_behind(array: NDArray[np.uint8]) -> Mapping:
    file_mapping = find_mapping(array)
    assert file_mapping is not None
    return file_mapping


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("part", [slice(None), slice(7, 30)])
def test_an_array_is_found_in_its_file(tmp_path: Path, mode: Literal["r", "r+", "c"], part: slice) -> None:
    array = opened(tmp_path, mode)[part]
    file_mapping = mapping_behind(array)
    np.testing.assert_array_equal(file_mapping.open(), array)
    assert file_mapping.copy_on_write == (mode == "c")
    assert not is_changed(array, file_mapping)
    assert find_mapping(array.copy()) is None


@pytest.mark.parametrize("kernel", [True, False])
def test_writes_to_a_private_copy_are_detected(tmp_path: Path, kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the mappings that Linux lists, and on other systems by comparison with the file."""
    if not kernel:
        monkeypatch.setattr(mapping, "_MAPS", tmp_path / "no such file")
    array = opened(tmp_path, "c")
    file_mapping = mapping_behind(array)
    assert array.sum() and not is_changed(array, file_mapping), "reading does not change the array"
    array[33, 1, 1] += 1
    assert is_changed(array, file_mapping) and file_mapping.open()[33, 1, 1] != array[33, 1, 1]


def test_writes_to_a_shared_mapping_go_to_the_file(tmp_path: Path) -> None:
    array = opened(tmp_path, "r+")
    array[3] = 7
    assert not is_changed(array, mapping_behind(array))
    np.testing.assert_array_equal(mapping_behind(array).open(), array)
