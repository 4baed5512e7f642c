"""Compare a 2.5D conversion with its 2D original, layer by layer.

If all slices of a volume are the same image, a network that processes slices separately and averages over them gives
the same output as the 2D network for the image. A layer that confuses axes does not.
"""

from typing import Any

import torch
from torch import Tensor, nn

from medmnist_hf.errors import TrainingError, first_line

# Not a power of two, so that depth is not confused with the height or width of a feature map.
_SLICES = 3


def refusal(name: str, module: nn.Module, why: str) -> TrainingError:
    """The error for a layer that cannot be converted, or for the whole network if the name is empty."""
    layer = f"layer {name}" if name else "the network"
    return TrainingError(f"{layer} ({type(module).__name__}) cannot read volumes: {why}; choose another 2D CNN")


def compare_layers(flat: nn.Module, deep: nn.Module, *, skip_inside: type) -> None:
    """Run a network on an image and its 2.5D form on slices of the same image, and compare the outputs of each layer.

    Both networks are set to evaluation mode and keep hooks, so pass copies; they may share parameters. On torch's meta
    device only shapes are compared.

    Args:
        flat: The 2D network.
        deep: Its 2.5D form, with the same layer names.
        skip_inside: Class of layers whose inner layers are not compared, because they see other shapes.

    Raises:
        TrainingError: A layer fails or gives other outputs; the message names the first and innermost such layer.
    """
    outputs: dict[str, list[Tensor]] = {}
    running: list[str] = []

    def keep(name: str, output: Any) -> None:
        if isinstance(output, Tensor):
            outputs.setdefault(name, []).append(output.clone())  # the next layer may work in place

    def check(name: str, module: nn.Module, output: Any) -> None:
        running.pop()
        if isinstance(output, Tensor) and not _equivalent(outputs[name].pop(0), output):
            raise refusal(name, module, "for equal slices its output differs from the 2D layer")

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
    """Find an image that the 2D network accepts, and run the network on it."""
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
    raise refusal("", network, f"it cannot read an image of {channels} x {size} x {size} either ({why})")


def _equivalent(flat: Tensor, deep: Tensor) -> bool:
    """Whether each slice of a volume's features equals an image's; depth is axis 2, or 1 with channels last."""
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


def _close(expected: Tensor, actual: Tensor) -> bool:
    if expected.is_meta:
        return True
    tolerance = torch.finfo(expected.dtype).eps ** 0.5 * expected.abs().nan_to_num().max().item()
    return torch.allclose(expected, actual, rtol=0.0, atol=tolerance, equal_nan=True)
