"""Whether a network can read images of a size, and sees all of them: refused before anything is trained if not.

Networks that cut images into patches leave out what lies behind the last whole patch: one of patches of 16 pixels sees
16 x 16 of 28 x 28. What a network sees is measured: the pixels on which its features depend, by their gradients.
"""

import contextlib
import copy
import inspect
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from medmnist_hf.errors import TrainingError, first_line
from medmnist_hf.training.models.heads import classifier_of
from medmnist_hf.training.recipe import Recipe

_log = logging.getLogger(__name__)

STEPS: Final = (2, 4, 8, 14, 16, 32, 48, 64)
"""Sizes of patches and strides; an image size that a network reads whole is usually a multiple of one of them."""

UNDERFLOW: Final = 1e-20
"""Largest derivative below which others may be zero in float32 alone, as in MobileViT with small random weights."""

DRAWS: Final = 8
"""Most pairs of random images that are tried while each shows more pixels: in narrow stems with ReLU, such as that of
dpn48b, all that one place leads to can be zero for one pair."""

STRETCH: Final = "interpolate_pos_encoding"
"""What modules of transformers call the argument, and the method, by which positions fit images of another size."""


def check_input(
    model: nn.Module, name: str, shape: tuple[int, ...], remake: Callable[[Literal[1, 3], int], nn.Module]
) -> None:
    """Refuse a network that cannot read inputs, or sees a part of them alone.

    Of volumes only whether they can be read is looked at: what their networks see along each axis is what the 2D ones
    see that they are made of.

    Args:
        model: A model whose result has ``logits``, or a network that gives them; it is left as it was.
        name: What to call it.
        shape: Channels and sides of the input: (C, H, W) or (C, D, H, W), of equal sides.
        remake: Makes such a model, or gives it again, for so many channels and an image size.

    Raises:
        TrainingError: It cannot read them or does not see all of them; the message names what it does read whole, if
            one of the sizes tried is, or RGB images are where gray ones are not.
    """
    channels: Literal[1, 3] = 1 if shape[0] == 1 else 3
    size, sides = shape[-1], len(shape) - 1

    def problem_of(channels: Literal[1, 3], size: int) -> str | None:
        return _problem(lambda: remake(channels, size), (channels, *[size] * sides))

    problem = _problem(lambda: model, shape)
    if problem is None:
        return
    of_rgb = problem if channels == 3 else problem_of(3, size)
    if of_rgb is None:
        raise TrainingError(f"{name} {problem}: give --channels 3")
    sizes, hint = list(_candidates(model, size)), "name another model"
    fitting = next((one for one in sizes if problem_of(channels, one) is None), None)
    if fitting is not None:
        hint = f"give --image-size {fitting}"
    elif of_rgb != problem:  # otherwise channels are not what is wrong
        fitting = next((one for one in sizes if problem_of(3, one) is None), None)
        hint = hint if fitting is None else f"give --channels 3 --image-size {fitting}"
    raise TrainingError(f"{name} {problem}: {hint}")


def _problem(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> str | None:
    """What is wrong with a network's reading of inputs, in words that follow its name; None if nothing is."""
    size = shape[-1]
    try:
        share = _share(make(), shape)
    except Exception as error:  # networks check their inputs in many ways, or not at all
        return f"cannot read images of {size} pixels ({first_line(error)})"
    if share == 1:
        return None
    return f"sees {min(math.floor(100 * share), 99)} % of an image of {size} x {size} pixels"


def pixels_seen(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """On which pixels or voxels of an input the features and logits of a network depend.

    Weights that start as zeros, such as those of the last norm of residual blocks and of some classifiers, hide what
    comes before them until they are trained: meanwhile they are other numbers.

    Args:
        model: As for `check_input`.
        shape: As there.

    Returns:
        bool of the input's sides, on the CPU.
    """
    seen = torch.zeros(shape[1:], dtype=torch.bool)
    for seed in range(DRAWS):
        before = seen
        slopes = _slopes(model, shape, seed)
        if slopes.abs().max() < UNDERFLOW:
            # Some modules cast to float32 themselves.
            with contextlib.suppress(RuntimeError):
                slopes = _slopes(copy.deepcopy(model).double(), shape, seed)
        seen = before | (slopes != 0).flatten(0, 1).any(0).cpu()
        if seen.all() or torch.equal(seen, before):
            break
    return seen


def _slopes(model: nn.Module, shape: tuple[int, ...], seed: int) -> Tensor:
    """Derivatives of random sums of a network's features and logits by its input, (2, C, H, W) or (2, C, D, H, W)."""
    flags = [(one, one.requires_grad) for one in model.parameters()]
    training, features = model.training, []
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, *shape, generator=generator).to(flags[0][0]).requires_grad_()
    _, classifier = classifier_of(model)
    hooks = [classifier.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))]
    hooks += [
        one.register_forward_hook(_check_positions, with_kwargs=True)
        for one in model.modules()
        if hasattr(one, STRETCH) and STRETCH in inspect.signature(one.forward).parameters
    ]
    zeros = [one for one, _ in flags if not (one.numel() and one[(0,) * one.ndim]) and not one.any()]
    try:
        model.eval().requires_grad_(False)
        for one in zeros:
            one.copy_(torch.randn(one.shape, generator=generator).mul(0.1).add(0.1))
        with torch.enable_grad():
            outputs: Any = model(images * 1)
            parts = [getattr(outputs, "logits", outputs), *(one for one in features if one.requires_grad)]
            weights = [torch.randn(one.shape, generator=generator).to(one) for one in parts]
            aim = sum((part * weight).sum() for part, weight in zip(parts, weights, strict=True))
            (slopes,) = torch.autograd.grad(aim, images)
    finally:
        for hook in hooks:
            hook.remove()
        for one in zeros:
            one.zero_()
        model.train(training)
        for one, flag in flags:
            one.requires_grad_(flag)
    return slopes


def _check_positions(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], tokens: object) -> None:
    """Refuse to add positions of another size to the only token of a small image.

    SigLIP adds its position embeddings without a look at their number: one token becomes as many as there are of them.
    """
    call = inspect.signature(module.forward).bind(*inputs, **options)
    call.arguments[STRETCH] = True
    try:
        with torch.no_grad():
            fitting = module.forward(*call.args, **call.kwargs)
    except Exception:  # without a form for other sizes nothing can be said
        return
    if isinstance(tokens, Tensor) and isinstance(fitting, Tensor) and tokens.shape != fitting.shape:
        raise ValueError("it has position embeddings for another size alone")


def _share(model: nn.Module, shape: tuple[int, ...]) -> float:
    """The share of the pixels that a network sees; of one that can read volumes 1."""
    if len(shape) == 3:
        return pixels_seen(model, shape).float().mean().item()
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    model.train(training)
    return 1.0


def _candidates(model: Any, size: int) -> Iterator[int]:
    """Sizes that may fit where one does not, the next larger ones first, then the network's own and smaller ones."""
    own = _own_sizes(model)
    larger = {math.ceil(size / step) * step for step in STEPS}
    smaller = {size // step * step for step in STEPS}
    seen = {size, 0}
    for one in (*sorted(larger), *own, 224, *sorted(smaller, reverse=True)):
        if isinstance(one, int) and one not in seen:
            seen.add(one)
            yield one


def _own_sizes(model: Any) -> list[Any]:
    """Image sizes that a network's configuration names."""
    network = getattr(model, "timm_model", None) or getattr(model, "network", None) or model
    config = getattr(model, "config", None)
    parts = [config, *(getattr(config, part, None) for part in ("backbone_config", "vision_config"))]
    own = [getattr(one, "image_size", None) for one in parts]
    return [*own, *getattr(network, "pretrained_cfg", {}).get("input_size", ())[-1:]]


def warn_if_small(recipe: Recipe, model: nn.Module) -> None:
    """Warn of pretrained weights that get images of less than half the size that they were trained on.

    Args:
        recipe: Names the network and the size of its input.
        model: The network, made by the recipe.
    """
    if not recipe.pretrained or recipe.checkpoint is not None or recipe.subset.ndim == 3:
        return
    size = recipe.image_size or recipe.size
    own = max((one for one in _own_sizes(model) if isinstance(one, int)), default=0)
    if 2 * size < own:
        _log.warning(
            "%s was pretrained on images of %d pixels and gets %d, which costs accuracy: give --image-size %d (or %d, "
            "which is faster)",
            recipe.model,
            own,
            size,
            own,
            own // 2,
        )
