"""What is true of a split: its labels alone, from a local build, from the Hub or from an official NPZ file.

Images are not read: a Parquet reader fetches the label column only, and a member of an NPZ file is found by name.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from medmnist_hf.catalog import NPZ_SPLITS, Subset, Task, subset, subsets
from medmnist_hf.data.decode import labels_of, row_errors
from medmnist_hf.data.local_paths import check_text
from medmnist_hf.data.npz_members import NpzMembers
from medmnist_hf.data.shards import check_footer
from medmnist_hf.errors import BuildError, MedMNISTError, SourceError, cannot_read, first_line
from medmnist_hf.files import DOCUMENT_BYTES, open_regular
from medmnist_hf.hub.repo_id import split_revision
from medmnist_hf.manifest import MANIFEST_NAME, Manifest, Provenance, parse_manifest, read_build, read_manifest

_BLOCK: Final = 1 << 18
"""Bytes asked of the Hub at a time: the label column of a row group is far smaller."""

_Opener = Callable[[str], BinaryIO]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The labels of one split.

    Attributes:
        values: Class ids, intp of shape ``(N,)``; for the multi-label task findings, bool of shape ``(N, L)``.
        origin: Where they were read, for a person.
        provenance: What they are: of a build as its manifest says, of an NPZ file by its MD5, since it does not say
            whether it is a phantom.
    """

    values: npt.NDArray[Any]
    origin: str
    provenance: Provenance


def read_labels(flag: str, size: int | str, split: str, data: str | Path | None = None) -> Labels:
    """The labels of a split in row order, and nothing else of it.

    Args:
        flag: Flag of the subset.
        size: One of its sizes.
        split: ``train``, ``validation`` or ``test``.
        data: A build (its folder, that of its subset or that of all builds), an official NPZ file or a folder of such
            files; a repository on the Hub as ``user/name`` or ``user/name@revision``; None for the official
            repository of the subset.

    Raises:
        CatalogError: Unknown subset or split, or a size it does not have.
        SourceError: The data are missing, cannot be reached or are of another subset.
        BuildError: The build is damaged.
        ReadError: The NPZ file is damaged or holds no such labels.
    """
    entry = subset(flag)
    size = entry.file(size).size
    _ = entry.counts[split]
    path = None if data is None else Path(data).expanduser()
    if path is not None:
        check_text(path)
    try:
        return _read(entry, size, split, path, None if data is None else str(data))
    except OSError as error:
        raise SourceError(cannot_read(path, error, "check the path")) from None


def _read(entry: Subset, size: int, split: str, path: Path | None, repository: str | None) -> Labels:
    if path is None or (not path.exists() and path.suffix != ".npz" and split_revision(repository or "")):
        return _from_hub(entry, size, split, repository)
    if path.is_file():
        return _from_npz(entry, size, split, path)
    if not path.is_dir():
        raise SourceError(f"{path}: no such file or folder; give a build, an NPZ file or a repository as user/name")
    for folder in (path, path / str(size), path / entry.flag / str(size)):
        if (folder / MANIFEST_NAME).is_file():
            manifest = _right_one(read_manifest(folder), entry, size, str(folder))
            return _from_shards(manifest, split, partial(_open_local, folder), str(folder), OSError)
    if (path / entry.file(size).name).is_file():
        return _from_npz(entry, size, split, path / entry.file(size).name)
    raise SourceError(_nothing_there(entry, size, path))


def _open_local(folder: Path, name: str) -> BinaryIO:
    return open_regular(folder / name)


def _nothing_there(entry: Subset, size: int, path: Path) -> str:
    built = [manifest for folder in (path, path / entry.flag) for manifest in read_build(folder)]
    others = sorted({manifest.subset for manifest in built} - {entry.flag})
    sizes = [manifest.config_name for manifest in built if manifest.subset == entry.flag]
    state = f"it is a build of {others[0]}" if others else f"it has size {', '.join(sizes)}" if sizes else ""
    return (
        f"{path}: no labels of {entry.flag} at size {size}{f' ({state})' if state else ''}; "
        f"build them, or put {entry.file(size).name} there"
    )


def _right_one(manifest: Manifest, entry: Subset, size: int, where: str) -> Manifest:
    if (manifest.subset, manifest.size) != (entry.flag, size):
        raise SourceError(
            f"{where}: a build of {manifest.subset} at size {manifest.size}, not of {entry.flag} at size {size}; "
            "give the data that the result file is of"
        )
    return manifest


def _from_shards(
    manifest: Manifest, split: str, opener: _Opener, where: str, fault: type[OSError] = FileNotFoundError
) -> Labels:
    """The labels of a split's shards; `fault` is what tells of a bad shard: elsewhere it may be the network's."""
    record = manifest.splits[split]
    entry, parts = subset(manifest.subset), []
    for shard in record.shards:
        try:
            with opener(shard.name) as file:
                parquet = pq.ParquetFile(file)
                check_footer(parquet.metadata, shard.rows, entry, manifest.size)
                parts.append(parquet.read(columns=["label"])["label"].combine_chunks())
        except (fault, ValueError, KeyError, pa.ArrowException) as error:
            reason = "missing" if isinstance(error, FileNotFoundError) else first_line(error)
            raise BuildError(f"{where}: cannot read labels from {shard.name} ({reason}); build it again") from None
    column = pa.chunked_array(parts)
    if len(column) != record.rows:
        raise BuildError(f"{where}: {len(column)} labels in {split}, not {record.rows}; build it again")
    multi_label = entry.task is Task.MULTI_LABEL
    with row_errors(lambda row, what: BuildError(f"{where}: row {row} of {split} holds {what}; build it again")):
        found = labels_of(column, len(entry.labels), multi_label=multi_label)
    values = found.astype(np.bool_ if multi_label else np.intp)
    if hashlib.sha256(np.ascontiguousarray(values, "<i8").tobytes()).hexdigest() != record.labels_sha256:
        raise BuildError(f"{where}: the labels in {split} are not those of its {MANIFEST_NAME}; build it again")
    return Labels(values, where, manifest.source.provenance)


def _from_hub(entry: Subset, size: int, split: str, repository: str | None) -> Labels:
    # Both take a second to import, and those who have the data at hand need neither.
    from huggingface_hub import HfFileSystem

    from medmnist_hf.hub.client import client_errors, limit_waiting, reason_of

    limit_waiting()
    if repository is None:
        from medmnist_hf.catalog import NAMESPACE

        repository = f"{NAMESPACE}/{entry.flag}"
    files = HfFileSystem()

    def opener(name: str) -> BinaryIO:
        file: BinaryIO = files.open(f"datasets/{repository}/{size}/{name}", "rb", block_size=_BLOCK)
        return file

    try:
        with opener(MANIFEST_NAME) as file:
            text = file.read(DOCUMENT_BYTES)
        manifest = _right_one(parse_manifest(text, f"{repository}/{size}"), entry, size, repository)
        return _from_shards(manifest, split, opener, f"{repository} on the Hub")
    except MedMNISTError:
        raise
    except client_errors() as error:
        reason = "no such repository or config" if isinstance(error, FileNotFoundError) else reason_of(error)
        raise SourceError(
            f"cannot read the labels of {repository} at size {size} from the Hub ({reason}): "
            "check the name, the network and your token, or give a local build or NPZ file"
        ) from None


def _from_npz(entry: Subset, size: int, split: str, path: Path) -> Labels:
    official = {file.name for known in subsets() for file in known.files}
    if path.name in official and path.name != entry.file(size).name:
        raise SourceError(f"{path}: labels of {entry.file(size).name} are needed; give that file or its folder")
    values = NpzMembers(path, [f"{NPZ_SPLITS[split]}_labels.npy"]).labels(split, entry)
    official_md5 = entry.file(size).md5
    provenance = Provenance.VERIFIED if _md5_of(path) == official_md5 else Provenance.UNVERIFIED
    multi_label = entry.task is Task.MULTI_LABEL
    return Labels(values.astype(np.bool_) if multi_label else values[:, 0].astype(np.intp), str(path), provenance)


def _md5_of(path: Path) -> str:
    """MD5 of a file, read once for as many prediction files as are scored against it."""
    state = path.stat()
    return _md5_of_state(path.absolute(), state.st_size, state.st_mtime_ns)


@cache
def _md5_of_state(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
