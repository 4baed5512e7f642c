"""Load models of `transformers` for a recipe: image-classification models, and backbones that get a head."""

# Methods of transformers' classes are untyped.
# mypy: allow-untyped-calls

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import timm
import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
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

from medmnist_hf.documents import parse_json
from medmnist_hf.errors import TrainingError, first_line
from medmnist_hf.files import expand_user, read_document
from medmnist_hf.training.models.checkpoints import first_names, read_tensors, strip_prefix
from medmnist_hf.training.models.heads import classifier_of
from medmnist_hf.training.models.wrappers import (
    TIMM,
    BackboneConfig,
    BackboneForImageClassification,
    NetworkConfig,
    backbone_features,
)
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.typed_json import decode

RANDOM: Final = "random initialization"
"""The origin of a network without weights."""

LARGEST: Final = 10**7
"""Largest integer allowed in a configuration: with more layers or labels, building would take forever."""

MOST_PIXELS: Final = 1024
"""Largest side of the image with which the number of features is measured."""

MOST_LAYERS: Final = 50_000
"""Maximum number of layers of a model, including nested ones."""


def check_config(name: str) -> None:
    """Check that a configuration has no huge numbers, and that its folder has no pipes or devices.

    Args:
        name: An id or folder of `transformers`.

    Raises:
        ValueError: The configuration has a number above `LARGEST`, or the folder has a pipe or a device.
        Exception: Anything `transformers` raises if the configuration cannot be read.
    """
    _check_files(Path(name))
    values, _ = PreTrainedConfig.get_config_dict(name, trust_remote_code=False)
    pending: list[Any] = [values]
    while pending:
        outer = pending.pop()
        for key, value in outer.items() if isinstance(outer, dict) else enumerate(outer):
            if isinstance(value, dict | list):
                pending.append(value)
            elif isinstance(value, int) and abs(value) > LARGEST:
                raise ValueError(f"its config.json has a number above {LARGEST} for {str(key)[:40]!r}")


def _check_files(folder: Path) -> None:
    """Refuse a folder with pipes or devices in place of files, since opening a pipe would block."""
    if not folder.is_dir():
        return
    paths = {path for path in folder.iterdir() if not path.is_dir()}
    for index in folder.glob("*.index.json"):
        index_map = decode(parse_json(read_document(index)), dict[str, Any], index.name).get("weight_map", {})
        paths |= {folder / name for name in decode(index_map, dict[str, str], index.name).values()}
    for path in paths:
        if path.exists() and not path.is_file():
            raise ValueError(f"{path.name} in it is not a regular file")


@contextlib.contextmanager
def limit_model_size() -> Iterator[None]:
    """Limit models built in this context to `MOST_LAYERS` layers, and to parameters that fit into memory.

    Raises:
        ValueError: A model exceeds a limit.
    """
    layers = parameters = 0
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63

    def count_layer(*_: Any) -> None:
        nonlocal layers
        layers += 1
        if layers > MOST_LAYERS:
            raise ValueError(f"it has more than {MOST_LAYERS} layers")

    def count_parameter(_: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal parameters
        parameters += 0 if parameter is None else parameter.numel()
        if 4 * parameters > memory:
            raise ValueError("its parameters do not fit into memory")

    hooks = (
        register_module_module_registration_hook(count_layer),
        register_module_parameter_registration_hook(count_parameter),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def load_config(recipe: Recipe, names: dict[str, Any]) -> PreTrainedConfig:
    """Load the configuration of a recipe's model.

    Args:
        recipe: The recipe, whose model is an id or a folder.
        names: Entries of the configuration that describe the outputs.

    Raises:
        TrainingError: The model does not exist, cannot be fetched, or does not support the recipe.
    """
    if recipe.ndim == 3:
        raise TrainingError(f"{recipe.model} cannot read the volumes of {recipe.dataset}: name a 2D CNN as timm/NAME")
    try:
        check_config(recipe.model)
        config: PreTrainedConfig = AutoConfig.from_pretrained(recipe.model, trust_remote_code=False, **names)
    except Exception as error:  # the Hub's client, JSON and configurations raise many kinds of errors
        raise _not_loaded(recipe, error) from None
    if isinstance(config, NetworkConfig):
        raise TrainingError(
            f"{recipe.model} holds a {config.architecture}: give --model {config.architecture} "
            f"--checkpoint {recipe.model}/model.safetensors"
        )
    channels = _channels(config)
    if channels != recipe.input_channels:
        raise TrainingError(f"{recipe.model} reads {channels} channels: give --channels {channels}")
    if recipe.drop_path:
        if not hasattr(config, "drop_path_rate"):
            raise TrainingError(f"{recipe.model} has no stochastic depth: leave drop_path 0")
        config.drop_path_rate = recipe.drop_path
    if hasattr(config, "mask_ratio"):
        config.mask_ratio = 0.0  # otherwise masked autoencoders hide patches
    return config


def _channels(config: PreTrainedConfig) -> int:
    """Number of input channels, which model families store under different names."""
    parts = (config, *(getattr(config, part, None) for part in ("vision_config", "backbone_config")))
    values = (getattr(part, name, None) for part in parts for name in ("num_channels", "stem_num_channels"))
    return next((value for value in values if isinstance(value, int)), 3)


def model_statistics(recipe: Recipe, config: PreTrainedConfig) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel with which a model was trained, in units of 0..1.

    Raises:
        TrainingError: The model has no image processor that states them.
    """
    if isinstance(config, TimmWrapperConfig):
        settings: dict[str, Any] = config.pretrained_cfg
        return list(settings["mean"]), list(settings["std"])
    try:
        processor = AutoImageProcessor.from_pretrained(recipe.model, trust_remote_code=False)
        return list(processor.image_mean), list(processor.image_std)
    except Exception:  # as above
        raise TrainingError(
            f"{recipe.model} has no preprocessor_config.json with mean and std: give --normalize half"
        ) from None


def processor_sizes(recipe: Recipe) -> list[int]:
    """The sizes of the input that the image processor of a model makes; empty if it names none."""
    try:
        processor = AutoImageProcessor.from_pretrained(recipe.model, trust_remote_code=False)
    except Exception:  # as above
        return []
    sizes = [side for name in ("crop_size", "size") for side in dict(getattr(processor, name, None) or {}).values()]
    return [side for side in sizes if isinstance(side, int)]


def load_backbone(recipe: Recipe, config: PreTrainedConfig, names: dict[str, Any]) -> tuple[nn.Module, str]:
    """Load the model of a configuration; also returns a description of its weights.

    Args:
        recipe: The recipe, which selects the weights of the model, of a file, or random ones.
        config: From `load_config`.
        names: As in `load_config`.

    Raises:
        TrainingError: The weights cannot be read or fetched, or do not fit; the message names the parameters.
    """
    headed = type(config) in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    classes = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)] if headed else ()
    if isinstance(classes, list | tuple) and len(classes) > 1 and not config.architectures:
        choices = " or ".join(json.dumps([choice.__name__]) for choice in classes if choice)
        raise TrainingError(
            f'cannot load {recipe.model} (its config.json does not name its class): add "architectures": {choices}'
        )
    kind: Any = AutoModelForImageClassification if headed else AutoModel
    weights = recipe.pretrained or recipe.checkpoint is not None
    where, source = recipe.model, {}
    tensors = None if recipe.checkpoint is None else read_tensors(expand_user(recipe.checkpoint))
    try:
        with limit_model_size(), torch.device("meta"):
            kind.from_config(config)  # check the size before allocating memory
        with quiet_loading():
            if tensors is not None or not weights:
                model = kind.from_config(config)
            if tensors is not None:
                kind, where = type(model), str(expand_user(str(recipe.checkpoint)))
                body = {name.removeprefix(f"{model.base_model_prefix}.") for name in model.state_dict()}
                source = {"state_dict": strip_prefix(tensors, {*model.state_dict(), *body})}
            if weights:
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
    origin = _check_loaded(model, info, where, headed) if weights else RANDOM
    return (model if headed else _with_head(model, recipe, names)), origin


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Suppress the report of unused and missing tensors, since a new head is intended."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _not_loaded(recipe: Recipe, error: Exception) -> TrainingError:
    hint = "name an image-classification model or backbone of transformers by id or folder, timm/NAME, or resnet18"
    if timm.is_model(recipe.model):
        hint = f"did you mean {TIMM}{recipe.model}?"
    return TrainingError(f"cannot load {recipe.model} ({first_line(error)}): {hint}")


def _check_loaded(model: Any, info: dict[str, Any], where: str, headed: bool) -> str:
    """Check that loaded weights fit, except for the classifier, and describe their origin and missing ones."""
    head = classifier_of(model)[0] if headed else None
    own = {name for name in model.state_dict() if name.rpartition(".")[0] != head}
    wrong = sorted(own & {name for name, *_ in info["mismatched_keys"]})
    missing = sorted(own & set(info["missing_keys"]))
    if wrong or len(missing) == len(own):
        what = f"{first_names(wrong)} of another shape" if wrong else f"{first_names(missing)} missing"
        raise TrainingError(f"{where} does not fit the model: {what}; name the model it was made for")
    return f"weights of {Path(where).name}" + (f", but {first_names(missing)} at random" if missing else "")


def _with_head(backbone: Any, recipe: Recipe, names: dict[str, Any]) -> nn.Module:
    own = getattr(backbone.config, "image_size", None)
    size = own if isinstance(own, int) and 0 < own <= MOST_PIXELS else recipe.input_size
    try:  # at the model's own size; `check_input` checks that of the recipe
        with torch.inference_mode():
            width = backbone_features(backbone.eval(), torch.zeros(1, recipe.input_channels, size, size)).shape[1]
    except Exception as error:  # models require many kinds of inputs
        raise TrainingError(
            f"{recipe.model} cannot be given a head ({first_line(error)}): name another model"
        ) from None
    values = backbone.config.to_dict()  # a copy, since wrapping a configuration resets its attention implementation
    return BackboneForImageClassification(BackboneConfig(backbone_config=values, width=width, **names), backbone)
