"""The functions that corrupt an image, by name, and their random numbers.

Each row has random numbers of its own, from a Philox generator keyed by the subset, the corruption and the severity,
with the row number as counter. So a row does not depend on which other rows are corrupted, when, or by which process.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import numpy as np
from numpy.random import Generator, Philox
from PIL import Image

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.corruptions.functions import blur, color, digital, noise, objects
from medmnist_hf.corruptions.registry import Corruption
from medmnist_hf.extras import DISTRIBUTION, suggest_install

FUNCTIONS: Final[dict[str, Callable[..., UInt8Array]]] = {
    function.__name__: function
    for function in (
        digital.pixelate,
        digital.jpeg,
        noise.gaussian_noise,
        noise.speckle_noise,
        noise.impulse_noise,
        noise.shot_noise,
        blur.defocus_blur,
        blur.motion_blur,
        blur.zoom_blur,
        blur.gaussian_blur,
        color.brightness,
        color.contrast,
        color.saturate,
        color.gamma,
        objects.stain_deposit,
        objects.bubble,
        objects.black_corner,
        objects.characters,
    )
}
"""Name -> function of an RGB image, uint8 (H, W, 3), a generator if it is random, and its parameters."""

_PER_CHANNEL: Final = frozenset(
    {"pixelate", "jpeg", "defocus_blur", "motion_blur", "gaussian_blur", "brightness", "contrast", "gamma"}
)
"""Functions that also take gray images, uint8 (H, W), and change them as they would change three equal channels."""


def row_generator(corruption: Corruption, severity: int, row: int) -> Generator:
    """The generator of a row's random numbers.

    Args:
        corruption: The corruption.
        severity: 1 to 5.
        row: Number of the row in its split, 0 or more.
    """
    name = f"{corruption.subset} {corruption.name} {severity}"
    key = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], "<u8")
    return Generator(Philox(key=key, counter=row << 192))


def apply(
    corruption: Corruption, image: UInt8Array, parameters: tuple[float, ...], generator: Generator
) -> UInt8Array:
    """Corrupt an image. A gray one becomes as if it were corrupted as RGB and converted back, as in MedMNIST-C.

    Args:
        corruption: The corruption.
        image: uint8 (H, W) or (H, W, 3), which is not changed.
        parameters: Arguments of its function, see `Corruption.at`.
        generator: Source of random numbers, not used unless `Corruption.random`.

    Returns:
        An image of the same shape.

    Raises:
        MissingModuleError: The function needs OpenCV, and the extra ``corruptions`` is not installed.
    """
    as_is = image.ndim == 3 or corruption.function in _PER_CHANNEL
    drawn = (generator,) if corruption.random else ()
    with suggest_install("corruptions"):
        corrupted = FUNCTIONS[corruption.function](image if as_is else _repeated(image), *drawn, *parameters)
    return corrupted if as_is else np.asarray(Image.fromarray(corrupted).convert("L"))


def _repeated(gray: UInt8Array) -> UInt8Array:
    return np.stack([gray] * 3, axis=2)


def releases() -> dict[str, str]:
    """Versions of the installed packages that determine the pixels."""
    found = {}
    for name in (DISTRIBUTION, "numpy", "pillow", "opencv-python-headless", "opencv-python"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
