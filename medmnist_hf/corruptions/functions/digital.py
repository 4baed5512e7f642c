"""Corruptions of storage: a lower resolution and JPEG artifacts, by Pillow.

Each function takes an image, uint8 (H, W, 3) or (H, W), and a parameter, and returns an image of the same shape.
"""

from io import BytesIO

import numpy as np
from PIL import Image

from medmnist_hf.array_types import UInt8Array


def pixelate(image: UInt8Array, factor: float) -> UInt8Array:
    """Reduce an image by a factor, by averaging boxes of pixels, and enlarge it again."""
    picture = Image.fromarray(image)
    width, height = picture.size
    small = picture.resize((int(width * factor), int(height * factor)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX))


def jpeg(image: UInt8Array, quality: float) -> UInt8Array:
    """Compress an image as JPEG of a quality from 1 to 95, and decompress it."""
    with BytesIO() as file:
        Image.fromarray(image).save(file, "JPEG", quality=int(quality))
        with Image.open(file) as compressed:
            return np.asarray(compressed)
