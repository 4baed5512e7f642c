"""Check before training that a network can read images of a size, and sees all of their pixels.

Networks that cut images into patches ignore pixels after the last whole patch: with patches of 16 pixels, they see
16 x 16 of 28 x 28. The pixels seen are measured by gradients, as those on which the network's features depend.
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
from medmnist_hf.own_code.names import public_code
from medmnist_hf.own_code.running import OWN_ERRORS, describe_value, explain
from medmnist_hf.training.models.heads import classifier_of, network_of
from medmnist_hf.training.recipe import Recipe

_log = logging.getLogger(__name__)

STEPS: Final = (2, 4, 8, 14, 16, 32, 48, 64)
"""Sizes of patches and strides; an image size that a network sees completely is usually a multiple of one of them."""

UNDERFLOW: Final = 1e-20
"""If the largest derivative is smaller, others may underflow in float32, as in MobileViT with small random weights."""

DRAWS: Final = 8
"""Maximum number of random pairs of images to try while each reveals more pixels. In narrow stems with ReLU, such as
that of dpn48b, all activations that depend on a pixel can be zero for one pair."""

TRIAL_ROWS: Final = 3
"""Rows of the batch on which a network from a user's file is tried."""

STRETCH: Final = "interpolate_pos_encoding"
"""Name of the argument and method of transformers' modules that adapt positions to images of another size."""


def check_input(
    model: nn.Module,
    name: str,
    shape: tuple[int, ...],
    remake: Callable[[Literal[1, 3], int], nn.Module],
    *,
    auto: bool = True,
) -> None:
    """Refuse a network that cannot read inputs of a shape, or sees only a part of them.

    For volumes, only whether they can be read is checked: along each axis, a converted network sees what its 2D
    original sees.

    Args:
        model: A model whose result has ``logits``, or a network that returns them; it is not modified.
        name: Name of the model in the error message.
        shape: Channels and sides of the input: (C, H, W) or (C, D, H, W), with equal sides.
        remake: Makes such a model for a number of channels and an image size, or returns an equivalent one.
        auto: Whether the message may recommend the size ``auto``.

    Raises:
        TrainingError: The network cannot read the inputs or does not see all of their pixels. If another size, or RGB
            instead of gray images, works, the message names it.
    """
    channels: Literal[1, 3] = 1 if shape[0] == 1 else 3
    size, sides = shape[-1], len(shape) - 1

    def problem_of(channels: Literal[1, 3], size: int) -> str | None:
        return _problem(lambda: remake(channels, size), (channels, *[size] * sides))

    problem = _problem(lambda: model, shape)
    if problem is None:
        return
    rgb_problem = problem if channels == 3 else problem_of(3, size)
    if rgb_problem is None:
        raise TrainingError(f"{name} {problem}: give --channels 3")
    sizes, hint, or_auto = list(_candidates(model, size)), "name another model", " or auto" if auto else ""
    fitting = next((candidate for candidate in sizes if problem_of(channels, candidate) is None), None)
    if fitting is not None:
        hint = f"give --image-size {fitting}{or_auto}"
    elif rgb_problem != problem:  # otherwise the channels are not the problem
        fitting = next((candidate for candidate in sizes if problem_of(3, candidate) is None), None)
        hint = hint if fitting is None else f"give --channels 3 --image-size {fitting}{or_auto}"
    raise TrainingError(f"{name} {problem}: {hint}")


def check_outputs(network: nn.Module, code: str, shape: tuple[int, ...], outputs: int | None) -> int:
    """Refuse a network from a user's file whose outputs are not as needed, in evaluation and in training mode.

    Args:
        network: The network; its parameters, mode and buffers do not change, unless they were not initialized.
        code: Name of the function that made it.
        shape: As in `check_input`.
        outputs: Number of logits; None if the network returns features.

    Returns:
        Number of columns of the outputs.

    Raises:
        TrainingError: The network fails, or its outputs have another shape or type or are not finite.
    """
    name, training, width = public_code(code), network.training, outputs
    images = torch.randn(TRIAL_ROWS, *shape, generator=torch.Generator().manual_seed(0))
    buffers: dict[str, Tensor] = {}
    for is_training in (False, True):
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                result = network.train(is_training)(images)
        except OWN_ERRORS as error:
            raise TrainingError(
                f"{name} cannot read a batch of shape {tuple(images.shape)} ({explain(error, code)}): fix it there"
            ) from None
        is_fitting = isinstance(result, Tensor) and result.is_floating_point() and result.ndim == 2
        if not is_fitting or len(result) != TRIAL_ROWS or result.shape[1] != (width or result.shape[1]):
            wanted = f"logits of shape ({TRIAL_ROWS}, {outputs})"
            hint = "" if outputs is None else ", or features if the function has no argument num_classes"
            raise TrainingError(
                f"{name} returned {describe_value(result)} for a batch of shape {tuple(images.shape)}: return "
                + (f"{wanted}{hint}" if outputs else f"float features of shape ({TRIAL_ROWS}, F)")
            )
        if not torch.isfinite(result).all():
            raise TrainingError(f"{name} returned values that are not finite for random images: check its weights")
        width = int(result.shape[1])
        if not is_training:
            buffers = {key: value.clone() for key, value in network.named_buffers()}
    for key, value in network.named_buffers():
        value.copy_(buffers[key])
    network.train(training)
    return int(width or 0)


def nearest_size(shape: tuple[int, ...], remake: Callable[[Literal[1, 3], int], nn.Module]) -> int | None:
    """Find the size nearest to that of images for which a network sees all pixels; None if it is not found.

    Args:
        shape: As in `check_input`, for images.
        remake: As in `check_input`.
    """
    channels: Literal[1, 3] = 1 if shape[0] == 1 else 3
    size = shape[-1]
    sizes = {round_to(size / step) * step for step in STEPS for round_to in (math.floor, math.ceil)} - {0, size}

    def fits(candidate: int) -> bool:
        return _problem(lambda: remake(channels, candidate), (channels, candidate, candidate)) is None

    return next(filter(fits, sorted(sizes, key=lambda candidate: abs(candidate - size))), None)


def _problem(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> str | None:
    """Describe why a network cannot read inputs, to follow its name in a message; None if it can."""
    size = shape[-1]
    try:
        share = share_seen(make(), shape)
    except Exception as error:  # networks raise many kinds of errors
        return f"cannot read images of {size} pixels ({first_line(error)})"
    if share == 1:
        return None
    return f"sees {min(math.floor(100 * share), 99)} % of an image of {size} x {size} pixels"


def pixels_seen(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Find the pixels or voxels of an input on which the features and logits of a network depend.

    Weights that are initialized to zero, such as the last norm of residual blocks and some classifiers, block
    gradients, so they are temporarily replaced by random values.

    Args:
        model: As in `check_input`.
        shape: As in `check_input`.

    Returns:
        bool of the input's sides, on the CPU.
    """
    seen = torch.zeros(shape[1:], dtype=torch.bool)
    for seed in range(DRAWS):
        previous = seen
        gradients = _input_gradients(model, shape, seed)
        if gradients.abs().max() < UNDERFLOW:
            # Fails for modules that cast to float32.
            with contextlib.suppress(RuntimeError):
                gradients = _input_gradients(copy.deepcopy(model).double(), shape, seed)
        seen = previous | (gradients != 0).flatten(0, 1).any(0).cpu()
        if seen.all() or torch.equal(seen, previous):
            break
    return seen


def _input_gradients(model: nn.Module, shape: tuple[int, ...], seed: int) -> Tensor:
    """Gradients of random sums of features and logits by the input, (2, C, H, W) or (2, C, D, H, W)."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    training, features = model.training, []
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, *shape, generator=generator).to(flags[0][0]).requires_grad_()
    _, classifier = classifier_of(model)
    hooks = [classifier.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))]
    hooks += [
        module.register_forward_hook(_check_positions, with_kwargs=True)
        for module in model.modules()
        if hasattr(module, STRETCH) and STRETCH in inspect.signature(module.forward).parameters
    ]
    # The first element is tested first, which is faster for most tensors.
    zeros = [weight for weight, _ in flags if not (weight.numel() and weight[(0,) * weight.ndim]) and not weight.any()]
    try:
        model.eval().requires_grad_(False)
        for weight in zeros:
            weight.copy_(torch.randn(weight.shape, generator=generator).mul(0.1).add(0.1))
        with torch.enable_grad():
            outputs: Any = model(images * 1)
            parts = [getattr(outputs, "logits", outputs), *(part for part in features if part.requires_grad)]
            factors = [torch.randn(part.shape, generator=generator).to(part) for part in parts]
            total = sum((part * factor).sum() for part, factor in zip(parts, factors, strict=True))
            (gradients,) = torch.autograd.grad(total, images)
    finally:
        for hook in hooks:
            hook.remove()
        for weight in zeros:
            weight.zero_()
        model.train(training)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
    return gradients


def _check_positions(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], tokens: object) -> None:
    """Refuse to broadcast the single token of a small image over all positions.

    SigLIP adds position embeddings without checking their number, which turns one token into one per position.
    """
    call = inspect.signature(module.forward).bind(*inputs, **options)
    call.arguments[STRETCH] = True
    try:
        with torch.no_grad():
            fitting = module.forward(*call.args, **call.kwargs)
    except Exception:  # without support for other sizes this cannot be checked
        return
    if isinstance(tokens, Tensor) and isinstance(fitting, Tensor) and tokens.shape != fitting.shape:
        raise ValueError("its position embeddings are for another size")


def share_seen(model: nn.Module, shape: tuple[int, ...]) -> float:
    """Fraction of the pixels that a network sees; 1 for a network that can read volumes."""
    if len(shape) == 3:
        return pixels_seen(model, shape).float().mean().item()
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    model.train(training)
    return 1.0


def _candidates(model: Any, size: int) -> Iterator[int]:
    """Alternative sizes to try: the next larger ones first, then the network's own and smaller ones."""
    own = _sizes_of(model)
    larger = {math.ceil(size / step) * step for step in STEPS}
    smaller = {size // step * step for step in STEPS}
    seen = {size, 0}
    for candidate in (*sorted(larger), *own, 224, *sorted(smaller, reverse=True)):
        if isinstance(candidate, int) and candidate not in seen:
            seen.add(candidate)
            yield candidate


def own_sizes(config: Any) -> list[int]:
    """Image sizes in the configuration of a model of `transformers`."""
    parts = [config, *(getattr(config, part, None) for part in ("backbone_config", "vision_config"))]
    sides = [getattr(part, "image_size", None) for part in parts]
    sides += [(getattr(config, "pretrained_cfg", None) or {}).get("input_size")]
    sizes = [side[-1] if isinstance(side, list | tuple) and side else side for side in sides]
    return [size for size in sizes if isinstance(size, int)]


def _sizes_of(model: Any) -> list[int]:
    """Image sizes in the configuration of a model, or of the timm network in it."""
    own = getattr(network_of(model), "pretrained_cfg", {}).get("input_size", ())[-1:]
    return [*own_sizes(getattr(model, "config", None)), *own]


def warn_if_small(recipe: Recipe, model: nn.Module) -> None:
    """Warn if images are less than half the size on which the weights were pretrained.

    Args:
        recipe: The recipe.
        model: The network of the recipe.
    """
    if not recipe.pretrained or recipe.checkpoint is not None or recipe.ndim == 3 or recipe.image_size == "auto":
        return
    size = recipe.input_size
    own = max(_sizes_of(model), default=0)
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
