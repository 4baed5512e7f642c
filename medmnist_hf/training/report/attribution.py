"""Attribution maps: which parts of an image support a label.

Networks with feature maps use Grad-CAM (Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via
gradient-based localization", ICCV 2017), on the deepest feature map of sufficient resolution. Networks of tokens use
occlusion (Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014): in tests with planted
objects, gradients at their tokens often pointed away from the object that determines the label.
"""

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.recipe_transforms import input_transform
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe

FINE: Final = 4
"""Minimum number of positions per side of a feature map; the last maps of small images often have just one."""

CELLS: Final = 7
"""Number of cells per side of an image; occlusion hides one cell at a time."""


def image_maps(
    recipe: Recipe, built: Built, images: npt.NDArray[np.uint8], labels: Sequence[int]
) -> tuple[npt.NDArray[np.float32], str]:
    """Compute an attribution map of each stored image.

    Images are processed one at a time, since gradients need far more memory than the scores of a frozen network.

    Args:
        recipe: Recipe of the run.
        built: The model; it is left in evaluation mode.
        images: uint8 of shape (N, H, W), (N, H, W, 3) or (N, D, H, W), with N of 1 or more.
        labels: The label to explain, for each image.

    Returns:
        Maps, float32 of shape (N, H, W) or (N, D, H, W), each from 0 to about 1, or all 0 if nothing supports the
        label; and a description of the method: Grad-CAM with its layer and the size of the feature map, or occlusion.
    """
    transform, loss = input_transform(recipe, built.mean, built.std, built.image_size), recipe.resolved_loss
    stored = ArrayDataset(images, np.zeros(len(images), np.int64))
    method, each = "", []
    for at, label in enumerate(labels):
        pixels = transform(stored.gather([at]))["pixel_values"]
        cam = grad_cam(built.model, pixels, [label], loss)
        if cam is None:
            method = f"occlusion with {CELLS} cells per side"
            each.append(occlusion(built.model, pixels, [label], loss))
        else:
            method = f"Grad-CAM on {cam.layer}, {' x '.join(map(str, cam.positions))} positions"
            each.append(cam.maps)
    maps = torch.cat(each)
    sides = images.shape[1 : maps.ndim]
    if recipe.resize == "pad":
        for axis, side in enumerate(sides, 1):
            maps = maps.narrow(axis, (maps.shape[axis] - side) // 2, side)
    return _enlarged(maps, sides).numpy(), method


class GradCam(NamedTuple):
    """Maps by Grad-CAM.

    Attributes:
        maps: float32 of shape (B, H, W) or (B, D, H, W) on the CPU, linearly enlarged from the feature map; each from
            0 to 1, or all 0.
        layer: Name of the layer whose output is the feature map.
        positions: Size of the feature map.
    """

    maps: Tensor
    layer: str
    positions: tuple[int, ...]


def grad_cam(model: nn.Module, pixel_values: Tensor, labels: Sequence[int], loss: str) -> GradCam | None:
    """Grad-CAM of `log_odds`.

    Args:
        model: A model of `medmnist_hf.training.models`; it is left in evaluation mode, without gradients.
        pixel_values: Inputs of the model, (B, C, H, W) or (B, C, D, H, W).
        labels: The label to explain, for each image.
        loss: Loss that the model was trained with.

    Returns:
        The maps; None for a network without feature maps.
    """
    model.eval()
    # Requiring gradients of the input makes this work for frozen networks too.
    images = pixel_values.detach().to(_device(model)).requires_grad_()
    with torch.enable_grad():
        logits, maps = _forward(model, images)
        if not maps:
            return None
        features, channels, layer = next(
            (each for each in reversed(maps) if _side(each) >= FINE), max(maps, key=_side)
        )
        target = log_odds(logits, labels, loss).sum()
        (gradients,) = torch.autograd.grad(target, features, allow_unused=True)
    if gradients is None:
        return None
    values, gradients = (each.detach().float().movedim(channels, 1) for each in (features, gradients))
    weights = gradients.flatten(2).mean(2)
    cam = torch.einsum("bc,bc...->b...", weights, values).clamp(min=0)
    return GradCam(_normalized(_enlarged(cam, pixel_values.shape[2:]).cpu()), layer, tuple(cam.shape[1:]))


@torch.inference_mode()
def occlusion(model: nn.Module, pixel_values: Tensor, labels: Sequence[int], loss: str) -> Tensor:
    """Decrease of `log_odds` when a cell of the image is replaced by the mean of the image.

    Args:
        model: As for `grad_cam`.
        pixel_values: As for `grad_cam`.
        labels: As for `grad_cam`.
        loss: As for `grad_cam`.

    Returns:
        Maps as `GradCam.maps`, linearly enlarged from `CELLS` cells per side.
    """
    model.eval()
    device, sides = _device(model), pixel_values.shape[2:]
    edges = [np.linspace(0, side, CELLS + 1).round().astype(int) for side in sides]
    parts = list(product(*([slice(*ends) for ends in pairwise(edge)] for edge in edges)))
    falls = []
    for image, label in zip(pixel_values, labels, strict=True):
        batch = image.repeat(1 + len(parts), *[1] * image.ndim)
        mean = image.flatten(1).mean(1).view(-1, *[1] * len(sides))
        for at, part in enumerate(parts, 1):
            batch[(at, slice(None), *part)] = mean
        odds = log_odds(model(batch.to(device)).logits, [label] * len(batch), loss)
        falls.append((odds[0] - odds[1:]).clamp(min=0).view([CELLS] * len(sides)))
    return _normalized(_enlarged(torch.stack(falls), sides).cpu())


def log_odds(logits: Tensor, labels: Sequence[int], loss: str) -> Tensor:
    """Log-odds of a label, given the outputs of a network.

    A single logit would not suffice, since a softmax is invariant to a constant added to all logits. For the ordinal
    loss, the result is the log-odds of reaching a grade minus the log-odds of exceeding it.

    Args:
        logits: Outputs of the network, shape (B, outputs).
        labels: One label per row.
        loss: Loss that the network was trained with.

    Returns:
        float32 of shape (B,).
    """
    logits, chosen = logits.float(), torch.tensor(labels, device=logits.device)[:, None]
    if loss == "ordinal":
        edges = functional.pad(logits, (1, 1))  # reaching the first grade and exceeding the last are constants
        return (edges[:, :-1] - edges[:, 1:]).gather(1, chosen)[:, 0]
    own = logits.gather(1, chosen)[:, 0]
    if loss == "bce":
        return own
    return own - logits.scatter(1, chosen, -math.inf).logsumexp(1)


def _enlarged(maps: Tensor, sides: Sequence[int]) -> Tensor:
    """Resize maps, shape (B, ...), by linear interpolation."""
    mode = "trilinear" if len(sides) == 3 else "bilinear"
    return functional.interpolate(maps[:, None], list(sides), mode=mode)[:, 0]


def _normalized(maps: Tensor) -> Tensor:
    """Scale each map to a largest value of 1; maps of zeros are unchanged."""
    most = maps.flatten(1).amax(1).clamp(min=torch.finfo(torch.float32).tiny)
    return maps / most.view(-1, *[1] * (maps.ndim - 1))


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


class _Map(NamedTuple):
    """A feature map of shape (B, C, ...) or (B, ..., C), its channel axis, and the layer that outputs it."""

    features: Tensor
    channels: int
    layer: str


def _forward(model: Any, images: Tensor) -> tuple[Tensor, list[_Map]]:
    """Logits and all feature maps, deepest last; none for networks that end in tokens or are from a user's file."""
    inner = getattr(model, "timm_model", None) or getattr(model, "network", None)
    if inner is not None and not hasattr(inner, "feature_info"):
        return model(images).logits, []
    return _through_timm(inner, images) if inner is not None else _through_transformers(model, images)


def _through_timm(network: Any, images: Tensor) -> tuple[Tensor, list[_Map]]:
    kept: list[_Map] = []

    def keep(output: object, width: int, layer: str) -> None:
        if isinstance(output, Tensor) and output.ndim > 3:
            kept.append(_Map(output, _channel_axis(output, width), layer))

    modules, hooks = dict(network.named_modules()), []
    for stage in network.feature_info:
        if stage["module"] in modules:
            hooks.append(
                modules[stage["module"]].register_forward_hook(
                    lambda _, inputs, output, stage=stage: keep(output, stage["num_chs"], stage["module"])
                )
            )
    try:
        features = network.forward_features(images)
        logits = network.forward_head(features)
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(features, Tensor) or features.ndim <= 3:
        return logits, []
    if not kept or features is not kept[-1].features:
        keep(features, network.num_features, "the final features")
    return logits, kept


def _through_transformers(model: Any, images: Tensor) -> tuple[Tensor, list[_Map]]:
    kept: list[Any] = []
    body = model.base_model
    pre_hook = body.register_forward_pre_hook(
        lambda _, inputs, options: (inputs, {**options, "output_hidden_states": True}), with_kwargs=True
    )
    hook = body.register_forward_hook(lambda _, inputs, outputs: kept.append(getattr(outputs, "hidden_states", None)))
    try:
        logits = model(images).logits
    finally:
        pre_hook.remove()
        hook.remove()
    states = kept[0] or ()
    if not states or states[-1].ndim <= 3:
        return logits, []
    return logits, [_Map(state, 1, f"hidden state {at}") for at, state in enumerate(states)]


def _channel_axis(features: Tensor, width: int) -> int:
    """Channel axis of a feature map; some timm networks are channels-last."""
    last = features.ndim - 1
    return last if features.shape[1] != width and features.shape[last] == width else 1


def _side(feature_map: _Map) -> int:
    """Number of positions along the shortest side."""
    return min(size for axis, size in enumerate(feature_map.features.shape) if axis not in {0, feature_map.channels})
