"""Lossless image codecs: PNG with imagecodecs, and WebP with Pillow."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import imagecodecs
import numpy as np
import pyarrow as pa
from datasets.features.features import Array3DExtensionType
from PIL import Image

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import Subset
from medmnist_hf.errors import BuildError

Encoder = Callable[[UInt8Array], pa.BinaryArray]
"""Encodes ``(n, H, W)`` or ``(n, H, W, 3)`` uint8 images to n files; must be thread-safe."""

_PNG_OPTIONS: Final = {"level": 1, "strategy": imagecodecs.PNG.STRATEGY.RLE, "filter": imagecodecs.PNG.FILTER.ALL}
"""All five filters with run-length matching only: filtered medical images have hardly any other repeats, and searching
for them would take most of the encoding time. ``scripts/bench/bench_encode.py`` compares these options with others."""


def encode_png(images: UInt8Array) -> pa.BinaryArray:
    """Encode images losslessly as 8-bit PNG files.

    Args:
        images: uint8, grayscale ``(n, H, W)`` or RGB ``(n, H, W, 3)``, C order.

    Returns:
        One file per image, at most `medmnist_hf.conversion.sharding.ENCODING_OVERHEAD` bytes larger than its pixels.
        For given pixels, the bytes depend only on the library versions in `png_releases`.
    """
    return pa.array([imagecodecs.png_encode(image, **_PNG_OPTIONS) for image in images], pa.binary())


def png_releases() -> dict[str, str]:
    """Versions of the libraries that determine the bytes of `encode_png`.

    The zlib version is read at run time, because a wheel of imagecodecs may load the system's zlib.
    """
    linked = dict(text.split(" ", 1) for text in (imagecodecs.png_version(), imagecodecs.zlib_version()))
    return {"imagecodecs": imagecodecs.__version__, **linked}


def encode_webp(images: UInt8Array) -> pa.BinaryArray:
    """Encode RGB images ``(n, H, W, 3)`` as lossless WebP files."""
    files = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "WEBP", lossless=True, quality=0, method=0)
        files.append(buffer.getvalue())
    return pa.array(files, pa.binary())


_ENCODERS: Final[dict[str, Encoder]] = {"png": encode_png, "webp": encode_webp}


class ImageColumn(Protocol):
    """Builds the ``image`` column of a row group: a pool encodes blocks of rows, which are then joined."""

    def encode(self, block: UInt8Array) -> Any:
        """Encode a block of rows as a part of the column; must be thread-safe."""

    def join(self, parts: list[Any]) -> pa.Array:
        """Join the parts of one row group, in order, to a column."""


@dataclass(frozen=True, slots=True)
class EncodedImages:
    """Images as files, in the layout of `datasets.Image`: structs of ``bytes`` and an empty ``path``."""

    encode: Encoder

    def join(self, parts: list[pa.BinaryArray]) -> pa.Array:
        """Join the files of all parts."""
        files = pa.concat_arrays(parts)
        return pa.StructArray.from_arrays([files, pa.nulls(len(files), pa.string())], ["bytes", "path"])


@dataclass(frozen=True, slots=True)
class VolumeArrays:
    """Volumes as nested lists, in the layout of `datasets.Array3D`, built from a buffer without Python objects.

    Attributes:
        shape: ``(D, H, W)`` of one volume.
    """

    shape: tuple[int, ...]

    def encode(self, block: UInt8Array) -> UInt8Array:
        """Return the block unchanged."""
        return block

    def join(self, parts: list[UInt8Array]) -> pa.Array:
        """Join the voxels of all parts."""
        column = pa.array(np.concatenate(parts).reshape(-1))
        # Innermost lists are rows of voxels, the next level is slices, the outermost is volumes.
        for width in reversed(self.shape):
            offsets = np.arange(0, len(column) + 1, width, dtype=np.int32)
            column = pa.ListArray.from_arrays(pa.array(offsets), column)
        return pa.ExtensionArray.from_storage(Array3DExtensionType(self.shape, "uint8"), column)


def encoder(codec: str, channels: int) -> Encoder:
    """Look up the encoder of a codec, for images with a number of channels.

    Raises:
        BuildError: The codec is unknown, or cannot store these images.
    """
    if codec not in _ENCODERS:
        raise BuildError(f"unknown codec {codec!r}: choose from {', '.join(_ENCODERS)}")
    if codec == "webp" and channels != 3:
        raise BuildError("--codec webp is for RGB subsets, since WebP has no grayscale mode: use --codec png")
    return _ENCODERS[codec]


def image_column(subset: Subset, size: int, codec: str) -> ImageColumn:
    """Choose the column type for the images of a subset.

    Args:
        subset: A subset of the catalog.
        size: One of its sizes.
        codec: ``png`` or ``webp`` for images; ignored for volumes, which are always arrays.

    Raises:
        BuildError: The codec is unknown, or cannot store these images.
    """
    if subset.ndim == 3:
        return VolumeArrays(subset.file(size).image_shape)
    return EncodedImages(encoder(codec, subset.channels))
