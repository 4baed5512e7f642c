"""Find all built configs of a name: of a subset, of a folder of builds, or of a repository on the Hub."""

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
from medmnist_hf.places.advice import how_to_build, other_sizes
from medmnist_hf.places.folders import configs_in, folders_of_builds, is_file, nearest, subset_folders
from medmnist_hf.places.local_paths import check_text
from medmnist_hf.places.names import DataName, parse_name
from medmnist_hf.places.resolver import (
    default_roots,
    missing,
    needs_build,
    resolve_name,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoundConfig:
    """A built config.

    Attributes:
        manifest: Its manifest.
        local: Its folder, for a local build.
        fetch: Returns its folder, after downloading it from the Hub if needed.
        remote: ``USER/NAME@COMMIT`` of its repository, for one on the Hub.
    """

    manifest: Manifest
    local: Path | None
    fetch: Callable[[], Path]
    remote: str = ""


def find_configs(
    name: str | Path,
    sizes: Collection[int | str] = (),
    *,
    root: str | Path | None = None,
    revision: str | None = None,
    local: bool = False,
) -> list[FoundConfig]:
    """Find the built configs of a name.

    A repository is first checked completely: each shard by size and SHA-256, and the card.

    Args:
        name: Name of a data set, see `medmnist_hf.places.names.parse_name`; a folder of builds means all of them.
        sizes: Only these sizes, or configs such as ``28-corrected``; all if empty or ``all``.
        root: Folder of builds, the only place where a flag is looked up.
        revision: Branch, tag or commit on the Hub.
        local: Only find builds on this machine.

    Raises:
        CatalogError: The name or a size is not valid.
        SourceError: No such config exists.
        BuildError: A manifest cannot be read.
        HubError: The repository cannot be read.
        VerificationError: The repository is incomplete or damaged.
    """
    named = resolve_name(name, root, revision)
    selected = {_config(size) for size in sizes} if ALL not in sizes else set()
    if named.entry is not None and named.entry.variant:  # a variant is chosen by the names of its configs
        own = named.entry.config_names if named.size is None else (named.entry.config_name(named.size),)
        selected |= set(own)
    elif named.size is not None:
        selected |= {str(named.size)}
    if named.repository is not None:
        if local:
            raise SourceError(f"{named.text} is on the Hub, but a local build is needed")
        try:
            return _on_hub(named.repository, named.revision, selected)
        except HubError as error:
            if named.revision is not None:
                raise
            near = nearest(Path(named.text))
            meant = f": did you mean {near}?" if near else ""
            raise HubError(f"{error}; there is no local folder {named.text} either{meant}", error.status) from None
    if named.path is not None:
        check_text(named.path)
        return _at_path(named.path, selected)
    assert named.entry is not None  # the name is a flag
    return _of_flag(named, named.entry, selected, root, local=local)


def expand(names: Collection[str]) -> list[str]:
    """Replace each folder of builds by the folders of its subsets, to be processed one at a time.

    Raises:
        SourceError: A folder cannot be read.
    """
    expanded: list[str] = []
    for name in names:
        try:
            path = parse_name(name).path
        except MedMNISTError:  # reported when the name is looked up
            path = None
        if path is None or not path.is_dir():
            expanded.append(name)
            continue
        expanded += map(str, subset_folders(path))
        for folder in folders_of_builds(path):
            _log.warning("%s also holds builds, which are left out: name it to include them", folder)
    return expanded


def subset_folder(name: str, root: str | Path | None = None) -> Path:
    """The local folder of a subset, with all of its configs.

    Raises:
        CatalogError: The name is not valid.
        SourceError: No such build exists, or the name is that of a single config, which has no card.
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
    named: DataName, entry: Subset, sizes: set[str], root: str | Path | None, *, local: bool
) -> list[FoundConfig]:
    roots = default_roots() if root is None else [expand_user(root)]
    for folder in roots:
        check_text(folder)
        for place in (folder / entry.base, folder):
            own = [path for path in configs_in(place) if place in {path, path.parent}]
            configs = [config for config in _local(own, sizes) if config.manifest.entry.base == entry.base]
            if configs:
                return configs
    missing_entry, size = entry.config(min(sizes)) if sizes else (entry, catalog.DEFAULT_SIZE)
    where = " or ".join(map(str, roots))
    if root is None and not local:
        try:
            return _on_hub(f"{NAMESPACE}/{entry.base}", None, sizes)
        except MedMNISTError as error:
            other = other_sizes(entry, roots)
            text = f"{error}; no build of it was found in {where} either: {other}{how_to_build(missing_entry, size)}"
            raise SourceError(text) from None
    raise SourceError(
        f"no build of {named.text}{_of_sizes(sizes)} in {where}: {other_sizes(entry, roots)}"
        f"{how_to_build(missing_entry, size, roots[0] if root else None)}"
    )


def _at_path(path: Path, sizes: set[str]) -> list[FoundConfig]:
    if path.is_file():
        raise needs_build(path)
    if not path.is_dir():
        raise missing(path)
    every = _local(configs_in(path), set())
    selected = [config for config in every if not sizes or config.manifest.config_name in sizes]
    if not selected:
        built = ", ".join(dict.fromkeys(config.manifest.config_name for config in every))
        has = f" (it has {built})" if built else ""
        advice = f"take size {built.replace(', ', ' or ')}, or build it: " if built else ""
        raise SourceError(f"no build{_of_sizes(sizes)} in {path}{has}: {advice}run medmnist-hf build")
    return selected


def _local(folders: list[Path], sizes: set[str]) -> list[FoundConfig]:
    configs = [FoundConfig(read_manifest(folder), folder, partial(Path, folder)) for folder in folders]
    return [config for config in configs if not sizes or config.manifest.config_name in sizes]


def _on_hub(repository: str, revision: str | None, sizes: set[str]) -> list[FoundConfig]:
    api = hub_api()
    state = read_state(api, repository, revision or MAIN)
    check_state(state)
    configs = [
        FoundConfig(manifest, None, partial(fetch_config, api, state, manifest), f"{repository}@{state.sha}")
        for manifest in state.manifests
        if not sizes or manifest.config_name in sizes
    ]
    if not configs:
        raise SourceError(f"no build{_of_sizes(sizes)} in {repository} on the Hub: check the name and the size")
    return configs


def _of_sizes(sizes: set[str]) -> str:
    return f" of size {' or '.join(sorted(sizes, key=len))}" if sizes else ""


def _config(size: int | str) -> str:
    valid = dict.fromkeys(name for entry in catalog.subsets() for name in entry.config_names)
    if str(size) not in valid:
        raise CatalogError(
            f"no subset has size {shorten(size)}: choose from {', '.join(filter(str.isdecimal, valid))}, {ALL}"
        )
    return str(size)
