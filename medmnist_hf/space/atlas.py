"""Atlases: the features of images by a model, projected to a plane, with a small picture of each image."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.data.configs import config_at
from medmnist_hf.data.rows import BuiltRows
from medmnist_hf.embeddings.manifest import StoreManifest
from medmnist_hf.embeddings.reading import read_split
from medmnist_hf.embeddings.stores import check_data
from medmnist_hf.errors import BuildError, ScoreError, shorten
from medmnist_hf.extras import import_member
from medmnist_hf.places.resolver import Build
from medmnist_hf.space.pictures import PictureFiles, hot_labels, label_lists, middle_slices, picture_files, sprite

PROJECTIONS: Final = ("pca", "tsne")
"""How features are projected: on the two main axes, or by t-SNE of scikit-learn."""

POINTS: Final = 1000
"""Number of images in an atlas unless the user gives another."""

_TILE: Final = 32
"""Largest edge length of the picture of a point, in pixels."""

_DECIMALS: Final = 4


def draw_atlas(
    folder: Path, manifest: StoreManifest, place: Build, split: str, *, points: int = POINTS, projection: str = "pca"
) -> PictureFiles:
    """Project the stored features of a split and draw its images.

    Args:
        folder: Folder of the store.
        manifest: Its manifest.
        place: The build with its images.
        split: Name of the split.
        points: Largest number of rows, which are spread evenly over the split.
        projection: ``pca``, or ``tsne``, which needs scikit-learn and takes seconds per 1,000 points.

    Raises:
        CatalogError: Unknown split.
        BuildError: The store is damaged, holds features of other images, or has fewer than three different rows.
        ScoreError: The projection is unknown.
        MissingModuleError: scikit-learn is needed and not installed.
    """
    if projection not in PROJECTIONS:
        raise ScoreError(f"unknown projection {shorten(projection)}: choose from {', '.join(PROJECTIONS)}")
    config = config_at(place)
    check_data(folder, manifest, config.manifest, config.where)
    rows = BuiltRows(config)
    features = read_split(folder, manifest, split).features
    chosen = np.arange(min(points, len(features))) * len(features) // min(points, len(features))
    plane, shares = project(features[chosen], projection, str(folder))
    facts: dict[str, Any] = {
        "model": manifest.model.id,
        "split": split,
        "split_rows": len(features),
        "projection": projection,
        "shares": [round(share, _DECIMALS) for share in shares],
        "rows": chosen.tolist(),
        "labels": label_lists(hot_labels(rows, split)[chosen]),
        "x": plane[:, 0].round(_DECIMALS).tolist(),
        "y": plane[:, 1].round(_DECIMALS).tolist(),
    }
    sheet = sprite(_thumbnails(rows.sample(split, chosen)))
    return picture_files(rows, config.manifest.source.provenance, facts, sheet, model=manifest.model.id)


def project(features: NDArray[Any], projection: str, where: str) -> tuple[NDArray[np.float64], list[float]]:
    """Project features to a plane.

    Args:
        features: Shape ``(N, D)``.
        projection: ``pca`` or ``tsne``.
        where: Name of the features in an error.

    Returns:
        Coordinates of shape ``(N, 2)``, -1 to 1 in the longer direction, and the shares of the variance that the two
        main axes explain; no shares for t-SNE.

    Raises:
        BuildError: There are fewer than three different rows, or values that are not finite.
    """
    values = features.astype(np.float64)
    values -= values.mean(axis=0)
    if not np.isfinite(values).all() or len(np.unique(values, axis=0)) < 3:
        raise BuildError(f"cannot draw an atlas of {where}: it needs three different rows of finite features")
    left, singular, axes = np.linalg.svd(values, full_matrices=False)
    plane = np.zeros((len(values), 2))
    count = min(2, len(singular))
    # The sign of an axis is arbitrary: its largest weight is made positive.
    signs = np.sign(axes[np.arange(count), np.abs(axes[:count]).argmax(axis=1)])
    plane[:, :count] = left[:, :count] * singular[:count] * signs
    shares = (singular[:count] ** 2 / (singular**2).sum()).tolist()
    if projection == "tsne":
        plane = _tsne(left[:, :50] * singular[:50])
        shares = []
    plane -= (plane.min(axis=0) + plane.max(axis=0)) / 2
    return plane / np.abs(plane).max(), shares


def _tsne(values: NDArray[np.float64]) -> NDArray[np.float64]:
    method = import_member("sklearn.manifold", "TSNE", "train")
    perplexity = min(30.0, (len(values) - 1) / 3)
    plane = method(init="pca", perplexity=perplexity, random_state=0).fit_transform(values)
    return np.asarray(plane, np.float64)


def _thumbnails(pixels: UInt8Array) -> UInt8Array:
    """Images, or a slice per volume, reduced to at most 32 pixels."""
    images = middle_slices(pixels) if pixels.ndim == 4 and pixels.shape[-1] != 3 else pixels
    factor = -(-images.shape[1] // _TILE)
    if factor == 1:
        return images
    return np.stack([np.asarray(PIL.Image.fromarray(image).reduce(factor)) for image in images])
