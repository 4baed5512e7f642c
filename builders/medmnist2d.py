"""The builder of the 2D subsets, where ``image`` is a losslessly encoded PNG or WebP file."""

from builders.base import MedMNISTBuilder, configs


class MedMNIST2D(MedMNISTBuilder):
    """Images of shape ``(H, W)`` or ``(H, W, 3)``, uint8, as ``Image(mode="L")`` or ``Image(mode="RGB")``.

    Raises:
        BuildError: The codec of the config is unknown, or cannot store these images.
    """

    BUILDER_CONFIGS = configs(ndim=2)
