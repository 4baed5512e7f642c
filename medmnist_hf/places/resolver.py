"""Where the data is that a person named: a build or NPZ file on this machine, or a repository on the Hub.

A flag is looked up in the folder of builds that is given (``root``), and there alone. Where none is given, in the
folder that the environment variable ``MEDMNIST_DATA`` names, in ``dist``, in the user's cache of builds, then on the
Hub.
"""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from medmnist_hf import catalog
from medmnist_hf.catalog import DEFAULT_SIZE, NAMESPACE, Subset
from medmnist_hf.errors import BuildError, CatalogError, SourceError, shorten
from medmnist_hf.files import expand_user
from medmnist_hf.manifest import MANIFEST_NAME, Manifest, read_build, read_manifest
from medmnist_hf.places.folders import configs_in, is_file, nearest, npz_files
from medmnist_hf.places.local_paths import check_text
from medmnist_hf.places.names import FORMS, DataName, parse_name

ROOT_VARIABLE: Final = "MEDMNIST_DATA"
"""Environment variable that names a folder of builds."""

DEFAULT_ROOT: Final = "dist"
"""Folder of builds, where ``medmnist-hf build`` puts them by default."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Build:
    """A built config on this machine.

    Attributes:
        entry: The subset.
        size: Edge length in pixels or voxels.
        folder: Folder of the config, e.g. ``dist/pathmnist/28``; its manifest is there.
    """

    entry: Subset
    size: int
    folder: Path


@dataclass(frozen=True, slots=True)
class NpzFile:
    """An NPZ file with the arrays of an official one.

    Attributes:
        entry: The subset.
        size: Edge length in pixels or voxels.
        path: The file.
    """

    entry: Subset
    size: int
    path: Path

    def how_to_build(self) -> str:
        """The advice for what reads builds alone."""
        return how_to_build(self.entry, self.size, source=self.path.parent)


@dataclass(frozen=True, slots=True)
class Repository:
    """A config on the Hub; whether it is there is not known yet.

    Attributes:
        entry: The subset; None where the name of the repository does not say it: its manifest does.
        size: Edge length in pixels or voxels.
        repo_id: The repository, as ``user/name``.
        revision: Its branch, tag or commit; None for ``main``.
        searched: Folders without such a build that were looked at before.
    """

    entry: Subset | None
    size: int
    repo_id: str
    revision: str | None = None
    searched: tuple[Path, ...] = ()

    @property
    def where(self) -> str:
        """What to call it: ``user/name``, or ``user/name@revision``."""
        return self.repo_id if self.revision is None else f"{self.repo_id}@{self.revision}"

    def unreachable(self, what: str, why: str) -> SourceError:
        """The error where the Hub does not give it: it names each place that was looked at, and what to do.

        Args:
            what: What was asked of it, e.g. ``load medmnist/pathmnist at size 28``.
            why: The reason.
        """
        if self.entry is None or not self.searched:
            near = None if self.revision else nearest(Path(self.repo_id))
            meant = f"did you mean {near}? Else " if near else ""
            return SourceError(f"cannot {what} ({why}): {meant}check the name, the network and your token")
        folders, other = " or ".join(map(str, self.searched)), other_sizes(self.entry, self.searched)
        return SourceError(
            f"cannot {what} ({why}), and no build of it was found in {folders}: {other}check the network and your "
            f"token, or {how_to_build(self.entry, self.size)}"
        )


Place = Build | NpzFile | Repository


def how_to_build(entry: Subset, size: int, root: Path | None = None, source: Path | None = None) -> str:
    """The advice that makes a missing config, e.g. ``run medmnist-hf build pathmnist --size 28``."""
    folder = "" if root is None else f" --root {root}"
    origin = "" if source is None else f" --source {source}"
    python = "" if root is not None or source is not None else ", or in Python load(..., build=True)"
    return f"run medmnist-hf build {entry.flag} --size {size}{origin}{folder}{python}"


def other_sizes(entry: Subset, folders: Iterable[Path]) -> str:
    """The advice to take a size in which a subset is built, e.g. ``take size 64 (dist has it), ``; else empty.

    Args:
        entry: The subset, which the folders do not have in the size that was asked for.
        folders: Folders of builds, or of the subset's.
    """
    for folder in folders:
        places = (folder, folder / entry.flag)
        sizes = [each.config_name for place in places for each in _manifests(place) if each.subset == entry.flag]
        if sizes:
            return f"take size {' or '.join(sizes)} ({folder} has {'it' if len(sizes) == 1 else 'them'}), "
    return ""


def builds_cache() -> Path:
    """The user's cache of builds, where ``load(..., build=True)`` puts them."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "medmnist-hf" / "builds"


def default_roots() -> list[Path]:
    """Folders of builds that are looked at where none is given, in order."""
    variable = os.environ.get(ROOT_VARIABLE)
    named = [expand_user(variable)] if variable else []
    return [*named, Path(DEFAULT_ROOT), builds_cache()]


def find(
    name: str | Path,
    size: int | str | None = None,
    *,
    root: str | Path | None = None,
    revision: str | None = None,
    expected: Subset | None = None,
    npz: bool = False,
) -> Place:
    """Find one config.

    Nothing is asked of the Hub, and of a build only what tells its subset and size.

    Args:
        name: A name of a data set, see `medmnist_hf.places.names.parse_name`.
        size: Edge length in pixels or voxels; None takes that of the name, or 28.
        root: Folder of builds, of one subset or of one config: the only place where a flag is looked up.
        revision: Branch, tag or commit on the Hub, which is then the only place.
        expected: The subset that is needed, where that is known.
        npz: NPZ files will do where there is no build.

    Raises:
        CatalogError: The name is none, or the subset has no such size.
        SourceError: There is nothing of that name; or what the arguments say does not go together.
        BuildError: A manifest cannot be read.
    """
    named = named_data(name, root, revision)
    if named.entry is not None and expected is not None and named.entry != expected:
        raise SourceError(f"{named.text} is {named.entry.flag}, and {expected.flag} is needed: name that")
    entry = named.entry or expected
    wanted = wanted_size(named, size, entry)
    if named.path is not None:
        return _at_path(named.path, entry, wanted, npz=npz)
    if named.repository is not None:
        return Repository(entry, wanted or DEFAULT_SIZE, named.repository, named.revision)
    assert entry is not None  # of a flag
    number = wanted or DEFAULT_SIZE
    if root is not None:
        folder = expand_user(root)
        check_text(folder)
        return find_below(folder, entry, number, npz=npz) or _refuse(folder, entry, number, npz=npz)
    searched = default_roots()
    return find_local(entry, number, npz=npz) or Repository(
        entry, number, f"{NAMESPACE}/{entry.flag}", searched=tuple(searched)
    )


def find_local(entry: Subset, size: int, *, npz: bool = False) -> Build | NpzFile | None:
    """The config in the first of the `default_roots` that has it; what is not verified there is logged.

    Raises:
        BuildError: A manifest cannot be read.
        SourceError: A folder may not be looked at.
    """
    for folder in default_roots():
        found = find_below(folder, entry, size, npz=npz)
        if isinstance(found, Build):
            provenance = read_manifest(found.folder).source.provenance
            if not provenance.comparable:
                _log.warning("%s: %s", found.folder, provenance.warning)
        if found:
            return found
    return None


def find_below(folder: Path, entry: Subset, size: int, *, npz: bool = False) -> Build | NpzFile | None:
    """A config in a folder of builds, of its subset, or in its own; None where there is none.

    Raises:
        BuildError: A manifest cannot be read.
        SourceError: The folder may not be looked at.
    """
    nested = folder / entry.flag / str(size)
    if is_file(nested / MANIFEST_NAME):
        return Build(entry, size, nested)
    for config in (folder / str(size), folder):
        if is_file(config / MANIFEST_NAME):
            manifest = read_manifest(config)
            if (manifest.subset, manifest.size) == (entry.flag, size):
                return Build(entry, size, config)
    file = folder / entry.file(size).name
    return NpzFile(entry, size, file) if npz and is_file(file) else None


def named_data(name: str | Path, root: str | Path | None, revision: str | None) -> DataName:
    """A name taken apart, with a revision that was given apart from it, which only the Hub has.

    Raises:
        CatalogError: The name is none.
        SourceError: Name, root and revision do not go together.
    """
    named = parse_name(name)
    if named.path is not None and root is not None:
        raise SourceError(f"{named.text} is a path, and so is the root {root}: give one of them")
    if revision is not None:
        if named.path is not None or root is not None:
            raise SourceError(f"a build has no revisions: leave out the path, or revision {shorten(revision)}")
        if named.revision not in {None, revision}:
            raise SourceError(f"{named.text} names another revision than {shorten(revision)}: leave one of them out")
        repository = named.repository or f"{NAMESPACE}/{named.entry.flag if named.entry else ''}"
        return replace(named, repository=repository, revision=revision)
    if named.repository is not None and root is not None:
        raise SourceError(f"{named.text} is on the Hub, and the root {root} is not: give one of them")
    return named


def wanted_size(named: DataName, size: int | str | None, entry: Subset | None) -> int | None:
    """The size that is given or is part of the name; None where neither is.

    Raises:
        CatalogError: The subset has no such size, or the two differ.
    """
    if size is None:
        wanted = named.size
    elif entry is not None:
        wanted = entry.file(size).size
    else:
        known = {str(file.size): file.size for each in catalog.subsets() for file in each.files}
        if str(size) not in known:
            raise CatalogError(f"no subset has size {shorten(size)}: choose from {', '.join(known)}")
        wanted = known[str(size)]
    if named.size not in {None, wanted}:
        raise CatalogError(f"{named.text} names size {named.size}, and size {size} is given: leave one of them out")
    return wanted


def _at_path(path: Path, entry: Subset | None, size: int | None, *, npz: bool) -> Build | NpzFile:
    """The config at a path that a person named."""
    if is_file(path):
        return _npz_file(path, entry, size, npz=npz)
    if not path.is_dir():
        raise missing(path)
    configs = configs_in(path)
    if configs == [path]:
        manifest = read_manifest(path)
        found = Build(catalog.subset(manifest.subset), manifest.size, path)
        if entry not in {None, found.entry} or size not in {None, found.size}:
            raise _another(found, entry, size)
        return found
    if entry is None:
        entry = _only_subset(path, configs, npz=npz)
    number = size or _only_size(path, entry, npz=npz) or DEFAULT_SIZE
    return (
        find_below(path, entry, number, npz=npz)
        or _in_renamed(path, entry, number)
        or _refuse(path, entry, number, npz=npz)
    )


def _in_renamed(path: Path, entry: Subset, size: int) -> Build | None:
    """A config below a folder of a subset that does not have its name."""
    for config in configs_in(path):
        if config.name == str(size) and read_manifest(config).subset == entry.flag:
            return Build(entry, size, config)
    return None


def _only_subset(path: Path, configs: list[Path], *, npz: bool) -> Subset:
    """The subset that a folder holds; an error where it holds several or none."""
    first_of_each = {config.parent: config for config in reversed(configs)}.values()
    flags = {read_manifest(config).subset for config in first_of_each}
    files = [] if flags else [entry.flag for entry, _ in npz_files(path)]
    found = sorted(flags or set(files))
    if len(found) == 1 and (flags or npz):
        return catalog.subset(found[0])
    if flags:
        example = min(first_of_each).parent
        raise SourceError(f"{path} holds {', '.join(found)}: name one of them, e.g. {example}")
    if found:
        entry = catalog.subset(found[0])
        if npz:
            raise SourceError(f"{path} holds {', '.join(found)}: name one file, e.g. {path / entry.files[0].name}")
        raise SourceError(f"{path} holds NPZ files and no build: {how_to_build(entry, DEFAULT_SIZE, source=path)}")
    raise SourceError(f"no build in {path}: run medmnist-hf build there, or give {FORMS}")


def _only_size(path: Path, entry: Subset, *, npz: bool) -> int | None:
    """The one size in which a folder of NPZ files has a subset; that of builds is the default, as on the Hub."""
    sizes = [number for each, number in npz_files(path) if each == entry] if npz else []
    return sizes[0] if len(sizes) == 1 and not configs_in(path) else None


def _npz_file(path: Path, entry: Subset | None, size: int | None, *, npz: bool) -> NpzFile:
    official = {file.name: (each, file.size) for each in catalog.subsets() for file in each.files}
    known = official.get(path.name)
    if not npz:
        raise needs_build(path, entry, size)
    if known is not None and (entry not in {None, known[0]} or size not in {None, known[1]}):
        needed = (entry or known[0]).file(size or known[1]).name
        raise SourceError(f"{path} is not {needed}, which is needed: give that file or its folder")
    if known is None and entry is None:
        raise SourceError(
            f"{path} does not say its subset and size: give it the name of an official file, e.g. pathmnist_64.npz"
        )
    found, number = known or (entry, size or DEFAULT_SIZE)
    assert found is not None
    return NpzFile(found, number, path)


def needs_build(path: Path, entry: Subset | None = None, size: int | None = None) -> SourceError:
    """The error for a file where a build is needed: of an NPZ file it says how to build from it.

    Args:
        path: The file.
        entry: The subset, where that is known apart from the file's name.
        size: The size, likewise.
    """
    official = {file.name: (each, file.size) for each in catalog.subsets() for file in each.files}
    found, number = official.get(path.name, (entry, size))
    advice = f"give {FORMS}" if found is None else how_to_build(found, number or DEFAULT_SIZE, source=path.parent)
    return SourceError(f"{path} is a file, and a build is needed: {advice}")


def _another(found: Build, entry: Subset | None, size: int | None) -> SourceError:
    needed = f"{(entry or found.entry).flag} at size {size or found.size}"
    return SourceError(
        f"{found.folder}: a build of {found.entry.flag} at size {found.size}, and {needed} is needed: name that"
    )


def missing(path: Path) -> SourceError:
    """The error for a path that is not there: it says what its folder holds."""
    folder = path.parent
    names = sorted({config.parent.name for config in configs_in(folder)} - {folder.name}) if folder.is_dir() else []
    held = f" ({folder} has {', '.join(names)})" if names else ""
    near = nearest(path)
    hint = f"did you mean {near}?" if near else f"give {FORMS}"
    try:
        named = parse_name(path.name)
    except (CatalogError, SourceError):
        named = None
    if named is not None and named.entry is not None and named.path is None:
        hint = how_to_build(named.entry, named.size or DEFAULT_SIZE, folder)
    return SourceError(f"{path}: no such file or folder{held}: {hint}")


def _refuse(folder: Path, entry: Subset, size: int, *, npz: bool) -> Build:
    """Raise the error for a config that a folder does not have: it names those that there are."""
    built = [manifest for place in (folder, folder / entry.flag) for manifest in _manifests(place)]
    sizes = [manifest.config_name for manifest in built if manifest.subset == entry.flag]
    others = sorted({manifest.subset for manifest in built} - {entry.flag})
    if not folder.is_dir():
        state = "no such folder"
    elif sizes:
        state = f"it has {', '.join(sizes)}"
    else:
        held = sorted({config.parent.name for config in configs_in(folder)})
        nothing = f"it has {', '.join(held)}" if held else "nothing is built there"
        state = f"it is a build of {others[0]}" if others else nothing
    source = folder if (folder / entry.file(size).name).is_file() else None
    root = folder.parent if folder.name == entry.flag or others else folder
    other = f"take size {' or '.join(sizes)}, or " if sizes else ""
    raise SourceError(
        f"no build of {entry.flag} at size {size} in {folder} ({state}): "
        f"{other}{how_to_build(entry, size, root, source)}"
        f"{f', or put {entry.file(size).name} there' if npz else ''}"
    )


def _manifests(folder: Path) -> list[Manifest]:
    try:
        return list(read_build(folder))
    except BuildError:
        return []
