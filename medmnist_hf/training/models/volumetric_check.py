"""Compare a 2.5D conversion with its 2D original, layer by layer.

On a volume whose slices are all the same image, a network that treats slices one by one and means over all of them
gives what the 2D network gives for the image. A layer that mixes up axes does not.
"""

from typing import Any

import torch
from torch import Tensor, nn

from medmnist_hf.errors import TrainingError, first_line

# Not a power of two, so that depth is not taken for the height or width of a feature.
_SLICES = 3


def refusal(name: str, module: nn.Module, why: str) -> TrainingError:
    """The error for a layer that cannot be converted, or for the network where the name is empty."""
    layer = f"layer {name}" if name else "the network"
    return TrainingError(f"{layer} ({type(module).__name__}) cannot read volumes: {why}; choose another 2D CNN")


def compare_layers(flat: nn.Module, deep: nn.Module, *, skip_inside: type) -> None:
    """Run a network on an image and its 2.5D form on slices of the same image, and compare the outputs of each layer.

    Both are set to evaluation and keep hooks, so give copies; they may share parameters. On torch's meta device, where
    nothing has values, shapes alone are compared.

    Args:
        flat: The 2D network.
        deep: Its 2.5D form, with the same names of layers.
        skip_inside: Class of layers whose own outputs alone are compared, because inside they see other shapes.

    Raises:
        TrainingError: A layer fails or gives something else; the message names the first, the innermost.
    """
    outputs: dict[str, list[Tensor]] = {}
    running: list[str] = []

    def keep(name: str, output: Any) -> None:
        if isinstance(output, Tensor):
            outputs.setdefault(name, []).append(output.clone())  # the next layer may work in place

    def check(name: str, module: nn.Module, output: Any) -> None:
        running.pop()
        if isinstance(output, Tensor) and not _alike(outputs[name].pop(0), output):
            raise refusal(name, module, "over slices that are all alike it differs from the 2D layer")

    for name, module in flat.eval().named_modules():
        module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
    inside = tuple(f"{name}." for name, module in deep.eval().named_modules() if isinstance(module, skip_inside))
    for name, module in deep.named_modules():
        if not name.startswith(inside):
            module.register_forward_pre_hook(lambda _, __, name=name: running.append(name))
            module.register_forward_hook(lambda module, _, output, name=name: check(name, module, output))
    with torch.no_grad():
        image = _accepted_image(flat, outputs)
        try:
            deep(image.unsqueeze(2).expand(-1, -1, _SLICES, -1, -1))
        except TrainingError:
            raise
        except Exception as error:
            name = running[-1] if running else ""
            raise refusal(name, deep.get_submodule(name), first_line(error)) from error


def _accepted_image(network: nn.Module, outputs: dict[str, list[Tensor]]) -> Tensor:
    """An image that the 2D network takes, after it was run on it."""
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        raise refusal("", network, "it has no 2D convolution")
    weight, channels, why = first.weight, first.in_channels, ""
    for size in (64, 224):
        outputs.clear()
        image = torch.arange(channels * size * size, device=weight.device).mul(0.7).sin()
        image = image.to(weight.dtype).view(1, channels, size, size)
        try:
            network(image)
        except Exception as error:
            why = first_line(error)
        else:
            return image
    raise refusal("", network, f"it takes no image of {channels} x {size} x {size} either ({why})")


def _alike(flat: Tensor, deep: Tensor) -> bool:
    """Whether a volume's features are an image's in each slice; depth is axis 2, or 1 where channels come last."""
    if flat.shape == deep.shape:
        return _close(flat, deep)
    return any(
        deep.ndim == flat.ndim + 1
        and deep.ndim > axis
        and deep.shape[axis] in {1, _SLICES}
        and deep.shape[:axis] + deep.shape[axis + 1 :] == flat.shape
        and _close(flat.unsqueeze(axis).expand_as(deep), deep)
        for axis in (2, 1)
    )


def _close(one: Tensor, other: Tensor) -> bool:
    if one.is_meta:
        return True
    tolerance = torch.finfo(one.dtype).eps ** 0.5 * one.abs().nan_to_num().max().item()
    return torch.allclose(one, other, rtol=0.0, atol=tolerance, equal_nan=True)
