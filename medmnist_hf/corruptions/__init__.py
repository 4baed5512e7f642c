"""MedMNIST-C: corruptions of the 2D subsets at five severities, and the measures of a model's robustness to them.

Example:
    >>> from medmnist_hf.corruptions import corruptions
    >>> [corruption.name for corruption in corruptions("octmnist")]
    ['pixelate', 'jpeg_compression', 'speckle_noise', 'defocus_blur', 'motion_blur', 'contrast_down']
"""

from medmnist_hf.corruptions.arrays import corrupt_batch
from medmnist_hf.corruptions.measures import BalancedErrors, balanced_errors
from medmnist_hf.corruptions.registry import Corruption, corruptions

__all__ = ["BalancedErrors", "Corruption", "balanced_errors", "corrupt_batch", "corruptions"]
