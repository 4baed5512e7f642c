"""Read the features of a split from a store: `medmnist_hf.load_features`, without torch and without Python lists.

Example:
    >>> import medmnist_hf
    >>> model = "timm/vit_small_patch16_224.augreg_in21k"
    >>> features, labels = medmnist_hf.load_features("breastmnist", 28, "test", model=model)  # doctest: +SKIP
    >>> features.shape, features.dtype  # doctest: +SKIP
    ((156, 384), dtype('float32'))
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from medmnist_hf.catalog import Subset, Task, split_name, subset
from medmnist_hf.data.configs import NOT_THE_SHARD, config_at
from medmnist_hf.data.decode import labels_of, row_errors
from medmnist_hf.data.shards import SHARD_ERRORS, check_values, most_labels
from medmnist_hf.embeddings.manifest import REMEDY, StoreManifest
from medmnist_hf.embeddings.stores import check_data, fetch_split, find_store
from medmnist_hf.errors import BuildError, SourceError, cannot_read
from medmnist_hf.files import expand_user, regular_size, sha256_of
from medmnist_hf.manifest import FEATURES, Manifest, Shard
from medmnist_hf.own_code.names import is_code, is_pinned, pin_code
from medmnist_hf.places.names import parse_name
from medmnist_hf.places.resolver import Build, default_roots, find, find_below, resolve_config

DEFAULT_ROOT: Final = "features"
"""Default folder of feature stores, to which ``medmnist-hf embed`` writes."""

_log = logging.getLogger(__name__)


class StoredFeatures(NamedTuple):
    """The features of a split.

    Attributes:
        features: float32 or float16, as stored, of shape ``(N, D)``.
        labels: Class ids, int64 of shape ``(N,)``; for the multi-label task float32 of shape ``(N, L)`` with 0 and 1.
    """

    features: NDArray[Any]
    labels: NDArray[Any]


def load_features(
    name: str,
    size: int | str | None = None,
    split: str = "train",
    root: str | Path = DEFAULT_ROOT,
    *,
    model: str,
    data: str | Path | None = None,
) -> StoredFeatures:
    """Load the features of a split by a model, as ``medmnist-hf embed`` stored them.

    Every file is checked against the digest in the manifest. Features of unverified or synthetic images log a warning.

    Args:
        name: A subset, optionally with a size (``breastmnist``, ``breastmnist-64``).
        size: Edge length of the stored images in pixels or voxels; if None, that of the name, or 28.
        split: ``train``, ``validation`` (or ``val``) or ``test``.
        root: Folder of feature stores, as the ``--out`` of ``medmnist-hf embed``; or a repository on the Hub to which
            the store was pushed, as ``user/name`` or ``user/name@revision``.
        model: Name of the model in a recipe, e.g. ``timm/vit_small_patch16_224.augreg_in21k``. The name of a function
            in a Python file (``my.py:build``) stands for the present version of the file, which is not run.
        data: Build whose images the features must be of, see `medmnist_hf.load`; if None, the local build of the
            subset, if there is one.

    Returns:
        Features and labels, in the order of the images.

    Raises:
        CatalogError: The name, split or size is not valid.
        SourceError: There is no such store, and the message has the command that makes it; or the Hub does not provide
            it.
        BuildError: The store is damaged, or holds features of another model or of other data.
    """
    named, split = parse_name(name), split_name(split)
    if named.entry is None or named.repository is not None or named.path is not None:
        raise SourceError(f"load_features needs the name of a subset, e.g. pathmnist, not {named.text}")
    entry, size = resolve_config(named, size, named.entry)
    assert entry is not None  # that of the name
    number = size or entry.files[0].size
    model = pin_code(model, "model") if is_code(model) and not is_pinned(model) else model
    place = parse_name(root) if isinstance(root, str) and "/" in root else None
    if place is not None and place.repository is not None:
        folder, manifest = fetch_split(place.repository, place.revision, entry, number, model=model, split=split)
    else:
        folder, manifest = find_store(expand_user(root), entry, number, model)
    images = _images(entry, number, data)
    if images is not None:
        check_data(folder, manifest, *images)
    if not manifest.provenance.comparable:
        _log.warning("%s: %s", folder, manifest.provenance.warning)
    return read_split(folder, manifest, split)


def _images(entry: Subset, size: int, data: str | Path | None) -> tuple[Manifest, str] | None:
    """Manifest and name of the build to compare with; None if there is none."""
    if data is not None:
        config = config_at(find(data, size, expected=entry))
        return config.manifest, config.where
    places = (find_below(root, entry, size) for root in default_roots())
    place = next((place for place in places if isinstance(place, Build)), None)
    return None if place is None else (config_at(place).manifest, str(place.folder))


def read_split(folder: Path, manifest: StoreManifest, split: str) -> StoredFeatures:
    """Read a split of a store.

    Raises:
        BuildError: A shard is missing or damaged.
    """
    entry, record = subset(manifest.subset), manifest.splits[split]
    features = np.empty((record.rows, manifest.width), manifest.dtype)
    multi_label = entry.task is Task.MULTI_LABEL
    labels, start = [], 0
    for shard in record.shards:
        path = folder / shard.name
        for values, column in _groups(path, shard, manifest, entry):
            features[start : start + len(values)] = values
            with row_errors(lambda row, what, path=path: _damaged(path, ValueError(f"row {row} holds {what}"))):  # type: ignore[misc]
                labels.append(labels_of(column, len(entry.labels), multi_label=multi_label))
            start += len(values)
    joined = np.concatenate(labels)
    return StoredFeatures(features, joined.astype(np.float32) if multi_label else joined)


def _groups(path: Path, shard: Shard, manifest: StoreManifest, entry: Subset) -> Iterator[tuple[NDArray[Any], Any]]:
    """Features (n, D) and column of labels of each row group of a shard."""
    width = manifest.width
    kind = {"float32": pa.float32(), "float16": pa.float16()}[manifest.dtype]
    try:
        if regular_size(path) != shard.bytes or sha256_of(path) != shard.sha256:
            raise ValueError(NOT_THE_SHARD)
        with pq.ParquetFile(path) as file:
            check_values(file.metadata, shard.rows, {FEATURES: width, "label": most_labels(entry)})
            stored = file.schema_arrow.field(FEATURES).type
            if not pa.types.is_fixed_size_list(stored) or (stored.list_size, stored.value_type) != (width, kind):
                raise ValueError(f"its column {FEATURES} holds {stored}")
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=[FEATURES, "label"], use_threads=False)
                lists = table.column(FEATURES).combine_chunks()
                values = lists.flatten()
                if lists.null_count or values.null_count or len(values) != len(lists) * width:
                    raise ValueError(f"its column {FEATURES} has missing values")
                yield np.from_dlpack(values).reshape(-1, width), table.column("label")
    except SHARD_ERRORS as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> BuildError:
    return BuildError(cannot_read(path, error, REMEDY))
