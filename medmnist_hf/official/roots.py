"""Find, download and read the data below a ``root``: NPZ files, builds, or repositories on the Hub."""

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import NAMESPACE, NPZ_SPLITS, Subset, split_name
from medmnist_hf.errors import CatalogError, SourceError, shorten
from medmnist_hf.files import expand_user
from medmnist_hf.official.errors import ArgumentError, RootError
from medmnist_hf.official.info import DEFAULT_ROOT, get_default_root
from medmnist_hf.places.folders import is_file
from medmnist_hf.places.resolver import Build, NpzFile, Place, Repository, find_below

if TYPE_CHECKING:
    from medmnist_hf.data.configs import BuiltConfig

Root = str | Path | None

ON_HUB: Final = f"hf://datasets/{NAMESPACE}"
"""The root that stands for the repositories of the subsets on the Hub."""

_HUB: Final = re.compile(r"hf://datasets/(?P<namespace>[\w.-]+)(?:/|@(?P<revision>[^@]*[^@/]))?", re.ASCII)
_BAR_AFTER: Final = 2.0
"""Seconds after which a progress bar appears."""

_log = logging.getLogger(__name__)


def check_split(split: str) -> str:
    """Return a valid split, ``train``, ``val`` or ``test``; raises `ArgumentError` for any other value."""
    if split not in NPZ_SPLITS.values():
        raise ArgumentError(f"unknown split {shorten(split)}: choose from {', '.join(NPZ_SPLITS.values())}")
    return split


def check_size(entry: Subset, size: int | str | None) -> int:
    """Return a size that the subset has, 28 for None; raises `ArgumentError` for any other value."""
    try:
        return entry.files[0].size if size is None else entry.file(size).size
    except CatalogError as error:
        raise ArgumentError(error) from None


def find_data(entry: Subset, size: int, root: Root, *, download: bool = False) -> Place:
    """Find a subset in one size below a root.

    Args:
        entry: The subset.
        size: One of its sizes.
        root: A folder, in which the NPZ file is looked up first and a build second; or `ON_HUB`, optionally with
            another namespace and a revision (``hf://datasets/you@v1``), for the repository of that namespace.
        download: Download the official file to the folder, unless it has one with the right MD5.

    Raises:
        RootError: There is no such folder or data set, or the download failed.
        BuildError: A manifest cannot be read.
    """
    if root is None:
        raise RootError(f"root is None: name a folder of NPZ files or of builds, or {ON_HUB}")
    text = os.fspath(root)
    if text.startswith("hf://"):
        match = _HUB.fullmatch(text)
        if match is None:
            raise RootError(f"root {shorten(text)} is not valid: for the Hub, write {ON_HUB} or {ON_HUB}@revision")
        return Repository(entry, size, f"{match['namespace']}/{entry.flag}", match["revision"])
    folder = expand_user(root)
    if download:
        fetch(entry, size, Path(get_default_root()) if text == DEFAULT_ROOT else folder)
    file = folder / entry.file(size).name
    if is_file(file):
        return NpzFile(entry, size, file)
    if build := find_below(folder, entry, size):
        return build
    if not folder.is_dir() and text != DEFAULT_ROOT:
        raise RootError(f"no folder {folder}: create it, or name another root")
    raise RootError(
        f"neither {file.name} nor a build of {entry.flag} at size {size} in {folder}: pass download=True to "
        f"{entry.python_class}, or name another root ({ON_HUB} for the Hub)"
    )


def fetch(entry: Subset, size: int, folder: Path) -> None:
    """Download an official file: resumed after an interruption, checked by its MD5, and only then under its name.

    ``MEDMNIST_ENDPOINT`` replaces ``https://zenodo.org``. A file with the right MD5 is not downloaded again.

    Args:
        entry: The subset.
        size: One of its sizes.
        folder: An existing folder.

    Raises:
        RootError: There is no such folder, or the file cannot be downloaded or written.
    """
    from huggingface_hub import utils

    from medmnist_hf.conversion.sources.source import open_source

    if not folder.is_dir():
        raise RootError(f"no folder {folder}: create it, or name another root")
    file = entry.file(size)
    bars: Any = utils  # its stubs do not export tqdm
    source = open_source("zenodo", cache_dir=folder, remedy=f"or copy the file to {folder}")
    with bars.tqdm(desc=f"downloading {file.name}", unit="B", unit_scale=True, delay=_BAR_AFTER) as bar:

        def on_bytes(received: int, total: int | None) -> None:
            bar.total = total
            bar.update(received - bar.n)

        try:
            source.fetch(entry, size, on_bytes=on_bytes)
        except SourceError as error:
            raise RootError(error) from None


def read_split(place: Place, split: str, mmap_mode: str | None) -> tuple[UInt8Array, UInt8Array]:
    """Read a split as the official file holds it; data that is not that of the official file logs a warning.

    Args:
        place: From `find_data`.
        split: ``train``, ``val`` or ``test``.
        mmap_mode: ``"r"`` maps the images from the cache of decoded arrays, read-only; ``"c"`` likewise, where writing
            changes this process's copy. None reads an NPZ file into memory; for a build it is like ``"c"``.

    Returns:
        Images, uint8 of shape ``(N, *shape of a row)``, and labels, uint8 of shape ``(N, 1)`` or ``(N, L)``.

    Raises:
        ArgumentError: `mmap_mode` is not valid.
        SourceError: The data cannot be fetched, or is another subset.
        ReadError: The NPZ file is damaged.
        BuildError: A shard is missing or damaged.
        MedMNISTError: Memory or the cache is too small.
    """
    from medmnist_hf.data.arrays import arrays_at, read_arrays

    if mmap_mode not in {None, "r", "c"}:
        raise ArgumentError(f"mmap_mode {shorten(mmap_mode)} is not valid: choose r or c, which never change the file")
    if isinstance(place, NpzFile):
        images, targets = arrays_at(place, split, cache=mmap_mode is not None)
    else:
        images, targets = read_arrays(_config_at(place), split)
    if mmap_mode == "r":
        images = remap(*mapping_of(images))
    return images, targets.astype(np.uint8).reshape(len(targets), -1)


Mapping = tuple[str, int, tuple[int, ...]]
"""Where a mapped array is: file, offset in bytes, and shape."""


def mapping_of(images: NDArray[Any]) -> Mapping:
    """Where the images of `read_split` are mapped from."""
    assert isinstance(images, np.memmap)
    return str(images.filename), images.offset, images.shape


def remap(file: str, offset: int, shape: tuple[int, ...]) -> UInt8Array:
    """Map images read-only."""
    return np.memmap(file, np.uint8, "r", offset, shape)


def read_labels(place: Place, split: str) -> UInt8Array:
    """Read only the labels of a split; arguments, result and errors are those of `read_split`.

    Of an NPZ file only their number is compared with that of the official file.
    """
    from medmnist_hf.data.npz_members import NpzMembers
    from medmnist_hf.data.rows import BuiltRows

    name = split_name(split)
    if not isinstance(place, NpzFile):
        return BuiltRows(_config_at(place)).labels(name)
    labels = NpzMembers(place.path, [f"{split}_labels.npy"]).labels(name, place.entry)
    if len(labels) != place.entry.counts[name]:
        _log.warning(
            "%s: %s has %d rows, but the official file has %d",
            place.path,
            split,
            len(labels),
            place.entry.counts[name],
        )
    return labels


def _config_at(place: Build | Repository) -> "BuiltConfig":
    """Open a build or a repository."""
    from medmnist_hf.data.configs import config_at

    try:
        config = config_at(place)
    except SourceError as error:
        raise RootError(error) from None
    provenance = config.manifest.source.provenance
    if not provenance.comparable:
        _log.warning("%s: %s", config.where, provenance.warning)
    return config
