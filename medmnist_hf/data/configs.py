"""A built config, in a folder of builds or on the Hub: its manifest and the paths of its shards.

This module opens no shard and imports neither `datasets` nor `pyarrow`.
"""

import abc
from pathlib import Path
from typing import Final

from medmnist_hf import catalog
from medmnist_hf.catalog import Subset, split_name
from medmnist_hf.errors import BuildError, SourceError, cannot_read
from medmnist_hf.files import read_document, regular_size
from medmnist_hf.manifest import MANIFEST_NAME, Manifest, Shard, SplitRecord, parse_manifest, read_manifest
from medmnist_hf.places.resolver import Build, NpzFile, Repository, find

NOT_THE_SHARD: Final = "it is not the shard of the manifest"
"""Reason given for a file whose content or size differs from the manifest."""

_BUILT: Final = "build the config again with --force"
_CACHED: Final = "remove the cached file and run again, and if that does not help, push the build again"


class BuiltConfig(abc.ABC):
    """A subset in one size, ready to be read.

    Attributes:
        entry: The subset.
        size: Edge length in pixels or voxels.
        manifest: Its manifest.
        where: Name of the config in errors, e.g. ``dist/pathmnist/28``.
        remedy: What to do if it is damaged, for errors.
    """

    def __init__(self, entry: Subset, size: int, manifest: Manifest, where: str, remedy: str) -> None:
        self.entry, self.size, self.manifest, self.where, self.remedy = entry, size, manifest, where, remedy
        if (manifest.subset, manifest.size) != (entry.flag, size):
            raise BuildError(f"{where} holds {manifest.subset} at size {manifest.size}: {remedy}")

    def split(self, name: str) -> SplitRecord:
        """The manifest's record of a split; raises a `CatalogError` for an unknown one."""
        return self.manifest.splits[split_name(name)]

    @abc.abstractmethod
    def shards(self, split: str) -> list[tuple[Path, Shard]]:
        """The files of a split in row order, each with its record in the manifest.

        Raises:
            CatalogError: Unknown split.
            SourceError: Its files cannot be fetched.
        """

    @abc.abstractmethod
    def check_files(self, split: str) -> None:
        """Check that the files of a split exist with the right sizes; on the Hub, only check the name of the split.

        Raises:
            CatalogError: Unknown split.
            BuildError: A file is missing, or its size is not the one in the manifest.
        """

    def check_file(self, path: Path, shard: Shard) -> None:
        """Raise a `BuildError` for a file that is missing, or whose size is not the one in the manifest."""
        try:
            if regular_size(path) == shard.bytes:
                return
        except OSError as error:
            raise self.unreadable(path, error) from None
        raise self.unreadable(path, OSError(NOT_THE_SHARD))

    def unreadable(self, path: Path, error: Exception) -> BuildError:
        """The error for a file that cannot be read."""
        return BuildError(cannot_read(path, error, self.remedy))


class LocalConfig(BuiltConfig):
    """A local build."""

    def __init__(self, place: Build) -> None:
        super().__init__(place.entry, place.size, read_manifest(place.folder), str(place.folder), _BUILT)
        self._folder = place.folder

    def shards(self, split: str) -> list[tuple[Path, Shard]]:
        """See `BuiltConfig.shards`."""
        return [(self._folder / shard.name, shard) for shard in self.split(split).shards]

    def check_files(self, split: str) -> None:
        """See `BuiltConfig.check_files`."""
        for path, shard in self.shards(split):
            self.check_file(path, shard)


class HubConfig(BuiltConfig):
    """A config on the Hub at one commit. Its files are cached by `huggingface_hub`, and read from that cache offline.

    Args:
        place: The repository. If its name does not identify the subset, the manifest does.
        token: As for `huggingface_hub`; the user's own if None.

    Raises:
        SourceError: It cannot be reached, or is not a repository of this project.
        BuildError: The manifest describes another config.
    """

    def __init__(self, place: Repository, token: str | bool | None = None) -> None:
        from huggingface_hub.constants import REPO_TYPE_DATASET
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        from medmnist_hf.hub.client import apply_hub_limits, client_errors
        from medmnist_hf.hub.tree import download_document

        apply_hub_limits()
        self._place, repository = place, place.repo_id
        name = f"{place.config}/{MANIFEST_NAME}"
        others = (
            "; in Python, read data sets from elsewhere with "
            f"medmnist_hf.to_arrays(datasets.load_dataset({repository!r}, split=...))"
        )
        try:
            path = download_document(
                repository, name, repo_type=REPO_TYPE_DATASET, revision=place.revision, token=token
            )
            manifest = parse_manifest(read_document(path), f"{repository}/{name}", f"push the config again{others}")
        except LocalEntryNotFoundError as error:
            raise self._unreachable(error) from None
        except BuildError as error:
            raise SourceError(str(error)) from None
        except EntryNotFoundError:
            raise SourceError(f"{place.where} has no {name} of this project: check the size{others}") from None
        except client_errors() as error:
            raise self._unreachable(error) from None
        # The cache names a snapshot's folder after its commit; asking for that commit gives this manifest's shards.
        self._commit = path.parents[1].name
        entry = place.entry or catalog.subset(manifest.subset)
        super().__init__(entry, place.size, manifest, f"{repository}/{place.config}", _CACHED)

    def shards(self, split: str) -> list[tuple[Path, Shard]]:
        """See `BuiltConfig.shards`."""
        from huggingface_hub.constants import REPO_TYPE_DATASET

        from medmnist_hf.hub.client import client_errors
        from medmnist_hf.hub.tree import download_files

        shards = {f"{self.manifest.config_name}/{shard.name}": shard for shard in self.split(split).shards}
        try:
            folder = download_files(self._place.repo_id, self._commit, list(shards), repo_type=REPO_TYPE_DATASET)
        except client_errors() as error:
            raise self._unreachable(error) from None
        # The folder holds links; an error must name the file that the user can remove.
        return [((folder / path).resolve(), shard) for path, shard in shards.items()]

    def check_files(self, split: str) -> None:
        """See `BuiltConfig.check_files`: nothing is downloaded, so only the split's name is checked."""
        self.split(split)

    def _unreachable(self, error: Exception) -> SourceError:
        from medmnist_hf.hub.client import reason_of

        return self._place.unreachable(f"load {self._place.where} at size {self._place.config}", reason_of(error))


def open_config(
    name: str | Path,
    size: int | str | None = None,
    root: str | Path | None = None,
    *,
    revision: str | None = None,
) -> BuiltConfig:
    """Find a built config and read its manifest; arguments as for `medmnist_hf.places.resolver.find`.

    Raises:
        CatalogError: Unknown subset, or a size it does not have.
        SourceError: There is no such build, or no such repository of this project on the Hub.
        BuildError: The manifest is unreadable or describes another config.
    """
    return config_at(find(name, size, root=root, revision=revision))


def config_at(place: Build | NpzFile | Repository) -> BuiltConfig:
    """Open the config at a place; raises a `SourceError` for an NPZ file, otherwise as `open_config`."""
    if isinstance(place, Repository):
        return HubConfig(place)
    if isinstance(place, NpzFile):
        raise SourceError(f"{place.path} is not a build: {place.how_to_build()}")
    return LocalConfig(place)
