"""Models of `transformers` for a recipe: image-classification models, and backbones that are given a head."""

# Methods of transformers' classes carry no types.
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
from medmnist_hf.typed_json import decode

LARGEST: Final = 10**7
"""Largest whole number that a configuration may hold: of layers or labels it would be made without end."""

MOST_PIXELS: Final = 1024
"""Largest side of an image by which the width of features is measured."""

MOST_LAYERS: Final = 50_000
"""Most layers, those within layers counted too, that a model may consist of."""


def check_config(name: str) -> None:
    """Refuse a configuration that no model is made of in time, and a folder in which something would be read for ever.

    Args:
        name: An id or folder of `transformers`.

    Raises:
        ValueError: It holds a number above `LARGEST`, or its folder a pipe or a device.
        Exception: Whatever `transformers` raises if it cannot be read.
    """
    _check_files(Path(name))
    values, _ = PreTrainedConfig.get_config_dict(name, trust_remote_code=False)
    inside: list[Any] = [values]
    while inside:
        outer = inside.pop()
        for key, value in outer.items() if isinstance(outer, dict) else enumerate(outer):
            if isinstance(value, dict | list):
                inside.append(value)
            elif isinstance(value, int) and abs(value) > LARGEST:
                raise ValueError(f"its config.json has a number above {LARGEST} for {str(key)[:40]!r}")


def _check_files(folder: Path) -> None:
    """Refuse a folder where something is in place of a file: whoever opens a pipe waits for who writes to it."""
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
def bounded() -> Iterator[None]:
    """Models that are made within may have `MOST_LAYERS` layers, and as many parameters as fit into memory.

    Raises:
        ValueError: There are more; what was made is dropped.
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
        check_config(recipe.model)
        config: PreTrainedConfig = AutoConfig.from_pretrained(recipe.model, trust_remote_code=False, **names)
    except Exception as error:  # the Hub's client, JSON and configurations refuse in many ways
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
        config.mask_ratio = 0.0  # masked autoencoders hide patches from themselves otherwise
    return config


def _channels(config: PreTrainedConfig) -> int:
    """Channels of a model's images: each family says them under a name, or in a part, of its own."""
    parts = (config, *(getattr(config, part, None) for part in ("vision_config", "backbone_config")))
    found = (getattr(part, name, None) for part in parts for name in ("num_channels", "stem_num_channels"))
    return next((one for one in found if isinstance(one, int)), 3)


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
            f"{recipe.model} has no preprocessor_config.json that says how to normalize: give --normalize half"
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
    classes = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)] if headed else ()
    if isinstance(classes, list | tuple) and len(classes) > 1 and not config.architectures:
        names_of = " or ".join(json.dumps([one.__name__]) for one in classes if one)
        raise TrainingError(
            f"cannot load {recipe.model} (its config.json does not name its class): "
            f'give it "architectures": {names_of}'
        )
    kind: Any = AutoModelForImageClassification if headed else AutoModel
    weights = recipe.pretrained or recipe.checkpoint is not None
    where, source = recipe.model, {}
    tensors = None if recipe.checkpoint is None else read_tensors(expand_user(recipe.checkpoint))
    try:
        with bounded(), torch.device("meta"):
            kind.from_config(config)  # counted before any memory is taken
        with no_report():
            if tensors is not None or not weights:
                model = kind.from_config(config)
            if tensors is not None:
                kind, where = type(model), str(expand_user(str(recipe.checkpoint)))
                body = {name.removeprefix(f"{model.base_model_prefix}.") for name in model.state_dict()}
                source = {"state_dict": without_prefix(tensors, {*model.state_dict(), *body})}
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
    origin = _loaded(model, info, where, headed) if weights else "random initialization"
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
    own = getattr(backbone.config, "image_size", None)
    size = own if isinstance(own, int) and 0 < own <= MOST_PIXELS else recipe.image_size or recipe.size
    try:  # at its own size: whether it reads the recipe's, `check_input` says
        with torch.inference_mode():
            width = backbone_features(backbone.eval(), torch.zeros(1, recipe.input_channels, size, size)).shape[1]
    except Exception as error:  # models of all kinds have all kinds of inputs
        raise TrainingError(
            f"{recipe.model} cannot be given a head ({first_line(error)}): name another model"
        ) from None
    known = backbone.config.to_dict()  # not itself: what wraps a configuration resets its choice of attention
    return BackboneForImageClassification(BackboneConfig(backbone_config=known, width=width, **names), backbone)
