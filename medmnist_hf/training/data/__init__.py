"""Batches for torch: samples are gathered, augmented and transformed a batch at a time.

Example:
    >>> from medmnist_hf.training.data import ArrayLoader, BatchTransform, Crop, Flip
    >>> transform = BatchTransform(channels=3, size=64, augment=[Flip(), Crop(padding=3)])
"""

from medmnist_hf.extras import suggest_install

with suggest_install("train"):
    from medmnist_hf.joint.combine import joint_groups
    from medmnist_hf.training.data.augment import (
        Augmentation,
        ColorJitter,
        Crop,
        Erasing,
        Flip,
        QuarterTurns,
        Rotation,
    )
    from medmnist_hf.training.data.dataset import ArrayBatch, ArrayDataset
    from medmnist_hf.training.data.loader import ArrayLoader, DeviceLoader
    from medmnist_hf.training.data.order import BalancedBatches, EpochBatches
    from medmnist_hf.training.data.own_augmentation import OwnAugmentation
    from medmnist_hf.training.data.recipe_transforms import RandomCorruption
    from medmnist_hf.training.data.transforms import BatchTransform

__all__ = [
    "ArrayBatch",
    "ArrayDataset",
    "ArrayLoader",
    "Augmentation",
    "BalancedBatches",
    "BatchTransform",
    "ColorJitter",
    "Crop",
    "DeviceLoader",
    "EpochBatches",
    "Erasing",
    "Flip",
    "OwnAugmentation",
    "QuarterTurns",
    "RandomCorruption",
    "Rotation",
    "joint_groups",
]
