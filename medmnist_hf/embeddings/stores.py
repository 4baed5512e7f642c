"""Find the store of a model in a folder of stores, and check that it is complete and of the right images."""

from pathlib import Path
from typing import Final

from medmnist_hf.catalog import Subset
from medmnist_hf.embeddings.manifest import (
    REMEDY,
    StoreManifest,
    config_name,
    different_data,
    parse_store,
    read_store,
)
from medmnist_hf.errors import BuildError, SourceError
from medmnist_hf.files import read_document, regular_size
from medmnist_hf.manifest import MANIFEST_NAME, Manifest
from medmnist_hf.own_code.names import public_code
from medmnist_hf.places.advice import how_to_reach_hub

STORES: Final = f"[0-9]*-*/{MANIFEST_NAME}"
"""Pattern of the manifests of all stores in the folder of a subset."""


def store_folders(folder: Path) -> list[Path]:
    """The folders of subsets with feature stores: the folder itself, or those in a folder of stores."""
    if any(folder.glob(STORES)):
        return [folder]
    return sorted({path.parent.parent for path in folder.glob(f"*/{STORES}")})


def store_folder(root: Path, entry: Subset, size: int, model: str) -> Path:
    """Folder of a store in a folder of stores, e.g. ``features/breastmnist/28-timm-resnet18.a1_in1k``."""
    return root / entry.flag / config_name(size, model)


def find_store(root: Path, entry: Subset, size: int, model: str) -> tuple[Path, StoreManifest]:
    """Find the store of a model; returns its folder and manifest.

    Raises:
        SourceError: There is none.
        BuildError: Its manifest cannot be read, or it belongs to another model, subset or size.
    """
    folder = store_folder(root, entry, size, model)
    if not (folder / MANIFEST_NAME).exists():
        raise SourceError(
            f"no features of {entry.flag} at size {size} by {model} in {root} ({_existing(root / entry.flag)}): run "
            f"medmnist-hf embed {entry.flag} --size {size} --model {model} --out {root}"
        )
    manifest = read_store(folder)
    _check_named(manifest, str(folder), entry, size, model)
    return folder, manifest


def _check_named(manifest: StoreManifest, where: str, entry: Subset, size: int, model: str) -> None:
    held, needed = (manifest.subset, manifest.size, manifest.model.id), (entry.flag, size, public_code(model))
    if held != needed:
        raise BuildError(
            f"{where} holds features of {held[0]} at size {held[1]} by {held[2]}, not of {needed[0]} at size "
            f"{needed[1]} by {needed[2]}: name another folder"
        )


def fetch_split(
    repository: str, revision: str | None, entry: Subset, size: int, *, model: str, split: str
) -> tuple[Path, StoreManifest]:
    """Download a split of a store from the Hub into the user's cache, unless it is there.

    Args:
        repository: The repository, as ``user/name``.
        revision: Its branch, tag or commit; None for ``main``.
        entry: The subset.
        size: Edge length of the stored images in pixels or voxels.
        model: Name of the model in a recipe.
        split: Name of the split.

    Returns:
        The folder of the store, and its manifest.

    Raises:
        SourceError: The Hub does not provide it.
        BuildError: Its manifest is not valid, or belongs to another model, subset or size.
    """
    from huggingface_hub.constants import REPO_TYPE_DATASET  # noqa: PLC0415 - not needed for local stores
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError  # noqa: PLC0415

    from medmnist_hf.hub.client import apply_hub_limits, client_errors, reason_of  # noqa: PLC0415
    from medmnist_hf.hub.tree import download_document, download_files  # noqa: PLC0415

    apply_hub_limits()
    name = config_name(size, model)
    what = f"features of {entry.flag} at size {size} by {model}"
    try:
        path = download_document(repository, f"{name}/{MANIFEST_NAME}", repo_type=REPO_TYPE_DATASET, revision=revision)
        manifest = parse_store(read_document(path), f"{repository}/{name}/{MANIFEST_NAME}")
        _check_named(manifest, f"{repository}/{name}", entry, size, model)
        # The cache names a snapshot's folder after its commit.
        shards = [f"{name}/{shard.name}" for shard in manifest.splits[split].shards]
        folder = download_files(repository, path.parents[1].name, shards, repo_type=REPO_TYPE_DATASET)
    except client_errors() as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            raise SourceError(f"{repository} has no {what}: check the names, or run medmnist-hf embed") from None
        raise SourceError(f"cannot load {what} from {repository} ({reason_of(error)}): {how_to_reach_hub()}") from None
    return folder / name, manifest


def _existing(folder: Path) -> str:
    if not folder.is_dir():
        return f"no folder {folder}"
    names = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST_NAME}"))
    return f"it has {', '.join(names)}" if names else "it has no features"


def check_data(folder: Path, manifest: StoreManifest, images: Manifest, where: str) -> None:
    """Check that a store holds the features of the images of a build.

    Args:
        folder: Folder of the store.
        manifest: Its manifest.
        images: Manifest of the build.
        where: Name of the build in the error message.

    Raises:
        BuildError: The pixels or labels differ.
    """
    if difference := different_data(manifest, images):
        raise BuildError(
            f"{folder} holds features of other data than {where} ({difference}; {manifest.provenance} "
            f"{manifest.source.file}): {REMEDY}, or name another folder"
        )


def damaged_shard(folder: Path, manifest: StoreManifest) -> str:
    """The name of the first shard of a store that is missing or of another size; empty if there is none."""
    for shard in manifest.shards:
        try:
            if regular_size(folder / shard.name) == shard.bytes:
                continue
        except OSError:
            pass
        return shard.name
    return ""
