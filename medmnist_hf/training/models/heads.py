"""Find the network and the classifier of a model, and the classifier's input features."""

from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from medmnist_hf.errors import TrainingError


def network_of(model: nn.Module) -> Any:
    """The network of timm or of the MedMNIST paper inside a model; the model itself if it has none."""
    return getattr(model, "timm_model", None) or getattr(model, "network", None) or model


def classifier_of(model: nn.Module) -> tuple[str, nn.Module]:
    """Name and layer of a model's classifier: the last linear layer or convolution that it registers.

    This holds for the classification models of timm and `transformers`, except for those with a second head, which
    `pooled_features` refuses.

    Raises:
        TrainingError: The model has no linear layer or convolution.
    """
    layers = [(name, module) for name, module in model.named_modules() if _is_linear(module)]
    if not layers:
        raise TrainingError(f"{type(model).__name__} has no linear classifier: name another model")
    name, layer = layers[-1]
    return name, layer


def classifiers_of(model: nn.Module) -> dict[str, nn.Module]:
    """All layers that produce a model's logits, by name: both heads of timm networks with two, else `classifier_of`.

    Raises:
        TrainingError: The model has no linear layer or convolution.
    """
    name, layer = classifier_of(model)
    for prefix in ("timm_model", "network"):
        heads = getattr(getattr(model, prefix, None), "pretrained_cfg", {}).get("classifier") or ()
        names = [f"{prefix}.{head}" for head in ((heads,) if isinstance(heads, str) else heads)]
        layers = {path: part for path, part in model.named_modules() if path in names and _is_linear(part)}
        if name in layers:
            return layers
    return {name: layer}


def _is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d)


def pooled_features(model: nn.Module, pixel_values: Tensor) -> Tensor:
    """The input of a model's classifier, from which the classifier computes exactly the model's logits.

    Several threads may call this for one model at the same time.

    Args:
        model: A model of `medmnist_hf.training.models`, in the desired mode.
        pixel_values: Inputs of the model.

    Returns:
        Features of shape (B, F), on the model's device.

    Raises:
        TrainingError: The logits are not the outputs of a single linear layer, or not finite.
    """
    calls: list[tuple[Tensor, Tensor]] = []

    thread = get_ident()

    def record(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if get_ident() == thread:
            calls.append((inputs[0], output.flatten(1)))

    name, classifier = classifier_of(model)
    hook = classifier.register_forward_hook(record)
    try:
        outputs: Any = model(pixel_values=pixel_values)
    finally:
        hook.remove()
    if not torch.isfinite(outputs.logits).all():
        raise TrainingError(f"{type(model).__name__} gives logits that are not finite: check its weights")
    if len(calls) != 1 or not torch.equal(calls[0][1], outputs.logits):
        raise TrainingError(f"the logits of {type(model).__name__} are not those of {name} alone: name another model")
    return calls[0][0].flatten(1)
