"""A whole split as two numpy arrays, decoded once and cached: pixels mapped from disk, labels in memory.

Example:
    >>> import medmnist_hf
    >>> images, labels = medmnist_hf.load_arrays("pathmnist", 224, "train", root="dist")  # doctest: +SKIP
    >>> images.shape, images.dtype, labels.dtype  # doctest: +SKIP
    ((89996, 224, 224, 3), dtype('uint8'), dtype('int64'))
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medmnist_hf.catalog import Task, split_name
from medmnist_hf.data.array_cache import LAYOUT, Decode, Spec, fetch, is_kept
from medmnist_hf.data.configs import BuiltConfig, config_at
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.places.resolver import NpzFile, Place

_log = logging.getLogger(__name__)

_BAR_AFTER: Final = 2.0
"""Seconds after which a progress bar appears."""

# `datasets` and `pyarrow` are imported only for decoding, so a cached split does not wait for them.


class Arrays(NamedTuple):
    """A split.

    Attributes:
        images: uint8 of shape ``(N, H, W)``, ``(N, H, W, 3)`` or ``(N, D, H, W)``.
        labels: Class ids, int64 of shape ``(N,)``; for the multi-label task float32 of shape ``(N, L)`` with 0 and 1,
            the only dtype in which the binary cross-entropies of torch take targets.
    """

    images: NDArray[np.uint8]
    labels: NDArray[Any]


def arrays_at(place: Place, split: str, *, cache_dir: str | Path | None = None, cache: bool = True) -> Arrays:
    """Load a split from a place that `medmnist_hf.places.resolver.find` returned; see `medmnist_hf.load_arrays`."""
    if isinstance(place, NpzFile):
        return _read_npz(place, split_name(split), cache_dir, cache=cache)
    return read_arrays(config_at(place), split, cache_dir=cache_dir, cache=cache)


def _read_npz(place: NpzFile, split: str, cache_dir: str | Path | None, *, cache: bool) -> Arrays:
    from medmnist_hf.data.npz_reader import md5_of
    from medmnist_hf.data.rows import NpzRows

    rows = NpzRows(place)
    if not rows.provenance.comparable:
        _log.warning("%s: %s", place.path, rows.provenance.warning)
    entry, count = place.entry, rows.count(split)
    spec = Spec(
        key=_key("npz", entry.flag, place.size, split, md5_of(place.path)),
        name=entry.flag,
        split=split,
        shape=(count, *rows.shape),
        label_shape=(count, len(entry.labels)) if entry.task is Task.MULTI_LABEL else (count,),
    )
    return _arrays(spec, lambda: (rows.images(split), rows.targets(split)), cache_dir, cache=cache)


def read_arrays(config: BuiltConfig, split: str, *, cache_dir: str | Path | None = None, cache: bool = True) -> Arrays:
    """Load a split of an open config, which guarantees that several splits come from the same build.

    Arguments and errors as in `medmnist_hf.load_arrays`.
    """
    split = split_name(split)
    return _arrays(_spec(config, split), partial(_decode_build, config, split), cache_dir, cache=cache)


def check_split(config: BuiltConfig, split: str, *, cache_dir: str | Path | None = None) -> None:
    """Check cheaply that `read_arrays` will find a split: in the cache, or in files of the right sizes.

    Raises:
        CatalogError: Unknown split.
        BuildError: A file of a local build is missing or has another size than in the manifest.
        MedMNISTError: Its cache entry cannot be opened.
    """
    split = split_name(split)
    if not is_kept(_spec(config, split), cache_dir):
        config.check_files(split)


def _spec(config: BuiltConfig, split: str) -> Spec:
    entry, record = config.entry, config.split(split)
    multi_label = entry.task is Task.MULTI_LABEL
    return Spec(
        key=_key("build", entry.flag, config.size, split, [shard.sha256 for shard in record.shards]),
        name=entry.flag,
        split=split,
        shape=(record.rows, *entry.file(config.size).image_shape),
        label_shape=(record.rows, len(entry.labels)) if multi_label else (record.rows,),
    )


def to_arrays(dataset: Any, *, cache_dir: str | Path | None = None, cache: bool = True) -> Arrays:
    """Convert a data set with the columns ``image`` and ``label`` to arrays, in its row order.

    It may be filtered, shuffled, concatenated or sorted; a format or transform set on it is ignored. Cached arrays are
    identified by its fingerprint, as `datasets` identifies the results of `map`. Pass ``cache=False`` if the
    fingerprint is random, as after a `map` with a function that cannot be hashed.

    Args:
        dataset: A `datasets.Dataset` whose images all have the same shape.
        cache_dir: Folder of the decoded files; that of ``MEDMNIST_ARRAYS`` or ``HF_HOME/medmnist-hf/arrays`` if None.
        cache: False decodes into memory and writes nothing.

    Returns:
        The rows in the order of the data set; cached images as from `load_arrays`.

    Raises:
        SourceError: It is not such a data set, has no rows, or a row holds something else.
        MedMNISTError: The cache is full or not writable.
    """
    from medmnist_hf.data.columns import Columns

    columns = Columns(dataset)
    spec = Spec(
        key=_key("dataset", columns.fingerprint, columns.features, columns.shape),
        name=columns.name,
        split=columns.split,
        shape=columns.shape,
        label_shape=columns.label_shape,
    )
    return _arrays(spec, columns.decode, cache_dir, cache=cache)


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps([LAYOUT, *parts]).encode()).hexdigest()


def _decode_build(config: BuiltConfig, split: str) -> tuple[Iterator[NDArray[np.uint8]], NDArray[Any]]:
    from medmnist_hf.data.rows import BuiltRows

    rows = BuiltRows(config)
    return rows.images(split), rows.targets(split)


def _arrays(spec: Spec, decode: Decode, cache_dir: str | Path | None, *, cache: bool) -> Arrays:
    decode_with_progress = partial(_decode_with_progress, spec, decode)
    return Arrays(*(fetch(spec, decode_with_progress, cache_dir) if cache else _in_memory(spec, decode_with_progress)))


def _decode_with_progress(spec: Spec, decode: Decode) -> tuple[Iterator[NDArray[np.uint8]], NDArray[Any]]:
    """Decode, with a progress bar if that takes long."""
    from huggingface_hub import utils

    bars: Any = utils  # its stubs do not export tqdm
    images, labels = decode()

    def blocks() -> Iterator[NDArray[np.uint8]]:
        with bars.tqdm(total=spec.shape[0], desc=f"decoding {spec}", unit="row", delay=_BAR_AFTER) as bar:
            for block in images:
                yield block
                bar.update(len(block))

    return blocks(), labels


def _in_memory(spec: Spec, decode: Decode) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    try:
        images = np.empty(spec.shape, np.uint8)
    except MemoryError:
        raise MedMNISTError(
            f"not enough memory for {spec}, which takes {spec.bytes / 1e6:,.1f} MB: leave out cache=False"
        ) from None
    blocks, labels = decode()
    row = 0
    for block in blocks:
        images[row : row + len(block)] = block
        row += len(block)
    return images, labels.astype(spec.label_dtype)
