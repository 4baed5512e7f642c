"""Read a local build for a push and check every file of it."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from medmnist_hf import catalog
from medmnist_hf.catalog import Subset, config_order, is_config_name
from medmnist_hf.documents import parse_json
from medmnist_hf.errors import BuildError, first_line
from medmnist_hf.hub.files import PushFile
from medmnist_hf.manifest import AUDIT_NAME, MANIFEST_NAME, PICTURES, Manifest, Shard, SourceRecord, read_manifest
from medmnist_hf.typed_json import Sentence, decode

_REMEDY: Final = "build the config again with --force"


@dataclass(frozen=True, slots=True)
class LocalBuild:
    """The complete configs of one subset.

    Attributes:
        subset: The subset.
        manifests: Its configs, by ascending size.
        audits: Config name -> content of its audit, for configs that have one.
        files: Path in the repository -> file; the shards, manifests and audits of all configs.
        pictures: Path in the repository -> picture for the card.
    """

    subset: Subset
    manifests: tuple[Manifest, ...]
    audits: dict[str, bytes]
    files: dict[str, PushFile]
    pictures: dict[str, PushFile]


def parse_findings(content: bytes, where: str) -> tuple[str, ...]:
    """Return the findings of an audit, one line each.

    Raises:
        BuildError: The content is not a valid audit.
    """
    try:
        table = decode(parse_json(content), dict[str, Any])
        findings: tuple[str, ...] = decode(table.get("findings"), tuple[Sentence, ...], "findings")
    except ValueError as error:
        raise BuildError(
            f"{where} is not a valid audit ({error}): run medmnist-hf audit --save again, or remove it"
        ) from None
    return findings


def read_local(folder: Path, *, allow_synthetic: bool = False, allow_unverified: bool = False) -> LocalBuild:
    """Read a build and check it; every shard is hashed, so that no damaged file is pushed.

    Args:
        folder: Folder of one subset, written by ``medmnist-hf build``.
        allow_synthetic: Accept generated pixels.
        allow_unverified: Accept a source whose MD5 differs from the catalog's.

    Raises:
        BuildError: The build is incomplete, differs from its manifests, or needs one of the flags.
    """
    names = sorted((path.name for path in folder.glob("*/") if is_config_name(path.name)), key=config_order)
    configs = [folder / name for name in names]
    for path in configs:
        if not (path / MANIFEST_NAME).is_file():
            raise BuildError(f"{path} is not a complete build: finish it with medmnist-hf build, or remove the folder")
    manifests = tuple(read_manifest(path) for path in configs)
    if not manifests:
        raise BuildError(f"no build in {folder}: run medmnist-hf build")
    subset = catalog.subset(manifests[0].entry.base)
    build = LocalBuild(subset, manifests, {}, {}, {})
    for manifest, path in zip(manifests, configs, strict=True):
        check_origin(manifest.source, path, allow_synthetic, allow_unverified)
        _add_config(build, manifest, folder, path)
    picture = PICTURES[subset.ndim]
    if os.path.lexists(folder / picture):
        build.pictures[picture] = _push_file(PushFile.picture, folder, picture)
    return build


def check_origin(source: SourceRecord, where: Path, allow_synthetic: bool, allow_unverified: bool) -> None:
    """Refuse to push synthetic or unverified data by mistake; arguments and errors as in `read_local`."""
    if source.synthetic and not allow_synthetic:
        raise BuildError(f"{where} is synthetic and does not show patients: pass --allow-synthetic to push it anyway")
    if not source.synthetic and not source.verified and not allow_unverified:
        raise BuildError(
            f"{where} was built from {source.file}, whose MD5 {source.md5} is not the official one: "
            "pass --allow-unverified to push it anyway"
        )


def _add_config(build: LocalBuild, manifest: Manifest, folder: Path, config_dir: Path) -> None:
    if (manifest.entry.base, manifest.config_name) != (build.subset.flag, config_dir.name):
        raise BuildError(f"{config_dir} holds {manifest.name}: name folders by subset and size")
    name = manifest.config_name
    build.files.update(config_files(config_dir, manifest.shards, _REMEDY))
    if os.path.lexists(config_dir / AUDIT_NAME):
        audit = _push_file(PushFile.document, folder, f"{name}/{AUDIT_NAME}")
        assert isinstance(audit.source, bytes)
        build.audits[name] = audit.source
        parse_findings(audit.source, str(config_dir / AUDIT_NAME))
        build.files[f"{name}/{AUDIT_NAME}"] = audit


def config_files(config_dir: Path, shards: Iterable[Shard], remedy: str) -> dict[str, PushFile]:
    """Read the shards and the manifest of a config, and compare each shard with its record.

    Args:
        config_dir: Folder of the config.
        shards: All shards of its manifest.
        remedy: How to make the config again, for errors.

    Returns:
        Path in the repository -> file.

    Raises:
        BuildError: A file cannot be read, is not that of its record, or is in no record.
    """
    folder, name, files = config_dir.parent, config_dir.name, {}
    for shard in shards:
        where = f"{name}/{shard.name}"
        file = _push_file(PushFile.from_folder, folder, where, remedy)
        if (file.size, file.sha256) != (shard.bytes, shard.sha256):
            raise BuildError(f"{folder / where} is not the shard of the manifest: {remedy}")
        files[where] = file
    for path in sorted(config_dir.glob("*.parquet")):
        if f"{name}/{path.name}" not in files:
            raise BuildError(f"{path} is not in the manifest: remove it, or {remedy}")
    files[f"{name}/{MANIFEST_NAME}"] = _push_file(PushFile.document, folder, f"{name}/{MANIFEST_NAME}", remedy)
    return files


def _push_file(make: Callable[[Path, str], PushFile], folder: Path, name: str, remedy: str = _REMEDY) -> PushFile:
    try:
        return make(folder, name)
    except OSError as error:
        raise BuildError(f"cannot push {folder / name} ({first_line(error)}): remove it, or {remedy}") from None
