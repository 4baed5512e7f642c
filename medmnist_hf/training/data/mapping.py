"""Arrays that lie in memory-mapped files: which file it is, and whether this process has written to its copy of it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_MAPS: Final = Path("/proc/self/smaps")
"""Where Linux says of each mapping how many of its pages are copies of this process."""

_HEAD: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ")
_OWN: Final = re.compile(r"(?:Anonymous|Swap): +[1-9]")


@dataclass(frozen=True, slots=True)
class Mapping:
    """Where in a file an array of uint8 lies.

    Attributes:
        path: The file.
        offset: Of the first byte.
        shape: Shape of the array, which is contiguous.
        own_pages: Pages that are written to become copies of the process; the file does not change.
    """

    path: str
    offset: int
    shape: tuple[int, ...]
    own_pages: bool

    def opened(self) -> NDArray[np.uint8]:
        """The array as it is in the file, read-only."""
        return np.memmap(self.path, np.uint8, "r", self.offset, self.shape)


def mapping_of(array: NDArray[np.uint8]) -> Mapping | None:
    """The file that a contiguous array lies in; None if it lies in memory."""
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
    """Whether an array of a copy-on-write mapping may differ from its file, because this process has written there.

    Args:
        array: The array.
        mapping: What `mapping_of` gave for it.
    """
    if not mapping.own_pages:
        return False
    if not _MAPS.exists():
        return not np.array_equal(array, mapping.opened())
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
