"""`pixel_statistics`: mean and standard deviation of the pixels of a split, for normalization."""

from pathlib import Path
from typing import Final

from medmnist_hf.catalog import split_name
from medmnist_hf.data.arrays import arrays_at
from medmnist_hf.data.configs import config_at
from medmnist_hf.places.resolver import NpzFile, find
from medmnist_hf.statistics.recorded import recorded_statistics
from medmnist_hf.statistics.sums import PixelCounter, PixelSums

_ROWS: Final = 256
"""Rows counted at a time."""


def pixel_statistics(
    name: str | Path,
    size: int | str | None = None,
    split: str = "train",
    root: str | Path | None = None,
    *,
    revision: str | None = None,
) -> PixelSums:
    """Look up or compute the mean and standard deviation of the pixels of a split.

    They are read from the build's manifest, without decoding an image. For builds made before manifests held them, and
    for NPZ files, they are those recorded for the official file; if none are, they are computed from all rows.

    Args:
        name: As for `medmnist_hf.load_arrays`.
        size: Edge length in pixels or voxels; if None, that of the name, or 28.
        split: Name of the split. Normalize all splits by the statistics of ``train``, the default.
        root: As for `medmnist_hf.load_arrays`.
        revision: As for `medmnist_hf.load_arrays`.

    Returns:
        Exact sums, with the properties ``mean`` and ``std``: tuples of one value or, for RGB, three, in units of 0..1.
        The standard deviation is that of the population, as `numpy.std` computes it.

    Raises:
        CatalogError: The name, split or size is not valid.
        SourceError: No such data exists.
        BuildError: The build is damaged.
        ReadError: The NPZ file is damaged.

    Example:
        >>> from medmnist_hf import pixel_statistics
        >>> pixel_statistics("breastmnist", 28).mean  # doctest: +SKIP
        (0.3275779171289657,)
    """
    split = split_name(split)
    place = find(name, size, root=root, revision=revision, npz=True)
    if isinstance(place, NpzFile):
        from medmnist_hf.data.npz_reader import md5_of

        md5 = md5_of(place.path)
    else:
        manifest = config_at(place).manifest
        if (pixels := manifest.splits[split].pixels) is not None:
            return pixels
        md5 = manifest.source.md5
    if (recorded := recorded_statistics(md5)) is not None:
        return recorded.splits[split].pixels
    images = arrays_at(place, split).images
    counter = PixelCounter(3 if images.ndim == 4 and images.shape[-1] == 3 else 1)
    for start in range(0, len(images), _ROWS):
        counter.add(images[start : start + _ROWS])
    return counter.sums()
