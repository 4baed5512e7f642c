"""The column ``image`` of a loaded data set, decoded by `medmnist_hf.data.decode` instead of Pillow.

`datasets.Image` passes the bytes of a row to Pillow, which opens any format, even PostScript, for which it runs
Ghostscript.
"""

from typing import Any

import datasets
import numpy as np
import PIL.Image

from medmnist_hf.catalog import Subset
from medmnist_hf.data.decode import decode_image
from medmnist_hf.errors import SourceError


class StoredImage(datasets.Image):  # type: ignore[misc]  # `datasets` has no types
    """`datasets.Image` for the images of one subset: only PNG or lossless WebP of one shape.

    It equals a `datasets.Image` of the same mode, and becomes one when a data set is saved or mapped.
    """

    def __init__(self, subset: Subset, size: int) -> None:
        self._shape = subset.file(size).image_shape
        self._name = f"{subset.flag} at size {size}"
        super().__init__(mode="RGB" if len(self._shape) == 3 else "L")

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
        pixels = np.empty(self._shape, np.uint8)
        try:
            if not value.get("bytes"):
                raise ValueError("no image")
            decode_image(np.frombuffer(value["bytes"], np.uint8), pixels)
        except ValueError as error:
            raise SourceError(f"a row of {self._name} holds {error}: verify the build or the repository") from None
        return PIL.Image.fromarray(pixels)


def decode_safely(dataset: Any, subset: Subset, size: int) -> Any:
    """Make a data set of a 2D subset, or each split of a dictionary, decode its images with `StoredImage`.

    A column ``image`` that is missing, or that the caller requested in another form, is left unchanged.
    """
    if subset.ndim == 2:
        feature = StoredImage(subset, size)
        for split in dataset.values() if isinstance(dataset, dict) else (dataset,):
            features = split.info.features
            if features is not None and feature == features.get("image"):
                features["image"] = feature
    return dataset
