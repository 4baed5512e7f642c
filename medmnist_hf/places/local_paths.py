"""Paths of local builds: which of them can be read at all, and how `datasets` is told to read the one that was named.

`datasets` takes the path of a local folder for a pattern: ``run[12]`` also means ``run1``. So where a path has
characters of patterns, the shards are named to it one by one, with these characters escaped.
"""

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from medmnist_hf.errors import SourceError
from medmnist_hf.manifest import Manifest

_CHAIN: Final = "::"
"""Stands between an archive and a path within it, for `datasets` and fsspec."""


def check_text(path: Path) -> None:
    """Make sure that a path is text, which Arrow, JSON and messages need.

    Raises:
        SourceError: It is not UTF-8, or holds a NUL.
    """
    try:
        text = os.fspath(path)
        text.encode()
    except UnicodeEncodeError:
        raise SourceError(f"{path} is not a valid path (not UTF-8): rename the folder") from None
    if "\0" in text:
        raise SourceError(f"{path} is not a valid path (it holds a NUL): name another")


def check_loadable(path: Path) -> None:
    """Make sure that `datasets` can be told to read what lies below a path.

    Raises:
        SourceError: It cannot, whatever is escaped.
    """
    check_text(path)
    text = str(path.resolve())
    if _CHAIN in text:
        raise SourceError(f"datasets takes {_CHAIN!r} in {text} for a path in an archive: move or rename the folder")
    if os.path.expandvars(text) != text:
        raise SourceError(f"datasets takes the $ in {text} for a variable: move or rename the folder")


def is_pattern(path: Path) -> bool:
    """Whether `datasets` would take the path of a local build for a pattern of others."""
    return glob.has_magic(str(path.resolve()))


def escaped_shards(folder: Path, manifest: Manifest, splits: Iterable[str]) -> dict[str, list[str]]:
    """The ``data_files`` of a config for `datasets.load_dataset`: each file of the manifest by its escaped path.

    Args:
        folder: Folder of the subset.
        manifest: The config's manifest.
        splits: Names of splits that it has.
    """
    config = folder.resolve() / manifest.config_name
    return {
        split: [glob.escape(str(config / shard.name)) for shard in manifest.splits[split].shards] for split in splits
    }
