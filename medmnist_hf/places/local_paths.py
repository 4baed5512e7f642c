"""Paths of local builds that `datasets` and Arrow can read.

`datasets` reads the path of a local folder as a glob pattern: ``run[12]`` also matches ``run1``. If a path has such
characters, the shards are passed to `datasets` one by one, with these characters escaped.
"""

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from medmnist_hf.errors import SourceError
from medmnist_hf.manifest import Manifest

_CHAIN: Final = "::"
"""Separates an archive from a path within it, in `datasets` and fsspec."""


def check_text(path: Path) -> None:
    """Check that a path is text, as Arrow, JSON and messages need.

    Raises:
        SourceError: It is not UTF-8, or contains a NUL.
    """
    try:
        text = os.fspath(path)
        text.encode()
    except UnicodeEncodeError:
        raise SourceError(f"{path} is not a valid path (not UTF-8): rename the folder") from None
    if "\0" in text:
        raise SourceError(f"{path} is not a valid path (it contains a NUL): give another path")


def check_loadable(path: Path) -> None:
    """Check that `datasets` can read the files below a path.

    Raises:
        SourceError: It cannot, even with escaped characters.
    """
    check_text(path)
    text = str(path.resolve())
    if _CHAIN in text:
        raise SourceError(f"datasets reads {_CHAIN!r} in {text} as a path in an archive: move or rename the folder")
    if os.path.expandvars(text) != text:
        raise SourceError(f"datasets reads the $ in {text} as a variable: move or rename the folder")


def is_pattern(path: Path) -> bool:
    """Whether `datasets` would read the path of a local build as a pattern."""
    return glob.has_magic(str(path.resolve()))


def escaped_shards(folder: Path, manifest: Manifest, splits: Iterable[str]) -> dict[str, list[str]]:
    """The ``data_files`` argument of `datasets.load_dataset` for a config: the escaped path of each shard.

    Args:
        folder: Folder of the subset.
        manifest: The config's manifest.
        splits: Names of its splits.
    """
    config = folder.resolve() / manifest.config_name
    return {
        split: [glob.escape(str(config / shard.name)) for shard in manifest.splits[split].shards] for split in splits
    }
