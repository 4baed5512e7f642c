"""Networks of timm, transformers and the MedMNIST paper as models of `transformers`, for images and volumes.

Importing this package registers the models of this project with the Auto classes of `transformers`, so that
``pipeline("image-classification", model=folder)`` loads the saved model of a run.
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
