"""The labels of a split, from a local build, from the Hub or from an official NPZ file.

Images are not read: a Parquet reader fetches the label column only, and members of an NPZ file are found by name.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from medmnist_hf.catalog import NPZ_SPLITS, Subset, Task, split_name, subset
from medmnist_hf.data.decode import labels_of, row_errors
from medmnist_hf.data.npz_members import NpzMembers
from medmnist_hf.data.npz_reader import provenance_of
from medmnist_hf.data.shards import check_footer
from medmnist_hf.errors import BuildError, MedMNISTError, SourceError, cannot_read, first_line
from medmnist_hf.files import DOCUMENT_BYTES, open_regular
from medmnist_hf.manifest import MANIFEST_NAME, Manifest, Provenance, parse_manifest, read_manifest
from medmnist_hf.places.resolver import NpzFile, Repository, find

_BLOCK: Final = 1 << 18
"""Bytes per request to the Hub; the label column of a row group is far smaller."""

_Opener = Callable[[str], BinaryIO]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The labels of one split.

    Attributes:
        values: Class ids, intp of shape ``(N,)``; for the multi-label task findings, bool of shape ``(N, L)``.
        origin: Human-readable description of where they were read.
        provenance: Provenance of the data: for a build from its manifest, for an NPZ file from its MD5.
    """

    values: npt.NDArray[Any]
    origin: str
    provenance: Provenance


def read_labels(
    flag: str, size: int | str, split: str, data: str | Path | None = None, *, root: str | Path | None = None
) -> Labels:
    """Read the labels of a split in row order, without its images.

    Args:
        flag: Flag of the subset.
        size: One of its sizes.
        split: ``train``, ``validation`` (or ``val``) or ``test``.
        data: Name of the data set, see `medmnist_hf.places.names.parse_name`, or an NPZ file of any name; None to
            look up the subset by its flag.
        root: Folder of builds or of NPZ files in which a flag is looked up. By default the folder of
            ``MEDMNIST_DATA``, ``dist``, the cache of builds, then the Hub.

    Raises:
        CatalogError: The subset or split is unknown, or the subset does not have the size.
        SourceError: The data are missing, cannot be reached or are of another subset.
        BuildError: The build is damaged.
        ReadError: The NPZ file is damaged or has no such labels.
    """
    entry = subset(flag)
    size = entry.file(size).size
    split = split_name(split)
    place = find(entry.flag if data is None else data, size, root=root, expected=entry, npz=True)
    try:
        if isinstance(place, NpzFile):
            return _from_npz(place, split)
        if isinstance(place, Repository):
            return _from_hub(place, entry, split)
        where = str(place.folder)
        manifest = _check_config(read_manifest(place.folder), entry, size, where)
        return _from_shards(manifest, split, partial(_open_local, place.folder), where, OSError)
    except OSError as error:
        raise SourceError(cannot_read(data or root or entry.flag, error, "check the path and permissions")) from None


def _open_local(folder: Path, name: str) -> BinaryIO:
    return open_regular(folder / name)


def _check_config(manifest: Manifest, entry: Subset, size: int, where: str) -> Manifest:
    if (manifest.subset, manifest.size) != (entry.flag, size):
        raise SourceError(
            f"{where}: a build of {manifest.subset} at size {manifest.size}, not of {entry.flag} at size {size}; "
            "pass the data of the prediction file"
        )
    return manifest


def _from_shards(
    manifest: Manifest, split: str, opener: _Opener, where: str, fault: type[OSError] = FileNotFoundError
) -> Labels:
    """Read the labels of a split from its shards.

    An exception of type `fault` means a bad shard. On the Hub other OSErrors come from the network.
    """
    record = manifest.splits[split]
    entry, parts = subset(manifest.subset), []
    for shard in record.shards:
        try:
            with opener(shard.name) as file:
                parquet = pq.ParquetFile(file, pre_buffer=False)  # its threads outlive an error, and abort the exit
                check_footer(parquet.metadata, shard.rows, entry, manifest.size)
                parts.append(parquet.read(columns=["label"], use_threads=False)["label"].combine_chunks())
        except (fault, ValueError, KeyError, pa.ArrowException) as error:
            reason = "missing" if isinstance(error, FileNotFoundError) else first_line(error)
            raise BuildError(f"{where}: cannot read labels from {shard.name} ({reason}); build it again") from None
    column = pa.chunked_array(parts)
    if len(column) != record.rows:
        raise BuildError(f"{where}: {len(column)} labels in {split}, not {record.rows}; build it again")
    multi_label = entry.task is Task.MULTI_LABEL
    with row_errors(lambda row, what: BuildError(f"{where}: row {row} of {split} holds {what}; build it again")):
        labels = labels_of(column, len(entry.labels), multi_label=multi_label)
    values = labels.astype(np.bool_ if multi_label else np.intp)
    if hashlib.sha256(np.ascontiguousarray(values, "<i8").tobytes()).hexdigest() != record.labels_sha256:
        raise BuildError(f"{where}: the labels in {split} do not match its {MANIFEST_NAME}; build it again")
    return Labels(values, where, manifest.source.provenance)


def _from_hub(place: Repository, entry: Subset, split: str) -> Labels:
    # Both take a second to import and are not needed for local data.
    from huggingface_hub import HfFileSystem

    from medmnist_hf.hub.client import apply_hub_limits, client_errors, reason_of

    apply_hub_limits()
    files, config = HfFileSystem(), place.config

    def opener(name: str) -> BinaryIO:
        path = f"datasets/{place.repo_id}/{config}/{name}"
        file: BinaryIO = files.open(path, "rb", block_size=_BLOCK, revision=place.revision)
        return file

    try:
        with opener(MANIFEST_NAME) as file:
            text = file.read(DOCUMENT_BYTES)
        manifest = _check_config(parse_manifest(text, f"{place.where}/{config}"), entry, place.size, place.where)
        return _from_shards(manifest, split, opener, f"{place.where} on the Hub")
    except MedMNISTError:
        raise
    except client_errors() as error:
        reason = "no such repository or config" if isinstance(error, FileNotFoundError) else reason_of(error)
        what = f"read the labels of {place.where} at size {config} from the Hub"
        raise place.unreachable(what, reason) from None


def _from_npz(place: NpzFile, split: str) -> Labels:
    values = NpzMembers(place.path, [f"{NPZ_SPLITS[split]}_labels.npy"]).labels(split, place.entry)
    multi_label = place.entry.task is Task.MULTI_LABEL
    return Labels(
        values.astype(np.bool_) if multi_label else values[:, 0].astype(np.intp), str(place.path), provenance_of(place)
    )
