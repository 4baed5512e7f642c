"""Models of `transformers` for a recipe: image-classification models, and backbones that are given a head."""

# Methods of transformers' classes carry no types.
# mypy: allow-untyped-calls

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    PreTrainedConfig,
    TimmWrapperConfig,
)
from transformers.utils import logging

from medmnist_hf.errors import TrainingError, first_line
from medmnist_hf.training.models.checkpoints import listed, read_tensors, without_prefix
from medmnist_hf.training.models.heads import classifier_of
from medmnist_hf.training.models.wrappers import (
    TIMM,
    BackboneConfig,
    BackboneForImageClassification,
    NetworkConfig,
    backbone_features,
)
from medmnist_hf.training.recipe import Recipe


def load_config(recipe: Recipe, names: dict[str, Any]) -> PreTrainedConfig:
    """The configuration of a recipe's model.

    Args:
        recipe: Its model is an id or a folder.
        names: What the configuration is to say of the outputs.

    Raises:
        TrainingError: There is no such model, it cannot be fetched, or it does not go with the recipe.
    """
    if recipe.subset.ndim == 3:
        raise TrainingError(f"{recipe.model} cannot read the volumes of {recipe.dataset}: name a 2D CNN as timm/NAME")
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(recipe.model, trust_remote_code=False, **names)
    except Exception as error:  # the Hub's client, JSON and configurations refuse in many ways
        raise _not_loaded(recipe, error) from None
    if isinstance(config, NetworkConfig):
        raise TrainingError(
            f"{recipe.model} holds a {config.architecture}: give --model {config.architecture} "
            f"--checkpoint {recipe.model}/model.safetensors"
        )
    channels = getattr(config, "num_channels", 3)
    if channels != recipe.input_channels:
        raise TrainingError(f"{recipe.model} reads {channels} channels: give --channels {channels}")
    if recipe.drop_path:
        if not hasattr(config, "drop_path_rate"):
            raise TrainingError(f"{recipe.model} has no stochastic depth: leave drop_path 0")
        config.drop_path_rate = recipe.drop_path
    if hasattr(config, "mask_ratio"):
        config.mask_ratio = 0.0  # masked autoencoders hide patches from themselves otherwise
    return config


def own_statistics(recipe: Recipe, config: PreTrainedConfig) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel that a model was trained with, in units of 0..1.

    Raises:
        TrainingError: It comes without an image processor that says so.
    """
    if isinstance(config, TimmWrapperConfig):
        shown: dict[str, Any] = config.pretrained_cfg
        return list(shown["mean"]), list(shown["std"])
    try:
        processor = AutoImageProcessor.from_pretrained(recipe.model, trust_remote_code=False)
        return list(processor.image_mean), list(processor.image_std)
    except Exception:  # as above
        raise TrainingError(
            f"{recipe.model} has no preprocessor_config.json that says how to normalise: give --normalize half"
        ) from None


def load_backbone(recipe: Recipe, config: PreTrainedConfig, names: dict[str, Any]) -> tuple[nn.Module, str]:
    """The model of a configuration, and where its weights come from.

    Args:
        recipe: Says which weights: those of the model, of a file, or random ones.
        config: From `load_config`.
        names: As there.

    Raises:
        TrainingError: The weights cannot be had, or do not fit; the message names the parameters.
    """
    headed = type(config) in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    kind: Any = AutoModelForImageClassification if headed else AutoModel
    if recipe.checkpoint is None and not recipe.pretrained:
        model, origin = kind.from_config(config), "random initialisation"
    else:
        where, source = recipe.model, {}
        if recipe.checkpoint is not None:
            path = Path(recipe.checkpoint).expanduser()
            fresh = kind.from_config(config)
            kind, where = type(fresh), str(path)
            names_of_body = {name.removeprefix(f"{fresh.base_model_prefix}.") for name in fresh.state_dict()}
            source = {"state_dict": without_prefix(read_tensors(path), {*fresh.state_dict(), *names_of_body})}
        try:
            with no_report():
                model, info = kind.from_pretrained(
                    None if source else recipe.model,
                    config=config,
                    dtype=torch.float32,
                    use_safetensors=True,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                    **source,
                )
        except Exception as error:  # as above
            raise _not_loaded(recipe, error) from None
        origin = _loaded(model, info, where, headed)
    return (model if headed else _with_head(model, recipe, names)), origin


@contextlib.contextmanager
def no_report() -> Iterator[None]:
    """Without the table of tensors that were not used or not found: a new head is what is wanted."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _not_loaded(recipe: Recipe, error: Exception) -> TrainingError:
    hint = "name an image-classification model or backbone of transformers by id or folder, timm/NAME, or resnet18"
    if timm.is_model(recipe.model):
        hint = f"did you mean {TIMM}{recipe.model}?"
    return TrainingError(f"cannot load {recipe.model} ({first_line(error)}): {hint}")


def _loaded(model: Any, info: dict[str, Any], where: str, headed: bool) -> str:
    """Where the weights come from and which were not there; but for the classifier, none may be of another shape."""
    head = classifier_of(model)[0] if headed else None
    own = {name for name in model.state_dict() if name.rpartition(".")[0] != head}
    wrong = sorted(own & {name for name, *_ in info["mismatched_keys"]})
    missing = sorted(own & set(info["missing_keys"]))
    if wrong or len(missing) == len(own):
        what = f"{listed(wrong)} of another shape" if wrong else f"{listed(missing)} missing"
        raise TrainingError(f"{where} does not fit the model: {what}; name the model that it was made for")
    return f"weights of {Path(where).name}" + (f", but {listed(missing)} at random" if missing else "")


def _with_head(backbone: Any, recipe: Recipe, names: dict[str, Any]) -> nn.Module:
    size = recipe.image_size or recipe.size
    try:
        with torch.inference_mode():
            width = backbone_features(backbone.eval(), torch.zeros(1, recipe.input_channels, size, size)).shape[1]
    except Exception as error:  # models of all kinds have all kinds of inputs
        raise TrainingError(
            f"{recipe.model} cannot be given a head ({first_line(error)}): name another model"
        ) from None
    known = backbone.config.to_dict()  # not itself: what wraps a configuration resets its choice of attention
    return BackboneForImageClassification(BackboneConfig(backbone_config=known, width=width, **names), backbone)
