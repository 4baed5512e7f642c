"""The builder of the 6 subsets of volumes: ``image`` is an Array3D made from the buffer, with no Python objects."""

import numpy as np
import pyarrow as pa
from datasets.features.features import Array3DExtensionType

from builders.base import MedMNISTBuilder, configs
from builders.npz import UInt8Array


class MedMNIST3D(MedMNISTBuilder):
    """Volumes of shape ``(D, H, W)``, uint8, as ``Array3D((D, H, W), "uint8")``."""

    BUILDER_CONFIGS = configs(ndim=3)

    def _encode(self, block: UInt8Array) -> UInt8Array:
        return block

    def _image_column(self, parts: list[UInt8Array]) -> pa.Array:
        volumes = np.concatenate(parts)
        column = pa.array(volumes.reshape(-1))
        # The innermost lists hold one row of voxels each, the next ones a slice, the outermost a volume.
        for width in reversed(self.image_shape):
            offsets = np.arange(0, len(column) + 1, width, dtype=np.int32)
            column = pa.ListArray.from_arrays(pa.array(offsets), column)
        return pa.ExtensionArray.from_storage(Array3DExtensionType(self.image_shape, "uint8"), column)
