"""Save models with their input processing in the format of `transformers`, so that pipelines can load them."""

# Methods of transformers' classes are untyped.
# mypy: allow-untyped-calls

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn
from transformers import AutoModelForImageClassification, TimmWrapperForImageClassification
from transformers.utils import SAFE_WEIGHTS_NAME

from medmnist_hf.errors import TrainingError, shorten
from medmnist_hf.own_code.names import MODEL_FILE, pin_code, public_code, same_code
from medmnist_hf.training.models.checkpoints import layer_names, read_tensors
from medmnist_hf.training.models.from_transformers import quiet_loading
from medmnist_hf.training.models.wrappers import (
    NetworkConfig,
    NetworkForImageClassification,
    copy_shared_tensors,
    own_network,
)


@dataclass(frozen=True, slots=True)
class Built:
    """A model with the description of its inputs.

    Attributes:
        model: The model, on the CPU and in float32.
        mean: Mean per channel in units of 0..1; empty for no normalization.
        std: Standard deviation, as `mean`.
        image_size: Edge length of the input.
        origin: Description of the initial weights.
        processor: Image processor for pipelines; None for volumes, and for timm networks, which store it in
            ``config.json``.
    """

    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    origin: str
    processor: Any = None


def save_model(built: Built, folder: Path) -> None:
    """Save a model in the format of `transformers`, with the image processor for pipelines.

    The tensors of timm networks keep timm's names, so `timm.create_model` can load them too. Pipelines read images as
    RGB, so the first convolution of a timm network for gray images is spread over three channels, which gives the same
    outputs. If it does not (see `can_spread_channels`), `build_model` makes a network that averages RGB.

    Args:
        built: The model.
        folder: Folder to save to; created if missing.

    Raises:
        OSError: The model cannot be written; files written before the error stay.
    """
    model: Any = built.model
    if isinstance(model, TimmWrapperForImageClassification):
        model = _for_rgb(model) if (model.config.model_args or {}).get("in_chans") == 1 else model
        model.save_pretrained(folder, state_dict=model.timm_model.state_dict())
    else:
        model.save_pretrained(folder)
    if built.processor is not None:
        built.processor.save_pretrained(folder)


def load_model(folder: Path, code: str | None = None) -> nn.Module:
    """Load a model that `save_model` saved, in evaluation mode and float32 on the CPU; pickles are not read.

    Args:
        folder: Folder of the model.
        code: If the network is from a Python file of the user, its function, as ``my.py:build``. The file is run.

    Raises:
        TrainingError: The file is not the one that the model was trained with, or cannot be run.
        Exception: Anything that `transformers`, torch or safetensors raise if the model cannot be read.
    """
    if code is not None:
        return _load_own(folder, pin_code(code, MODEL_FILE)).eval()
    with quiet_loading():
        model: nn.Module = AutoModelForImageClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
    return model.eval()


def _load_own(folder: Path, code: str) -> nn.Module:
    config: Any = NetworkConfig.from_pretrained(folder)
    if not same_code(config.architecture, code):
        raise TrainingError(
            f"{folder} was trained with {shorten(config.architecture)}, not {public_code(code)}: give that version"
        )
    network = own_network(
        code,
        num_classes=len(config.id2label),
        in_channels=config.in_channels,
        image_size=config.transform["size"],
        ndim=3 if config.volumetric else 2,
    )
    model = NetworkForImageClassification(config, network)
    model.load_state_dict(read_tensors(folder / SAFE_WEIGHTS_NAME))
    return model


def can_spread_channels(model: nn.Module, size: int) -> bool:
    """Whether spreading the first convolution of a gray timm network over three channels keeps its outputs.

    It does not if that convolution standardizes its weights, or reads something other than the image.

    Args:
        model: A `TimmWrapperForImageClassification` for one channel; it is not modified.
        size: Edge length of the input.
    """
    gray: Any = model
    training = gray.training
    images = torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    try:
        rgb = _for_rgb(gray)
        with torch.no_grad():
            expected, actual = _features(gray.eval(), images), _features(rgb.eval(), images.expand(-1, 3, -1, -1))
    except Exception:  # the network cannot read such images, which `check_input` reports
        return False
    finally:
        gray.train(training)
    pairs = list(zip(expected, actual, strict=True))
    return all(torch.allclose(first, second, rtol=0, atol=1e-4 * float(first.abs().max())) for first, second in pairs)


def _features(model: Any, images: Tensor) -> list[Tensor]:
    """The features of a network and its logits, which alone may be constant if the classifier starts with zeros."""
    features = model.timm_model.forward_features(images)
    parts = features if isinstance(features, tuple | list) else [features]
    return [*(part for part in parts if isinstance(part, Tensor)), model(images).logits]


def _for_rgb(model: Any) -> Any:
    config, weights = copy.deepcopy(model.config), model.state_dict()
    settings = config.pretrained_cfg
    config.model_args |= {"in_chans": 3}
    settings |= {
        "input_size": [3, *settings["input_size"][1:]],
        "mean": settings["mean"] * 3,
        "std": settings["std"] * 3,
    }
    for name in layer_names(settings["first_conv"]):
        key = f"timm_model.{name}.weight"
        weights[key] = adapt_input_conv(3, weights[key], base_chans=1)
    with torch.random.fork_rng(devices=[]):
        spread: Any = TimmWrapperForImageClassification(config)
    copy_shared_tensors(spread.timm_model)
    spread.load_state_dict(weights)
    return spread
