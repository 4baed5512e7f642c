"""Find the store of a model in a folder of stores, and check that it is complete and of the right images."""

from pathlib import Path

from medmnist_hf.catalog import Subset
from medmnist_hf.embeddings.manifest import REMEDY, StoreManifest, config_name, different_data, read_store
from medmnist_hf.errors import BuildError, SourceError
from medmnist_hf.files import regular_size
from medmnist_hf.manifest import MANIFEST_NAME, Manifest


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
    held, needed = (manifest.subset, manifest.size, manifest.model.id), (entry.flag, size, model)
    if held != needed:
        raise BuildError(
            f"{folder} holds features of {held[0]} at size {held[1]} by {held[2]}, not of {needed[0]} at size "
            f"{needed[1]} by {needed[2]}: name another folder"
        )
    return folder, manifest


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
