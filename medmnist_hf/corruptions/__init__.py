"""MedMNIST-C: corruptions of the 2D subsets, and the measures of a model's robustness to them."""

from medmnist_hf.corruptions.measures import BalancedErrors, balanced_errors

__all__ = ["BalancedErrors", "balanced_errors"]
