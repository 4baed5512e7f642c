"""Corruptions as an augmentation of training images, as in MedMNIST-C: one of the subset, or none, at any strength."""

from collections.abc import Iterable
from typing import Final

from numpy.random import Generator, Philox

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.corruptions.apply import apply
from medmnist_hf.corruptions.arrays import check_images
from medmnist_hf.corruptions.registry import corruptions

SHARES: Final = 3
"""Largest number of parameters of a corruption."""


def corrupt_at_random(
    images: UInt8Array, flag: str, choices: Iterable[int], shares: Iterable[list[float]], seeds: Iterable[int]
) -> UInt8Array:
    """Corrupt each image of a batch by the corruption that was drawn for it.

    Args:
        images: uint8 (N, H, W) for gray subsets, (N, H, W, 3) for RGB; not changed.
        flag: Flag of the subset.
        choices: Per image, the position of its corruption in `corruptions`; the number of corruptions for none.
        shares: Per image, `SHARES` numbers in 0..1. Each parameter is that of severity 1 plus a share of the way to
            `Corruption.augmentation_end`.
        seeds: Per image, the seed of the random numbers of its corruption.

    Returns:
        Corrupted images of the same shape.

    Raises:
        CatalogError: The subset is unknown or holds volumes.
        SourceError: The images are of another shape or type.
        MissingModuleError: A corruption needs OpenCV, and the extra ``corruptions`` is not installed.
    """
    known = corruptions(flag)
    check_images(images, known[0])
    corrupted = images.copy()
    for at, (choice, share, seed) in enumerate(zip(choices, shares, seeds, strict=True)):
        if choice < len(known):
            chosen = known[choice]
            ends = zip(chosen.at(1), chosen.augmentation_end, share, strict=False)
            parameters = tuple(first + (last - first) * part for first, last, part in ends)
            corrupted[at] = apply(chosen, images[at], parameters, Generator(Philox(seed)))
    return corrupted
