"""The builder of the 12 subsets of images: ``image`` is a losslessly encoded PNG or WebP file."""

from typing import Any

import pyarrow as pa

from builders.base import MedMNISTBuilder, configs
from builders.encode import encoder
from builders.npz import UInt8Array


class MedMNIST2D(MedMNISTBuilder):
    """Images of shape ``(H, W)`` or ``(H, W, 3)``, uint8, as ``Image(mode="L")`` or ``Image(mode="RGB")``.

    Raises:
        BuildError: The config asks for a codec that is unknown or cannot hold these images.
    """

    BUILDER_CONFIGS = configs(ndim=2)

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (the signature is that of datasets)
        super().__init__(*args, **kwargs)
        self._encoder = encoder(self.config.codec, self.subset.channels)

    def _encode(self, block: UInt8Array) -> pa.BinaryArray:
        return self._encoder(block)

    def _image_column(self, parts: list[pa.BinaryArray]) -> pa.Array:
        files = pa.concat_arrays(parts)
        return pa.StructArray.from_arrays([files, pa.nulls(len(files), pa.string())], ["bytes", "path"])
