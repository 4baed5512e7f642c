"""Networks of timm, transformers and the MedMNIST paper as models of `transformers`, also for volumes.

Importing this package makes the models of this project known to the Auto classes of `transformers`, so that
``pipeline("image-classification", model=folder)`` loads what a run saved.
"""

from medmnist_hf.extras import suggest_install

with suggest_install("train"):
    from medmnist_hf.training.models.factory import build_model
    from medmnist_hf.training.models.saving import Built, load_model, save_model
    from medmnist_hf.training.models.volumetric import to_volumetric
    from medmnist_hf.training.models.wrappers import BackboneForImageClassification, NetworkForImageClassification

__all__ = [
    "BackboneForImageClassification",
    "Built",
    "NetworkForImageClassification",
    "build_model",
    "load_model",
    "save_model",
    "to_volumetric",
]
