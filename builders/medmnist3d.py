"""The builder of the subsets of volumes: ``image`` is an Array3D of voxels as they are."""

from builders.base import MedMNISTBuilder, configs


class MedMNIST3D(MedMNISTBuilder):
    """Volumes of shape ``(D, H, W)``, uint8, as ``Array3D((D, H, W), "uint8")``."""

    BUILDER_CONFIGS = configs(ndim=3)
