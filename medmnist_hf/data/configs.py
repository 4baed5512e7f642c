"""A built config, in a folder of builds or on the Hub: what its manifest says, and its shards when they are asked for.

No shard is opened here, and neither `datasets` nor `pyarrow` is imported.
"""

import abc
from pathlib import Path
from typing import Final

from medmnist_hf import catalog
from medmnist_hf.catalog import Subset
from medmnist_hf.data.local_paths import check_text
from medmnist_hf.errors import BuildError, SourceError
from medmnist_hf.files import read_document
from medmnist_hf.manifest import MANIFEST_NAME, Manifest, Shard, SplitRecord, parse_manifest, read_manifest

_BUILT: Final = "build the config again with --force"
_CACHED: Final = "remove the cached file and run again, and if that does not help, push the build again"


class BuiltConfig(abc.ABC):
    """A subset in one size, ready to be read.

    Attributes:
        entry: The subset.
        size: Edge length in pixels or voxels.
        manifest: What was built.
        where: What to call the config in an error, e.g. ``dist/pathmnist/28``.
        remedy: What to do where it is not as it must be.
    """

    def __init__(self, entry: Subset, size: int, manifest: Manifest, where: str, remedy: str) -> None:
        self.entry, self.size, self.manifest, self.where, self.remedy = entry, size, manifest, where, remedy
        if (manifest.subset, manifest.size) != (entry.flag, size):
            raise BuildError(f"{where} holds {manifest.subset} at size {manifest.size}: {remedy}")

    def split(self, name: str) -> SplitRecord:
        """What was built of a split; raises `CatalogError` for an unknown one."""
        self.entry.counts[name]
        return self.manifest.splits[name]

    @abc.abstractmethod
    def shards(self, split: str) -> list[tuple[Path, Shard]]:
        """The files of a split in row order, each with what the manifest says of it.

        Raises:
            CatalogError: Unknown split.
            SourceError: Its files cannot be fetched.
        """


class _LocalConfig(BuiltConfig):
    """A local build."""

    def __init__(self, entry: Subset, size: int, folder: Path) -> None:
        super().__init__(entry, size, read_manifest(folder), str(folder), _BUILT)
        self._folder = folder

    def shards(self, split: str) -> list[tuple[Path, Shard]]:
        return [(self._folder / shard.name, shard) for shard in self.split(split).shards]


class _HubConfig(BuiltConfig):
    """A config on the Hub at one commit; its files come into the cache of `huggingface_hub`, and from it offline."""

    def __init__(self, entry: Subset, size: int, repository: str, revision: str | None) -> None:
        from huggingface_hub.constants import REPO_TYPE_DATASET
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        from medmnist_hf.hub.client import client_errors, limit_waiting
        from medmnist_hf.hub.tree import download_document

        limit_waiting()
        self._repository, self._what = repository, f"{repository} at size {size}"
        name = f"{size}/{MANIFEST_NAME}"
        others = (
            "; in Python, what others made is read with "
            f"medmnist_hf.to_arrays(datasets.load_dataset({repository!r}, split=...))"
        )
        try:
            path = download_document(repository, name, repo_type=REPO_TYPE_DATASET, revision=revision)
            manifest = parse_manifest(read_document(path), f"{repository}/{name}", f"push the config again{others}")
        except LocalEntryNotFoundError as error:
            raise self._unreachable(error) from None
        except BuildError as error:
            raise SourceError(str(error)) from None
        except EntryNotFoundError:
            raise SourceError(f"{repository} has no {name} of this project: check the size{others}") from None
        except client_errors() as error:
            raise self._unreachable(error) from None
        # The cache names the folder of a snapshot by its commit, so that the shards are those of this manifest.
        self._commit = path.parents[1].name
        super().__init__(entry, size, manifest, f"{repository}/{size}", _CACHED)

    def shards(self, split: str) -> list[tuple[Path, Shard]]:
        from huggingface_hub.constants import REPO_TYPE_DATASET

        from medmnist_hf.hub.client import client_errors
        from medmnist_hf.hub.tree import download_files

        shards = {f"{self.size}/{shard.name}": shard for shard in self.split(split).shards}
        try:
            folder = download_files(self._repository, self._commit, list(shards), repo_type=REPO_TYPE_DATASET)
        except client_errors() as error:
            raise self._unreachable(error) from None
        # What lies in the folder are links: an error has to name the file that can be removed.
        return [((folder / path).resolve(), shard) for path, shard in shards.items()]

    def _unreachable(self, error: Exception) -> SourceError:
        from medmnist_hf.hub.client import reason_of

        return SourceError(
            f"cannot load {self._what} ({reason_of(error)}): check the name, the network and your token"
        )


def open_config(
    subset: str, size: int | str, root: str | Path | None, *, namespace: str, revision: str | None = None
) -> BuiltConfig:
    """Find a config.

    Args:
        subset: Flag of the subset.
        size: Edge length in pixels or voxels.
        root: Folder of local builds, the ``--out`` of ``medmnist-hf build``; None looks on the Hub.
        namespace: User or organisation on the Hub.
        revision: Branch, tag or commit of the Hub repository.

    Raises:
        CatalogError: Unknown subset, or a size it does not have.
        SourceError: No such build in `root`, or no such repository of this project on the Hub.
        BuildError: The manifest is unreadable or that of another config.
    """
    entry = catalog.subset(subset)
    size = entry.file(size).size
    if root is None:
        return _HubConfig(entry, size, f"{namespace}/{entry.flag}", revision)
    return _LocalConfig(
        entry, size, build_folder(Path(root).expanduser(), entry.flag, str(size), card=False) / str(size)
    )


def build_folder(root: Path, flag: str, config: str, *, card: bool = True) -> Path:
    """Folder of a subset in a folder of builds.

    Args:
        root: Folder of builds.
        flag: Flag of the subset.
        config: Name of the config that must be there, e.g. ``"28"``.
        card: Its ``README.md`` must be there too: `datasets.load_dataset` reads the configs and their features from
            it. Those who read the shards themselves do without.

    Raises:
        SourceError: The config is not built there, and the message says which are; or the folder cannot be read.
    """
    check_text(root)
    try:
        return _build_folder(root, flag, config, card)
    except OSError as error:
        raise SourceError(
            f"cannot read {root / flag} ({error.strerror}): check the path and its permissions"
        ) from None


def _build_folder(root: Path, flag: str, config: str, card: bool) -> Path:
    folder = root / flag
    if not (folder / config / MANIFEST_NAME).is_file():
        built = sorted(
            (path.parent.name for path in folder.glob(f"*/{MANIFEST_NAME}")), key=lambda name: (len(name), name)
        )
        state = f"it has {', '.join(built)}" if built else "nothing is built there"
        raise SourceError(
            f"no build of {flag} at size {config} in {root} ({state}): "
            f"medmnist-hf build {flag} --size {config} --out {root}"
        )
    if card and not (folder / "README.md").is_file():
        raise SourceError(f"no README.md in {folder}: run medmnist-hf build again, it writes the card")
    return folder
