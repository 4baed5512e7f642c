"""Find the memory-mapped file behind an array, and whether this process has written to its copy of the file."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_MAPS: Final = Path("/proc/self/smaps")
"""Where Linux lists, per mapping, the pages that are private copies of this process."""

_HEAD: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ")
_OWN: Final = re.compile(r"(?:Anonymous|Swap): +[1-9]")


@dataclass(frozen=True, slots=True)
class Mapping:
    """Location of a contiguous uint8 array in a file.

    Attributes:
        path: The file.
        offset: Offset of the first byte.
        shape: Shape of the array.
        copy_on_write: Whether writes go to private copies of pages and leave the file unchanged.
    """

    path: str
    offset: int
    shape: tuple[int, ...]
    copy_on_write: bool

    def open(self) -> NDArray[np.uint8]:
        """Map the array from the file, read-only."""
        return np.memmap(self.path, np.uint8, "r", self.offset, self.shape)


def find_mapping(array: NDArray[np.uint8]) -> Mapping | None:
    """Find the memory-mapped file behind a contiguous array; None if it has none."""
    owner: Any = array
    root: np.memmap[Any, Any] | None = None
    while isinstance(owner, np.ndarray):
        if isinstance(owner, np.memmap):
            root = owner
        owner = owner.base
    if root is None or root.filename is None:
        return None
    offset = root.offset + _address(array) - _address(root)
    return Mapping(str(root.filename), offset, array.shape, root.mode == "c")


def is_changed(array: NDArray[np.uint8], mapping: Mapping) -> bool:
    """Whether this process may have written to the array, so that it differs from its file.

    Args:
        array: The array.
        mapping: Its mapping, from `find_mapping`.
    """
    if not mapping.copy_on_write:
        return False
    if not _MAPS.exists():
        return not np.array_equal(array, mapping.open())
    first, last = _address(array), _address(array) + array.nbytes
    inside = False
    for line in _MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        if head := _HEAD.match(line):
            inside = int(head[1], 16) < last and first < int(head[2], 16)
        elif inside and _OWN.match(line):
            return True
    return False


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
