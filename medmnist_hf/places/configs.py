"""All built configs that a name stands for: of a subset, of a folder of builds, or of a repository on the Hub."""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from medmnist_hf import catalog
from medmnist_hf.catalog import ALL, NAMESPACE, Subset
from medmnist_hf.errors import CatalogError, HubError, MedMNISTError, SourceError, shorten
from medmnist_hf.files import expand_user
from medmnist_hf.hub.client import MAIN, hub_api
from medmnist_hf.hub.dataset_state import check_state, fetch_config, read_state
from medmnist_hf.manifest import MANIFEST_NAME, Manifest, read_manifest
from medmnist_hf.places.folders import configs_in, folders_of_builds, is_file, nearest, subset_folders
from medmnist_hf.places.local_paths import check_text
from medmnist_hf.places.names import DataName, parse_name
from medmnist_hf.places.resolver import (
    default_roots,
    how_to_build,
    missing,
    named_data,
    needs_build,
    other_sizes,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoundConfig:
    """A built config.

    Attributes:
        manifest: What was built.
        local: Its folder, if it is on this machine.
        fetch: Gives its folder; one on the Hub is downloaded then.
    """

    manifest: Manifest
    local: Path | None
    fetch: Callable[[], Path]


def find_configs(
    name: str | Path,
    sizes: Collection[int | str] = (),
    *,
    root: str | Path | None = None,
    revision: str | None = None,
    local: bool = False,
) -> list[FoundConfig]:
    """The built configs that a name stands for, each with what gives its folder.

    A repository is first checked as a whole: each shard by size and SHA-256, and the card.

    Args:
        name: A name of a data set, see `medmnist_hf.places.names.parse_name`; a folder of builds stands for all in it.
        sizes: Only these; ``all`` or none for all.
        root: Folder of builds, the only place where a flag is looked up.
        revision: Branch, tag or commit on the Hub.
        local: Only what is on this machine will do.

    Raises:
        CatalogError: The name is none, or a size.
        SourceError: There is none.
        BuildError: A manifest cannot be read.
        HubError: The repository cannot be read.
        VerificationError: The repository is not whole.
    """
    named = named_data(name, root, revision)
    wanted = {_size(size) for size in sizes if size != ALL} if ALL not in sizes else set()
    if named.size is not None:
        wanted |= {named.size}
    if named.repository is not None:
        if local:
            raise SourceError(f"{named.text} is on the Hub, and a build on this machine is needed")
        try:
            return _on_hub(named.repository, named.revision, wanted)
        except HubError as error:
            if named.revision is not None:
                raise
            near = nearest(Path(named.text))
            meant = f": did you mean {near}?" if near else ""
            raise HubError(f"{error}; no folder {named.text} was found here either{meant}", error.status) from None
    if named.path is not None:
        check_text(named.path)
        return _at_path(named.path, wanted)
    assert named.entry is not None  # of a flag
    return _of_flag(named, named.entry, wanted, root, local=local)


def expand(names: Collection[str]) -> list[str]:
    """The names with the folders of the subsets in place of each folder of builds, so that each can be done apart.

    Raises:
        SourceError: A folder may not be looked at.
    """
    expanded: list[str] = []
    for name in names:
        try:
            path = parse_name(name).path
        except MedMNISTError:  # of which whoever looks for it says more
            path = None
        if path is None or not path.is_dir():
            expanded.append(name)
            continue
        expanded += map(str, subset_folders(path))
        for folder in folders_of_builds(path):
            _log.warning("%s holds builds, too, which are left out here: name it", folder)
    return expanded


def subset_folder(name: str, root: str | Path | None = None) -> Path:
    """The folder of a subset on this machine, with all of its configs.

    Raises:
        CatalogError: The name is none.
        SourceError: There is no such build, or the name is that of one config alone, which has no card.
        BuildError: A manifest cannot be read.
    """
    named = parse_name(name)
    folders = {config.local.parent for config in find_configs(name, root=root, local=True) if config.local}
    if len(folders) > 1:
        raise SourceError(f"{name} holds several subsets: name one of them, e.g. {min(folders)}")
    (folder,) = folders
    if named.size is not None or (named.path is not None and is_file(named.path / MANIFEST_NAME)):
        raise SourceError(f"{name} is one config of a build: name the folder of its subset, {folder}")
    return folder


def _of_flag(
    named: DataName, entry: Subset, wanted: set[int], root: str | Path | None, *, local: bool
) -> list[FoundConfig]:
    roots = default_roots() if root is None else [expand_user(root)]
    for folder in roots:
        check_text(folder)
        for place in (folder / entry.flag, folder):
            own = [path for path in configs_in(place) if place in {path, path.parent}]
            found = [config for config in _local(own, wanted) if config.manifest.subset == entry.flag]
            if found:
                return found
    size = min(wanted, default=catalog.DEFAULT_SIZE)
    where = " or ".join(map(str, roots))
    if root is None and not local:
        try:
            return _on_hub(f"{NAMESPACE}/{entry.flag}", None, wanted)
        except MedMNISTError as error:
            other = other_sizes(entry, roots)
            text = f"{error}; {where} has no build of it either: {other}{how_to_build(entry, size)}"
            raise SourceError(text) from None
    raise SourceError(
        f"no build of {named.text}{_sized(wanted)} in {where}: {other_sizes(entry, roots)}"
        f"{how_to_build(entry, size, roots[0] if root else None)}"
    )


def _at_path(path: Path, wanted: set[int]) -> list[FoundConfig]:
    if path.is_file():
        raise needs_build(path)
    if not path.is_dir():
        raise missing(path)
    every = _local(configs_in(path), set())
    found = [config for config in every if not wanted or config.manifest.size in wanted]
    if not found:
        sizes = ", ".join(map(str, sorted({config.manifest.size for config in every})))
        has = f" (it has {sizes})" if sizes else ""
        advice = f"take size {sizes.replace(', ', ' or ')}, or build it: " if sizes else ""
        raise SourceError(f"no build{_sized(wanted)} in {path}{has}: {advice}medmnist-hf build makes one")
    return found


def _local(folders: list[Path], wanted: set[int]) -> list[FoundConfig]:
    configs = [FoundConfig(read_manifest(folder), folder, partial(Path, folder)) for folder in folders]
    return [config for config in configs if not wanted or config.manifest.size in wanted]


def _on_hub(repository: str, revision: str | None, wanted: set[int]) -> list[FoundConfig]:
    api = hub_api()
    state = read_state(api, repository, revision or MAIN)
    check_state(state)
    found = [
        FoundConfig(manifest, None, partial(fetch_config, api, state, manifest))
        for manifest in state.manifests
        if not wanted or manifest.size in wanted
    ]
    if not found:
        raise SourceError(f"no build{_sized(wanted)} in {repository} on the Hub: check the name and the size")
    return found


def _sized(wanted: set[int]) -> str:
    return f" of size {' or '.join(map(str, sorted(wanted)))}" if wanted else ""


def _size(size: int | str) -> int:
    known = {str(file.size): file.size for entry in catalog.subsets() for file in entry.files}
    if str(size) not in known:
        raise CatalogError(f"no subset has size {shorten(size)}: choose from {', '.join(known)}, {ALL}")
    return known[str(size)]
