"""The column ``image`` of a loaded data set, decoded by `medmnist_hf.data.decode` instead of Pillow.

`datasets.Image` passes the bytes of a row to Pillow, which opens any format, even PostScript, for which it runs
Ghostscript.
"""

from typing import Any

import datasets
import numpy as np
import PIL.Image

from medmnist_hf.catalog import Subset
from medmnist_hf.data.decode import decode_image, image_shape
from medmnist_hf.errors import SourceError


class StoredImage(datasets.Image):  # type: ignore[misc]  # `datasets` has no types
    """`datasets.Image` for the images of subsets: only PNG or lossless WebP of their shapes.

    It equals a `datasets.Image` of the same mode, and becomes one when a data set is saved or mapped.

    Args:
        size: Edge length in pixels.
        *subsets: The subsets; if some are gray and others RGB, the mode is None, so each image is as stored.
        as_rgb: Repeat the values of gray images as red, green and blue.

    Attributes:
        shapes: The shapes of stored images, ``(H, W)`` or ``(H, W, 3)``.
        as_rgb: As given.
        flags: Flags of the subsets.
    """

    def __init__(self, size: int, *subsets: Subset, as_rgb: bool = False) -> None:
        self.shapes = tuple(dict.fromkeys(entry.file(size).image_shape for entry in subsets))
        self.as_rgb = as_rgb
        self.flags = tuple(entry.flag for entry in subsets)
        self._name = f"{subsets[0].flag if len(subsets) == 1 else f'{len(subsets)} subsets'} at size {size}"
        modes = ["RGB" if as_rgb or len(shape) == 3 else "L" for shape in self.shapes]
        super().__init__(mode=modes[0] if len(set(modes)) == 1 else None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, datasets.Image) and (self.mode, self.decode) == (other.mode, other.decode)

    __hash__ = None  # type: ignore[assignment]  # as of every feature

    def __repr__(self) -> str:
        return f"Image(mode={self.mode!r}, decode={self.decode})"

    def decode_example(self, value: Any, token_per_repo_id: Any = None) -> Any:
        """Decode a row.

        Args:
            value: The row as stored, with the key ``bytes``; an image that is already decoded is returned unchanged.
            token_per_repo_id: Not used: the image is stored in its row and never fetched.

        Raises:
            SourceError: The row does not hold such an image.
        """
        if not self.decode or not isinstance(value, dict):
            return super().decode_example(value)
        try:
            if not value.get("bytes"):
                raise ValueError("no image")
            file = np.frombuffer(value["bytes"], np.uint8)
            shape = image_shape(file) if len(self.shapes) > 1 else self.shapes[0]
            pixels = np.empty(shape if shape in self.shapes else self.shapes[0], np.uint8)
            decode_image(file, pixels)
        except ValueError as error:
            raise SourceError(f"a row of {self._name} holds {error}: verify the build or the repository") from None
        image = PIL.Image.fromarray(pixels)
        return image.convert("RGB") if self.as_rgb else image


def decode_safely(dataset: Any, subset: Subset, size: int) -> Any:
    """Make a data set of a 2D subset, or each split of a dictionary, decode its images with `StoredImage`.

    A column ``image`` that is missing, or that the caller requested in another form, is left unchanged.
    """
    if subset.ndim == 2:
        feature = StoredImage(size, subset)
        for split in dataset.values() if isinstance(dataset, dict) else (dataset,):
            features = split.info.features
            if features is not None and feature == features.get("image"):
                features["image"] = feature
    return dataset
