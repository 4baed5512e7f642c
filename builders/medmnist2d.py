"""The builder of the 12 subsets of images: ``image`` is a losslessly encoded PNG or WebP file."""

from functools import cache
from typing import Any, cast

import pyarrow as pa

from builders.base import MedMNISTBuilder, configs
from builders.encode import ENCODERS, Codec, Encoder
from builders.npz import UInt8Array
from medmnist_hf.errors import BuildError


@cache
def _encoder(codec: str, image_shape: tuple[int, ...]) -> Encoder:
    # Not an attribute of the builder: it has buffers for each thread, and `datasets` pickles builders for `num_proc`.
    return ENCODERS[cast(Codec, codec)](image_shape)


class MedMNIST2D(MedMNISTBuilder):
    """Images of shape ``(H, W)`` or ``(H, W, 3)``, uint8, as ``Image(mode="L")`` or ``Image(mode="RGB")``.

    Raises:
        BuildError: The config asks for a codec that is unknown or cannot hold these images.
    """

    BUILDER_CONFIGS = configs(ndim=2)

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (the signature is that of datasets)
        super().__init__(*args, **kwargs)
        if self.config.codec not in ENCODERS:
            raise BuildError(f"unknown codec {self.config.codec!r}: choose from {', '.join(ENCODERS)}")
        _encoder(self.config.codec, self.image_shape)

    def _encode(self, block: UInt8Array) -> list[bytes]:
        return _encoder(self.config.codec, self.image_shape)(block)

    def _image_column(self, parts: list[list[bytes]]) -> pa.Array:
        files = pa.array([file for part in parts for file in part], pa.binary())
        return pa.StructArray.from_arrays([files, pa.nulls(len(files), pa.string())], ["bytes", "path"])
