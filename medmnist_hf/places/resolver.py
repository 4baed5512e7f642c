"""Find the place of a named data set: a local build or NPZ file, or a repository on the Hub.

With a folder of builds (``root``), a flag is only looked up there. Without one, it is looked up in the folder of the
environment variable ``MEDMNIST_DATA``, in ``dist``, in the user's cache of builds, and then on the Hub.
"""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from medmnist_hf import catalog
from medmnist_hf.catalog import DEFAULT_SIZE, NAMESPACE, Subset
from medmnist_hf.errors import CatalogError, SourceError, shorten
from medmnist_hf.files import expand_user
from medmnist_hf.manifest import MANIFEST_NAME, read_manifest
from medmnist_hf.places.advice import how_to_build, how_to_reach_hub, other_sizes, readable_manifests
from medmnist_hf.places.folders import configs_in, is_file, nearest, npz_files
from medmnist_hf.places.local_paths import check_text
from medmnist_hf.places.names import FORMS, DataName, parse_name

ROOT_VARIABLE: Final = "MEDMNIST_DATA"
"""Environment variable with the path of a folder of builds."""

DEFAULT_ROOT: Final = "dist"
"""Default folder of builds, to which ``medmnist-hf build`` writes."""

_NO_ROOT: Final = "leave out --root (in Python root=)"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Build:
    """A local build of one config.

    Attributes:
        entry: The subset.
        size: Edge length in pixels or voxels.
        folder: Folder of the config with its manifest, e.g. ``dist/pathmnist/28``.
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
        """Advice for functions that only read builds."""
        return how_to_build(self.entry, self.size, source=self.path.parent)


@dataclass(frozen=True, slots=True)
class Repository:
    """A config on the Hub, which may not exist.

    Attributes:
        entry: The subset; None if the name of the repository does not identify it, but its manifest will.
        size: Edge length in pixels or voxels.
        repo_id: The repository, as ``user/name``.
        revision: Its branch, tag or commit; None for ``main``.
        searched: Folders in which no such build was found before.
        more: Other subsets that are needed too and were not found there either.
    """

    entry: Subset | None
    size: int
    repo_id: str
    revision: str | None = None
    searched: tuple[Path, ...] = ()
    more: tuple[Subset, ...] = ()

    @property
    def config(self) -> str:
        """Name of the config, which is also its folder."""
        return str(self.size) if self.entry is None else self.entry.config_name(self.size)

    @property
    def where(self) -> str:
        """Its name in messages: ``user/name``, or ``user/name@revision``."""
        return self.repo_id if self.revision is None else f"{self.repo_id}@{self.revision}"

    def unreachable(self, what: str, why: str) -> SourceError:
        """The error if the Hub does not provide it; the message names the places searched, and what to do.

        Args:
            what: The failed action, e.g. ``load medmnist/pathmnist at size 28``.
            why: The reason.
        """
        if self.entry is None or not self.searched:
            near = None if self.revision else nearest(Path(self.repo_id))
            meant = f"did you mean {near}? Otherwise " if near else ""
            return SourceError(f"cannot {what} ({why}): {meant}check the name, then {how_to_reach_hub()}")
        folders, other = " or ".join(map(str, self.searched)), other_sizes(self.entry, self.searched)
        entries = (self.entry, *self.more)
        files = [entry.file(self.size).name for entry in entries]
        source = next((at for at in self.searched if all(is_file(at / file) for file in files)), None)
        not_builds = f"{files[0]}, which is not a build" if len(files) == 1 else "NPZ files, which are not builds"
        held = "" if source is None else f" ({source} holds {not_builds})"
        return SourceError(
            f"no build of {', '.join(entry.base for entry in entries)} at size {self.config} in {folders}{held}: "
            f"{'' if self.more else other}{how_to_build(self.entry, self.size, source=source, more=self.more)}; "
            f"cannot {what} either ({why}): {how_to_reach_hub()}"
        )


Place = Build | NpzFile | Repository


def builds_cache() -> Path:
    """The user's cache of builds, to which ``load(..., build=True)`` writes."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "medmnist-hf" / "builds"


def default_roots() -> list[Path]:
    """Folders of builds that are searched by default, in order."""
    variable = os.environ.get(ROOT_VARIABLE)
    roots = [expand_user(variable)] if variable else []
    return [*roots, Path(DEFAULT_ROOT), builds_cache()]


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

    The Hub is not contacted, and of a build only the manifest is read.

    Args:
        name: Name of a data set, see `medmnist_hf.places.names.parse_name`.
        size: Edge length in pixels or voxels, or the name of a config such as ``28-corrected``; if None, that of the
            name, or 28.
        root: Folder of builds, of one subset or of one config: the only place where a flag is looked up.
        revision: Branch, tag or commit on the Hub, which is then the only place.
        expected: The required subset, if known.
        npz: Accept NPZ files if no build was found.

    Raises:
        CatalogError: The name is not valid, or the subset has no such size.
        SourceError: No such data exists, or the arguments contradict each other.
        BuildError: A manifest cannot be read.
    """
    named = resolve_name(name, root, revision)
    if named.entry is not None and expected is not None and named.entry.flag not in {expected.flag, expected.base}:
        raise SourceError(f"{named.text} is {named.entry.flag}, but {expected.flag} is needed: name that")
    entry, resolved = resolve_config(named, size, expected or named.entry)
    if named.path is not None:
        return _at_path(named.path, entry, resolved, npz=npz)
    if named.repository is not None:
        return Repository(entry, resolved or DEFAULT_SIZE, named.repository, named.revision)
    assert entry is not None  # the name is a flag
    number = resolved or DEFAULT_SIZE
    if root is not None:
        folder = expand_user(root)
        check_text(folder)
        return find_below(folder, entry, number, npz=npz) or _refuse(folder, entry, number, _NO_ROOT, npz=npz)
    searched = default_roots()
    return find_local(entry, number, npz=npz) or Repository(
        entry, number, f"{NAMESPACE}/{entry.base}", searched=tuple(searched)
    )


def find_local(entry: Subset, size: int, *, npz: bool = False) -> Build | NpzFile | None:
    """The config in the first of the `default_roots` that has it; an unverified build logs a warning.

    Raises:
        BuildError: A manifest cannot be read.
        SourceError: A folder cannot be read.
    """
    for folder in default_roots():
        place = find_below(folder, entry, size, npz=npz)
        if isinstance(place, Build):
            provenance = read_manifest(place.folder).source.provenance
            if not provenance.comparable:
                _log.warning("%s: %s", place.folder, provenance.warning)
        if place:
            return place
    return None


def find_below(folder: Path, entry: Subset, size: int, *, npz: bool = False) -> Build | NpzFile | None:
    """A config in a folder of builds, in the folder of its subset, or in its own folder; None if there is none.

    Raises:
        BuildError: A manifest cannot be read.
        SourceError: The folder cannot be read.
    """
    name = entry.config_name(size)
    nested = folder / entry.base / name
    if is_file(nested / MANIFEST_NAME):
        return Build(entry, size, nested)
    for config in (folder / name, folder):
        if is_file(config / MANIFEST_NAME):
            manifest = read_manifest(config)
            if (manifest.subset, manifest.size) == (entry.flag, size):
                return Build(entry, size, config)
    file = folder / entry.file(size).name
    return NpzFile(entry, size, file) if npz and is_file(file) else None


def resolve_name(name: str | Path, root: str | Path | None, revision: str | None) -> DataName:
    """Parse a name and combine it with a separate revision, which means the Hub.

    Raises:
        CatalogError: The name is not valid.
        SourceError: Name, root and revision contradict each other.
    """
    named = parse_name(name)
    if named.path is not None and root is not None:
        raise SourceError(f"{named.text} and the root {root} are both paths: give one of them")
    if revision is not None:
        if named.path is not None or root is not None:
            raise SourceError(f"a build has no revisions: leave out the path, or revision {shorten(revision)}")
        if named.revision not in {None, revision}:
            raise SourceError(f"{named.text} names another revision than {shorten(revision)}: leave one of them out")
        repository = named.repository or f"{NAMESPACE}/{named.entry.base if named.entry else ''}"
        return replace(named, repository=repository, revision=revision)
    if named.repository is not None and root is not None:
        raise SourceError(f"{named.text} is on the Hub, but the root {root} is not: give one of them")
    return named


def resolve_config(named: DataName, size: int | str | None, entry: Subset | None) -> tuple[Subset | None, int | None]:
    """The subset or its variant, and the size: of the size argument, or else of the name; None where neither says.

    Args:
        named: The name.
        size: Edge length, or the name of a config such as ``28-corrected``.
        entry: The subset, if known.

    Raises:
        CatalogError: The subset has no such config, or the two differ.
    """
    if size is None:
        return entry, named.size
    if entry is not None:
        found, resolved = entry.config(size)
    else:
        valid = {name: each for each in catalog.entries() for name in each.config_names}
        if str(size) not in valid:
            raise CatalogError(f"no subset has size {shorten(size)}: choose from {', '.join(valid)}")
        match = valid[str(size)]
        found, resolved = match.config(str(size))
        if not found.variant:  # many subsets have this size
            return None, resolved
    if named.size is not None and (named.entry, named.size) != (found, resolved):
        raise CatalogError(f"{named.text} names size {named.size}, but size is {size}: leave one of them out")
    return found, resolved


def _at_path(path: Path, entry: Subset | None, size: int | None, *, npz: bool) -> Build | NpzFile:
    """The config at a named path."""
    if is_file(path):
        return _npz_file(path, entry, size, npz=npz)
    if not path.is_dir():
        raise missing(path)
    configs = configs_in(path)
    if configs == [path]:
        manifest = read_manifest(path)
        build = Build(catalog.subset(manifest.subset), manifest.size, path)
        if entry not in {None, build.entry} or size not in {None, build.size}:
            raise _another(build, entry, size)
        return build
    if entry is None:
        entry = _only_subset(path, configs, npz=npz)
    number = size or _only_size(path, entry, npz=npz) or DEFAULT_SIZE
    return (
        find_below(path, entry, number, npz=npz)
        or _in_renamed(path, entry, number)
        or _refuse(path, entry, number, f"give only its flag, {entry.flag}", npz=npz)
    )


def _in_renamed(path: Path, entry: Subset, size: int) -> Build | None:
    """A config in a subset's folder of another name."""
    for config in configs_in(path):
        if config.name == entry.config_name(size) and read_manifest(config).subset == entry.flag:
            return Build(entry, size, config)
    return None


def _only_subset(path: Path, configs: list[Path], *, npz: bool) -> Subset:
    """The subset that a folder holds; an error if it holds several or none."""
    first_of_each = {config.parent: config for config in reversed(configs)}.values()
    flags = {read_manifest(config).subset for config in first_of_each}
    files = [] if flags else [entry.flag for entry, _ in npz_files(path)]
    held = sorted(flags or set(files))
    if len(held) == 1 and (flags or npz):
        return catalog.subset(held[0])
    if flags:
        example = min(first_of_each).parent
        raise SourceError(f"{path} holds {', '.join(held)}: name one of them, e.g. {example}")
    if held:
        entry = catalog.subset(held[0])
        if npz:
            raise SourceError(f"{path} holds {', '.join(held)}: name one file, e.g. {path / entry.files[0].name}")
        raise SourceError(f"{path} holds NPZ files but no build: {how_to_build(entry, DEFAULT_SIZE, source=path)}")
    raise SourceError(f"no build in {path}: run medmnist-hf build there, or give {FORMS}")


def _only_size(path: Path, entry: Subset, *, npz: bool) -> int | None:
    """The only size of a subset in a folder of NPZ files. Builds use the default size instead, as on the Hub."""
    sizes = [number for each, number in npz_files(path) if each == entry] if npz else []
    return sizes[0] if len(sizes) == 1 and not configs_in(path) else None


def _npz_file(path: Path, entry: Subset | None, size: int | None, *, npz: bool) -> NpzFile:
    official = {file.name: (each, file.size) for each in catalog.entries() for file in each.files}
    own = official.get(path.name)
    if not npz:
        raise needs_build(path, entry, size)
    if own is not None and (entry not in {None, own[0]} or size not in {None, own[1]}):
        needed = (entry or own[0]).file(size or own[1]).name
        raise SourceError(f"{path} is not the required file {needed}: give that file or its folder")
    if own is None and entry is None:
        raise SourceError(
            f"the name of {path} does not identify its subset and size: rename it like the official file, e.g. "
            "pathmnist_64.npz"
        )
    subset, number = own or (entry, size or DEFAULT_SIZE)
    assert subset is not None
    return NpzFile(subset, number, path)


def needs_build(path: Path, entry: Subset | None = None, size: int | None = None) -> SourceError:
    """The error for a file in place of a build; for an NPZ file, the message says how to build from it.

    Args:
        path: The file.
        entry: The subset, if known from elsewhere than the file's name.
        size: The size, likewise.
    """
    official = {file.name: (each, file.size) for each in catalog.entries() for file in each.files}
    subset, number = official.get(path.name, (entry, size))
    advice = f"give {FORMS}" if subset is None else how_to_build(subset, number or DEFAULT_SIZE, source=path.parent)
    return SourceError(f"{path} is a file, but a build is needed: {advice}")


def _another(build: Build, entry: Subset | None, size: int | None) -> SourceError:
    other = entry or build.entry
    needed = f"{other.base} at size {other.config_name(size or build.size)}"
    own = f"{build.entry.base} at size {build.entry.config_name(build.size)}"
    return SourceError(f"{build.folder} is a build of {own}, but {needed} is needed: name that")


def missing(path: Path) -> SourceError:
    """The error for a missing path; the message lists what its folder holds."""
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


def _refuse(folder: Path, entry: Subset, size: int, remedy: str, *, npz: bool) -> Build:
    """Raise the error for a config that a folder does not have; the message lists what it has.

    Args:
        folder: The folder.
        entry: The subset.
        size: Edge length in pixels or voxels.
        remedy: How to read the build in the cache, if it has one.
        npz: Whether an NPZ file would do.
    """
    built = [manifest for place in (folder, folder / entry.base) for manifest in readable_manifests(place)]
    sizes = [manifest.config_name for manifest in built if manifest.entry.base == entry.base]
    others = sorted({manifest.entry.base for manifest in built} - {entry.base})
    if not folder.is_dir():
        state = "no such folder"
    elif sizes:
        state = f"it has {', '.join(sizes)}"
    else:
        names = sorted({config.parent.name for config in configs_in(folder)})
        nothing = f"it has {', '.join(names)}" if names else "it has no builds"
        state = f"it is a build of {others[0]}" if others else nothing
    source = folder if (folder / entry.file(size).name).is_file() else None
    # Builds do not belong among the NPZ files.
    root = None if source else folder.parent if folder.name == entry.base or others else folder
    other = f"take size {' or '.join(sizes)}, or " if sizes else ""
    if find_below(builds_cache(), entry, size):
        other = f"a build is in the cache: {remedy}, or {other}"
    raise SourceError(
        f"no build of {entry.base} at size {entry.config_name(size)} in {folder} ({state}): "
        f"{other}{how_to_build(entry, size, root, source)}"
        f"{f', or put {entry.file(size).name} there' if npz else ''}"
    )
