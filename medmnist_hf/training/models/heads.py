"""The classifier of a model: which layer it is, and what it sees."""

from typing import Any

import torch
from torch import Tensor, nn

from medmnist_hf.errors import TrainingError


def classifier_of(model: nn.Module) -> tuple[str, nn.Module]:
    """Name and layer of a model's classifier: the last linear layer or convolution that it registers.

    So it is in the classification models of timm and `transformers`, but for those with a second head, of which
    `pooled_features` says so.

    Raises:
        TrainingError: There is no such layer.
    """
    layers = [one for one in model.named_modules() if _is_linear(one[1])]
    if not layers:
        raise TrainingError(f"{type(model).__name__} has no linear classifier: name another model")
    name, layer = layers[-1]
    return name, layer


def classifiers_of(model: nn.Module) -> dict[str, nn.Module]:
    """All layers that give a model's logits, by name: of networks with a second head both, else `classifier_of`.

    timm says of its networks which these are.

    Raises:
        TrainingError: There is no such layer.
    """
    name, layer = classifier_of(model)
    for prefix in ("timm_model", "network"):
        named = getattr(getattr(model, prefix, None), "pretrained_cfg", {}).get("classifier") or ()
        names = [f"{prefix}.{one}" for one in ((named,) if isinstance(named, str) else named)]
        found = {one: part for one, part in model.named_modules() if one in names and _is_linear(part)}
        if name in found:
            return found
    return {name: layer}


def _is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv3d)


def pooled_features(model: nn.Module, pixel_values: Tensor) -> Tensor:
    """What a model's classifier sees, so that the classifier on it gives the model's logits exactly.

    Args:
        model: A model of `medmnist_hf.training.models`, in the mode it shall compute in.
        pixel_values: Inputs as the model takes them.

    Returns:
        Shape (B, F), the input of the classifier, on the model's device.

    Raises:
        TrainingError: The logits are not the outputs of one linear layer, or not finite.
    """
    seen: list[tuple[Tensor, Tensor]] = []

    def look(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((inputs[0], output.flatten(1)))

    name, classifier = classifier_of(model)
    hook = classifier.register_forward_hook(look)
    try:
        outputs: Any = model(pixel_values=pixel_values)
    finally:
        hook.remove()
    if not torch.isfinite(outputs.logits).all():
        raise TrainingError(f"{type(model).__name__} gives logits that are not finite: check its weights")
    if len(seen) != 1 or not torch.equal(seen[0][1], outputs.logits):
        raise TrainingError(f"the logits of {type(model).__name__} are not those of {name} alone: name another model")
    return seen[0][0].flatten(1)
