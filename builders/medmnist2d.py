"""The builder of the subsets of images: ``image`` is a losslessly encoded PNG or WebP file."""

from builders.base import MedMNISTBuilder, configs


class MedMNIST2D(MedMNISTBuilder):
    """Images of shape ``(H, W)`` or ``(H, W, 3)``, uint8, as ``Image(mode="L")`` or ``Image(mode="RGB")``.

    Raises:
        BuildError: The config asks for a codec that is unknown or cannot hold these images.
    """

    BUILDER_CONFIGS = configs(ndim=2)
