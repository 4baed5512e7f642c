"""Lossless codecs for images: PNG through imagecodecs, and WebP through Pillow."""

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
"""Encodes ``(n, H, W)`` or ``(n, H, W, 3)`` uint8 images to n files; may be called from several threads at once."""

_PNG_OPTIONS: Final = {"level": 1, "strategy": imagecodecs.PNG.STRATEGY.RLE, "filter": imagecodecs.PNG.FILTER.ALL}
"""All five filters, and runs alone: filtered medical images have hardly any other repeats, so a search for them takes
most of the time of an encoder and finds about nothing. ``scripts/bench/bench_encode.py`` compares it with others."""


def encode_png(images: UInt8Array) -> pa.BinaryArray:
    """Encode images as 8-bit PNG files, losslessly; the bytes depend on the releases of `png_releases` alone.

    Args:
        images: uint8, gray-scale ``(n, H, W)`` or RGB ``(n, H, W, 3)``, C order.

    Returns:
        One file for each image, larger than its pixels by `medmnist_hf.conversion.sharding.ENCODING_OVERHEAD` bytes at
        most.
    """
    return pa.array([imagecodecs.png_encode(image, **_PNG_OPTIONS) for image in images], pa.binary())


def png_releases() -> dict[str, str]:
    """The releases that shape the bytes of `encode_png`; a wheel of imagecodecs may load the zlib of the system."""
    loaded = dict(text.split(" ", 1) for text in (imagecodecs.png_version(), imagecodecs.zlib_version()))
    return {"imagecodecs": imagecodecs.__version__, **loaded}


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
    """How the ``image`` column of a row group is made: blocks of rows are encoded in a pool, then joined."""

    def encode(self, block: UInt8Array) -> Any:
        """Turn a block of rows into a part of the column; may be called from several threads at once."""

    def join(self, parts: list[Any]) -> pa.Array:
        """The column made of the parts of one row group, in order."""


@dataclass(frozen=True, slots=True)
class EncodedImages:
    """Images as files, in the layout of `datasets.Image`: structs of ``bytes`` and an empty ``path``."""

    encode: Encoder

    def join(self, parts: list[pa.BinaryArray]) -> pa.Array:
        """The files of all parts."""
        files = pa.concat_arrays(parts)
        return pa.StructArray.from_arrays([files, pa.nulls(len(files), pa.string())], ["bytes", "path"])


@dataclass(frozen=True, slots=True)
class VolumeArrays:
    """Volumes as nested lists, in the layout of `datasets.Array3D`, made from the buffer without Python objects.

    Attributes:
        shape: ``(D, H, W)`` of one volume.
    """

    shape: tuple[int, ...]

    def encode(self, block: UInt8Array) -> UInt8Array:
        """The block as it is."""
        return block

    def join(self, parts: list[UInt8Array]) -> pa.Array:
        """The voxels of all parts."""
        column = pa.array(np.concatenate(parts).reshape(-1))
        # The innermost lists hold one row of voxels each, the next ones a slice, the outermost a volume.
        for width in reversed(self.shape):
            offsets = np.arange(0, len(column) + 1, width, dtype=np.int32)
            column = pa.ListArray.from_arrays(pa.array(offsets), column)
        return pa.ExtensionArray.from_storage(Array3DExtensionType(self.shape, "uint8"), column)


def encoder(codec: str, channels: int) -> Encoder:
    """The encoder that a codec names, for images of so many channels.

    Raises:
        BuildError: There is no such codec, or it cannot hold these images.
    """
    if codec not in _ENCODERS:
        raise BuildError(f"unknown codec {codec!r}: choose from {', '.join(_ENCODERS)}")
    if codec == "webp" and channels != 3:
        raise BuildError("--codec webp is for RGB subsets: WebP stores no gray-scale, use --codec png")
    return _ENCODERS[codec]


def image_column(subset: Subset, size: int, codec: str) -> ImageColumn:
    """How rows of a subset are stored by a codec, ``png`` or ``webp`` for images; volumes are arrays under any.

    Raises:
        BuildError: As `encoder`.
    """
    if subset.ndim == 3:
        return VolumeArrays(subset.file(size).image_shape)
    return EncodedImages(encoder(codec, subset.channels))
