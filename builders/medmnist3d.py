"""The builder of the 3D subsets, where ``image`` is an `Array3D` of the unchanged voxels."""

from builders.base import MedMNISTBuilder, configs


class MedMNIST3D(MedMNISTBuilder):
    """Volumes of shape ``(D, H, W)``, uint8, as ``Array3D((D, H, W), "uint8")``."""

    BUILDER_CONFIGS = configs(ndim=3)
