"""Parse the name of a data set: a flag, a repository on the Hub, or the path of builds or NPZ files.

Example:
    >>> parse_name("PathMNIST-64").size
    64
    >>> parse_name("you/pathmnist@v1").repository
    'you/pathmnist'
"""

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from medmnist_hf import catalog
from medmnist_hf.catalog import NAMESPACE, Subset
from medmnist_hf.errors import CatalogError, shorten
from medmnist_hf.files import expand_user
from medmnist_hf.hub.repo_id import split_revision
from medmnist_hf.places.folders import nearest
from medmnist_hf.places.local_paths import check_text

FORMS: Final = "a subset (pathmnist), a repository (you/pathmnist@v1), a build (dist/pathmnist) or an NPZ file"
"""The kinds of names of a data set, for messages."""

_PATH_STARTS: Final = ("/", "./", "../", "~")


@dataclass(frozen=True, slots=True)
class DataName:
    """A parsed name. At most one of `path` and `repository` is set, and neither for a flag.

    Attributes:
        text: The original name.
        entry: The subset; None if the name alone does not identify it.
        size: Edge length in pixels or voxels; None if the name has none.
        path: A local file or folder.
        repository: A repository on the Hub, as ``user/name``.
        revision: Its branch, tag or commit.
    """

    text: str
    entry: Subset | None = None
    size: int | None = None
    path: Path | None = None
    repository: str | None = None
    revision: str | None = None


def parse_name(name: str | Path) -> DataName:
    """Parse a name, without contacting the Hub.

    ``A/B`` is a path if it exists, if there is a folder A, or if it begins with ``/``, ``./``, ``../`` or ``~``;
    otherwise it is a repository on the Hub. A flag is never a path: write ``./pathmnist`` for a folder.

    Args:
        name: The flag of a subset in any letter case, optionally with a size (``pathmnist-64``) or the config of a
            variant (``dermamnist-28-corrected``); a repository as
            ``user/name`` or ``user/name@revision``; the path of a build, a folder of builds, an NPZ file or a folder
            of NPZ files.

    Raises:
        CatalogError: The name is none of these, and the message suggests the nearest folder or flag; or the subset
            has no such size.
        SourceError: It is not a valid path.
    """
    text = os.fspath(name)
    if isinstance(name, str) and (flagged := _parse_flag(text)):
        return flagged
    if not text.strip():
        raise CatalogError(f"the name of the data set is empty: give {FORMS}")
    path = _expanded(text)
    first, slash, _ = text.partition("/")
    if (
        isinstance(name, Path)
        or text.startswith(_PATH_STARTS)
        or _holds(path.exists)
        or (slash and _holds(Path(first).is_dir))
    ):
        return DataName(text, path=path)
    if split := split_revision(text):
        repository, revision = split
        return DataName(text, _subset(repository.partition("/")[2]), repository=repository, revision=revision)
    if slash or text.endswith(".npz") or text in {".", ".."}:
        return DataName(text, path=path)
    flags = [entry.flag for entry in catalog.subsets()]
    folder = nearest(path)
    near = difflib.get_close_matches(text.lower(), [*([str(folder)] if folder else []), *flags], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"give {FORMS}; `medmnist-hf list` shows all subsets"
    raise CatalogError(f"unknown subset {shorten(text)}, and no such file or folder: {hint}")


def _parse_flag(text: str) -> DataName | None:
    name, at, revision = text.partition("@")
    flag, config = catalog.split_flag(name)
    entry = _subset(flag)
    if entry is None or (at and not revision):
        return None
    size = None
    if config is not None:
        entry, size = entry.config(config)
    repository = f"{NAMESPACE}/{entry.base}" if revision else None
    return DataName(text, entry, size, repository=repository, revision=revision or None)


def _subset(flag: str) -> Subset | None:
    """The subset, or its variant, of a flag in any letter case; None if there is none."""
    return next((entry for entry in catalog.entries() if entry.flag == flag.lower()), None)


def _expanded(text: str) -> Path:
    path = Path(text)
    check_text(path)
    return expand_user(path)


def _holds(condition: Callable[[], bool]) -> bool:
    """Evaluate a condition on a path; False if the system rejects the path, such as a very long text."""
    try:
        return condition()
    except OSError:
        return False
