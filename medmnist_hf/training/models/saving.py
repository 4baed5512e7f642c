"""A model with how its inputs are made, saved as `transformers` does, so that pipelines load it."""

# Methods of transformers' classes carry no types.
# mypy: allow-untyped-calls

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn
from transformers import AutoModelForImageClassification, TimmWrapperForImageClassification

from medmnist_hf.training.models.checkpoints import layer_names
from medmnist_hf.training.models.from_transformers import no_report
from medmnist_hf.training.models.wrappers import name_shared


@dataclass(frozen=True, slots=True)
class Built:
    """A model and how its inputs are made.

    Attributes:
        model: The model; on the CPU, in float32.
        mean: Mean of each channel in units of 0..1; empty for no normalization.
        std: Standard deviation, as `mean`.
        image_size: Edge length of the input.
        origin: Where the weights come from, for the report.
        processor: What makes such inputs in a pipeline; None for volumes, and for networks of timm, whose
            ``config.json`` says it.
    """

    model: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    origin: str
    processor: Any = None


def save_model(built: Built, folder: Path) -> None:
    """Save a model as `transformers` does, with the image processor that pipelines need.

    A network of timm has its tensors by timm's names, so that `timm.create_model` loads it as well. Pipelines read
    images as RGB, so one of timm for gray images is saved with its first convolution spread over three channels, which
    gives the same for such images; where it does not (`spreads`), `build_model` has made a network that reads RGB and
    takes its mean.

    Args:
        built: The model.
        folder: Where to; made where it is missing.

    Raises:
        OSError: It cannot be written; what was written stays.
    """
    saved: Any = built.model
    if isinstance(saved, TimmWrapperForImageClassification):
        saved = _for_rgb(saved) if (saved.config.model_args or {}).get("in_chans") == 1 else saved
        saved.save_pretrained(folder, state_dict=saved.timm_model.state_dict())
    else:
        saved.save_pretrained(folder)
    if built.processor is not None:
        built.processor.save_pretrained(folder)


def load_model(folder: Path) -> nn.Module:
    """A model that `save_model` left, as whoever publishes or uses it gets it; in evaluation, float32, on the CPU."""
    with no_report():
        model: nn.Module = AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


def spreads(model: nn.Module, size: int) -> bool:
    """Whether a gray network of timm with its first convolution spread over three channels is the same function.

    It is not where that convolution standardizes its weights, or sees something else than the image.

    Args:
        model: A `TimmWrapperForImageClassification` for one channel; it is left as it was.
        size: Edge length of its input.
    """
    gray: Any = model
    training = gray.training
    images = torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    try:
        rgb = _for_rgb(gray)
        with torch.no_grad():
            expected, found = _features(gray.eval(), images), _features(rgb.eval(), images.expand(-1, 3, -1, -1))
    except Exception:  # networks check their inputs in many ways, or not at all: `check_input` says how
        return False
    finally:
        gray.train(training)
    pairs = list(zip(expected, found, strict=True))
    return all(torch.allclose(one, two, rtol=0, atol=1e-4 * float(one.abs().max())) for one, two in pairs)


def _features(model: Any, images: Tensor) -> list[Tensor]:
    """What a network makes of images before its classifier, which may start with zeros; and its logits."""
    features = model.timm_model.forward_features(images)
    parts = features if isinstance(features, tuple | list) else [features]
    return [*(one for one in parts if isinstance(one, Tensor)), model(images).logits]


def _for_rgb(model: Any) -> Any:
    config, weights = copy.deepcopy(model.config), model.state_dict()
    shown = config.pretrained_cfg
    config.model_args |= {"in_chans": 3}
    shown |= {"input_size": [3, *shown["input_size"][1:]], "mean": shown["mean"] * 3, "std": shown["std"] * 3}
    for name in layer_names(shown["first_conv"]):
        key = f"timm_model.{name}.weight"
        weights[key] = adapt_input_conv(3, weights[key], base_chans=1)
    with torch.random.fork_rng(devices=[]):
        spread: Any = TimmWrapperForImageClassification(config)
    name_shared(spread.timm_model)
    spread.load_state_dict(weights)
    return spread
