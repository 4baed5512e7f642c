"""Find built configs and official NPZ files in a folder."""

import difflib
from collections.abc import Iterator
from pathlib import Path

from medmnist_hf import catalog
from medmnist_hf.catalog import Subset, config_order, is_config_name
from medmnist_hf.errors import SourceError, cannot_read
from medmnist_hf.manifest import MANIFEST_NAME


def configs_in(folder: Path) -> list[Path]:
    """Folders of the configs in a folder of builds, of a subset, or of one config; by subset and ascending size.

    Raises:
        SourceError: The folder cannot be read.
    """
    if is_file(folder / MANIFEST_NAME):
        return [folder]
    if own := _configs_of(folder):
        return own
    return [config for child in _children(folder) for config in _configs_of(child)]


def subset_folders(folder: Path) -> list[Path]:
    """Folders of the subsets in a folder of builds; for any other folder, itself. Errors as in `configs_in`."""
    if is_file(folder / MANIFEST_NAME) or _configs_of(folder):
        return [folder]
    return [child for child in _children(folder) if _configs_of(child)] or [folder]


def folders_of_builds(folder: Path) -> list[Path]:
    """Folders of builds nested in a folder of builds, without those of subsets. Errors as in `configs_in`."""
    if not any(_configs_of(child) for child in _children(folder)):
        return []
    others = (child for child in _children(folder) if not _configs_of(child))
    return [child for child in others if any(_configs_of(each) for each in _children(child))]


def _configs_of(folder: Path) -> list[Path]:
    configs = [path for path in _children(folder) if is_config_name(path.name) and is_file(path / MANIFEST_NAME)]
    return sorted(configs, key=lambda path: config_order(path.name))


def _children(folder: Path) -> list[Path]:
    try:
        # Hidden folders hold what is not part of a build, such as unfinished configs and the states of tasks.
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(folder, error) from None


def is_file(path: Path) -> bool:
    """Whether a file exists; raises a `SourceError` if its folder cannot be read."""
    try:
        return path.is_file()
    except OSError as error:
        raise _unreadable(path.parent, error) from None


def _unreadable(folder: Path, error: OSError) -> SourceError:
    return SourceError(cannot_read(folder, error, "check the path"))


def nearest(path: Path) -> Path | None:
    """The existing path that a missing one probably means: one with a single, similar name changed. None if none."""
    try:
        at = next(part for part in (path, *path.parents) if part.parent.is_dir())
        names = [child.name for child in _children(at.parent)]
        likely = [
            at.with_name(name) / path.relative_to(at) for name in difflib.get_close_matches(at.name, names, 3, 0.7)
        ]
        return next((near for near in likely if near.exists()), None)
    except (OSError, ValueError, SourceError):  # ValueError: a path without a name, such as ".."
        return None


def npz_files(folder: Path) -> Iterator[tuple[Subset, int]]:
    """Subset and size of each file in a folder that has an official name."""
    for entry in catalog.entries():
        for file in entry.files:
            if is_file(folder / file.name):
                yield entry, file.size
