"""Describe a model and its input so that a feature store can be recognized as computed by exactly these."""

from importlib.metadata import version
from typing import Any, Final

from huggingface_hub import constants, try_to_load_from_cache
from torch import nn

from medmnist_hf.embeddings.manifest import POOLING, InputRecord, ModelRecord
from medmnist_hf.own_code.names import is_code, public_code
from medmnist_hf.training.data.recipe_transforms import EVALUATION_INTENSITY
from medmnist_hf.training.models.checkpoints import tensors_digest
from medmnist_hf.training.models.heads import classifiers_of
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe

_LIBRARIES: Final = ("medmnist-hf", "torch", "torchvision", "timm", "transformers", "datasets", "pyarrow")


def releases() -> dict[str, str]:
    """Versions of the libraries that determine the features and the bytes of the shards."""
    return {name: version(name) for name in _LIBRARIES}


def model_record(recipe: Recipe, built: Built) -> ModelRecord:
    """Describe the model of a recipe; its classifier, which does not affect the features, is left out."""
    digest, count = weights_digest(built.model)
    revision = _revision(recipe, built) if recipe.pretrained and recipe.checkpoint is None else ""
    return ModelRecord(public_code(recipe.model), built.origin, revision, digest, count)


def input_record(recipe: Recipe, built: Built) -> InputRecord:
    """Describe what the model of a recipe reads."""
    volumes = recipe.subset.ndim == 3 and not is_code(recipe.model)
    slices = volumes and recipe.volumetric == "2.5d"
    return InputRecord(
        image_size=built.image_size,
        resize=recipe.resize if built.image_size != recipe.size else "none",
        channels=recipe.input_channels,
        mean=tuple(map(float, built.mean)),
        std=tuple(map(float, built.std)),
        intensity=EVALUATION_INTENSITY if recipe.intensity_scale else 1.0,
        volumetric=recipe.volumetric if volumes else "",
        depth_stride=slices and recipe.depth_stride,
        slice_pooling=recipe.slice_pooling if slices else "",
        pooling=POOLING,
    )


def weights_digest(model: nn.Module) -> tuple[str, int]:
    """SHA-256 of all parameters and buffers except those of the classifier, and the number of their values."""
    heads = tuple(f"{name}." for name in classifiers_of(model))
    return tensors_digest({name: value for name, value in model.state_dict().items() if not name.startswith(heads)})


def _revision(recipe: Recipe, built: Built) -> str:
    """The commit on the Hub from which the weights of a pretrained model were read; empty if unknown."""
    config: Any = getattr(built.model, "config", None)
    if commit := getattr(config, "_commit_hash", None):
        return str(commit)
    repository = recipe.model if recipe.model.startswith("timm/") else None
    path = repository and try_to_load_from_cache(repository, constants.SAFETENSORS_SINGLE_FILE)
    # The cache names a snapshot's folder after its commit.
    return path.rsplit("/", 2)[1] if isinstance(path, str) else ""
