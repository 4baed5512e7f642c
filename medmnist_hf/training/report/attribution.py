"""Where in an image a network finds what speaks for a label.

Of networks with feature maps by Grad-CAM (Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via
gradient-based localization", ICCV 2017), on the last map that has room for places. Of networks of tokens by occlusion
(Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014): gradients at their tokens often
point away from an object that the label hangs on, as tests with planted objects have shown.
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
"""Positions along a side that a map should have: small images leave deep networks with one."""

CELLS: Final = 7
"""Parts of each side of an image; each crossing of them is occluded by itself."""


def image_maps(
    recipe: Recipe, built: Built, images: npt.NDArray[np.uint8], labels: Sequence[int]
) -> tuple[npt.NDArray[np.float32], str]:
    """What in each image, as it is stored, speaks for a label.

    One image is worked on at a time: gradients need far more memory than the scores of a frozen network did.

    Args:
        recipe: What was done.
        built: The model; it is left in evaluation mode.
        images: uint8 (N, H, W), (N, H, W, 3) or (N, D, H, W), one or more.
        labels: The label to explain, for each image.

    Returns:
        float32 (N, H, W) or (N, D, H, W), each from 0 to about 1, or all 0 where nothing speaks for the label; and by
        what they were found, in words: Grad-CAM with its layer and the size of that layer's map, or occlusion.
    """
    transform, loss = input_transform(recipe, built.mean, built.std, built.image_size), recipe.resolved_loss
    stored = ArrayDataset(images, np.zeros(len(images), np.int64))
    method, each = "", []
    for at, label in enumerate(labels):
        pixels = transform(stored.gather([at]))["pixel_values"]
        found = grad_cam(built.model, pixels, [label], loss)
        if found is None:
            method = f"occlusion of {CELLS} parts a side"
            each.append(occlusion(built.model, pixels, [label], loss))
        else:
            method = f"Grad-CAM on {found.layer}, {' x '.join(map(str, found.positions))} positions"
            each.append(found.maps)
    maps = torch.cat(each)
    sides = images.shape[1 : maps.ndim]
    if recipe.resize == "pad":
        for axis, side in enumerate(sides, 1):
            maps = maps.narrow(axis, (maps.shape[axis] - side) // 2, side)
    return _enlarged(maps, sides).numpy(), method


class GradCam(NamedTuple):
    """Maps by Grad-CAM.

    Attributes:
        maps: float32 (B, H, W) or (B, D, H, W) on the CPU, enlarged linearly from the feature map; each from 0 to 1,
            or all 0.
        layer: The layer that the feature map is the output of, as the network calls it.
        positions: Sides of the feature map.
    """

    maps: Tensor
    layer: str
    positions: tuple[int, ...]


def grad_cam(model: nn.Module, pixel_values: Tensor, labels: Sequence[int], loss: str) -> GradCam | None:
    """Grad-CAM of `log_odds`.

    Args:
        model: A model of `medmnist_hf.training.models`; it is left in evaluation mode, without gradients.
        pixel_values: Inputs as the model takes them, (B, C, H, W) or (B, C, D, H, W).
        labels: The label to explain, for each image.
        loss: The loss the model was trained with.

    Returns:
        The maps; None for a network without feature maps.
    """
    model.eval()
    # The input asks for gradients, so that frozen networks have them too.
    images = pixel_values.detach().to(_device(model)).requires_grad_()
    with torch.enable_grad():
        logits, maps = _forward(model, images)
        if not maps:
            return None
        features, channels, layer = next((one for one in reversed(maps) if _side(one) >= FINE), max(maps, key=_side))
        aim = log_odds(logits, labels, loss).sum()
        (slopes,) = torch.autograd.grad(aim, features, allow_unused=True)
    if slopes is None:
        return None
    values, slopes = (one.detach().float().movedim(channels, 1) for one in (features, slopes))
    weights = slopes.flatten(2).mean(2)
    found = torch.einsum("bc,bc...->b...", weights, values).clamp(min=0)
    return GradCam(_to_one(_enlarged(found, pixel_values.shape[2:]).cpu()), layer, tuple(found.shape[1:]))


@torch.inference_mode()
def occlusion(model: nn.Module, pixel_values: Tensor, labels: Sequence[int], loss: str) -> Tensor:
    """How much `log_odds` fall when a part of the image is replaced by the image's mean.

    Args:
        model: As for `grad_cam`.
        pixel_values: As for `grad_cam`.
        labels: As for `grad_cam`.
        loss: As for `grad_cam`.

    Returns:
        As the maps of `grad_cam`, enlarged from `CELLS` parts a side.
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
    return _to_one(_enlarged(torch.stack(falls), sides).cpu())


def log_odds(logits: Tensor, labels: Sequence[int], loss: str) -> Tensor:
    """Log-odds of a label by a network's outputs.

    One logit would not do: a softmax does not see what is added to all of them alike. Under the ordinal loss it is the
    log-odds of reaching a grade less those of passing it.

    Args:
        logits: (B, outputs).
        labels: One for each row.
        loss: The loss the network was trained with.

    Returns:
        float32 of shape (B,).
    """
    logits, chosen = logits.float(), torch.tensor(labels, device=logits.device)[:, None]
    if loss == "ordinal":
        edges = functional.pad(logits, (1, 1))  # all reach the first grade and none passes the last: constants
        return (edges[:, :-1] - edges[:, 1:]).gather(1, chosen)[:, 0]
    own = logits.gather(1, chosen)[:, 0]
    if loss == "bce":
        return own
    return own - logits.scatter(1, chosen, -math.inf).logsumexp(1)


def _enlarged(maps: Tensor, sides: Sequence[int]) -> Tensor:
    """Maps (B, ...) at another size, linearly."""
    mode = "trilinear" if len(sides) == 3 else "bilinear"
    return functional.interpolate(maps[:, None], list(sides), mode=mode)[:, 0]


def _to_one(maps: Tensor) -> Tensor:
    """Maps whose largest value is 1, or 0."""
    most = maps.flatten(1).amax(1).clamp(min=torch.finfo(torch.float32).tiny)
    return maps / most.view(-1, *[1] * (maps.ndim - 1))


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


class _Map(NamedTuple):
    """A feature map, its axis of channels, (B, C, ...) or (B, ..., C), and the layer that it is the output of."""

    features: Tensor
    channels: int
    layer: str


def _forward(model: Any, images: Tensor) -> tuple[Tensor, list[_Map]]:
    """Logits, and the feature maps on the way to them, the deepest last; none of networks that end in tokens."""
    inner = getattr(model, "timm_model", None) or getattr(model, "network", None)
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
    ask = body.register_forward_pre_hook(
        lambda _, inputs, options: (inputs, {**options, "output_hidden_states": True}), with_kwargs=True
    )
    take = body.register_forward_hook(lambda _, inputs, outputs: kept.append(getattr(outputs, "hidden_states", None)))
    try:
        logits = model(images).logits
    finally:
        ask.remove()
        take.remove()
    states = kept[0] or ()
    return logits, [_Map(one, 1, f"hidden state {at}") for at, one in enumerate(states)] if states and states[
        -1
    ].ndim > 3 else []


def _channel_axis(features: Tensor, width: int) -> int:
    """Some networks of timm have their channels last."""
    last = features.ndim - 1
    return last if features.shape[1] != width and features.shape[last] == width else 1


def _side(one: _Map) -> int:
    """Positions along the shortest side."""
    return min(size for axis, size in enumerate(one.features.shape) if axis not in {0, one.channels})
