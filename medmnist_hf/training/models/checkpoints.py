"""Weights in safetensors files: read, made to fit a network, and taken over from another package's file."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from timm.models import adapt_input_conv
from torch import Tensor, nn

from medmnist_hf.errors import TrainingError, first_line
from medmnist_hf.files import write_atomically

_WRAPPERS: Final = ("timm_model.", "network.")
"""What the models of `medmnist_hf.training.models` put before the names of a network's tensors."""

_UNNAMED: Final = {"first_conv": "conv1", "classifier": "fc"}
"""Layers of the networks of the MedMNIST paper, which carry no `pretrained_cfg` that names them."""

_LISTED: Final = 3


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name.

    Raises:
        TrainingError: The file cannot be read.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"cannot read {path} ({first_line(error)}): give a safetensors file") from None


def read_weights(path: Path) -> dict[str, Tensor]:
    """As `read_tensors`, by the names that the bare network gives them.

    Args:
        path: A checkpoint of timm, or ``model.safetensors`` in a folder that a run left.
    """
    found = read_tensors(path)
    for wrapper in _WRAPPERS:
        found = {name.removeprefix(wrapper): value for name, value in found.items()}
    return found


def load_weights(network: nn.Module, found: Mapping[str, Tensor], where: str) -> None:
    """Load weights into a network, all of them but a classifier of other classes.

    As timm does for weights it fetches, position embeddings are resampled to the network's size of input, and the
    first convolution is summed over its channels for gray images, or spread over three.

    Args:
        network: A network of timm or of the MedMNIST paper, 2D or made to read volumes.
        found: Tensors by name.
        where: What to call them in an error.

    Raises:
        TrainingError: They do not fit; the message names the parameters.
    """
    wanted = network.state_dict()
    shown = getattr(network, "pretrained_cfg", _UNNAMED)
    head = {f"{name}.{part}" for name in layer_names(shown["classifier"]) for part in ("weight", "bias")}
    fitting = _resampled(network, dict(found), wanted)
    for name in layer_names(shown["first_conv"]):
        _fit_channels(fitting, f"{name}.weight", wanted)
    if any(name in fitting and fitting[name].shape != wanted[name].shape for name in head & set(wanted)):
        fitting = {name: value for name, value in fitting.items() if name not in head}
    _compare(fitting, wanted, head, where)
    network.load_state_dict(fitting, strict=False)


def layer_names(layers: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Names of layers as a tuple, from one, several or none."""
    return (layers,) if isinstance(layers, str) else tuple(layers or ())


def _resampled(network: nn.Module, found: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights by the names and sizes of this network, where its module in timm knows how to get there."""
    if all(name in wanted and value.shape == wanted[name].shape for name, value in found.items()):
        return found
    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if adapt is None:
        return found
    try:
        adapted: dict[str, Tensor] = adapt(dict(found), network)
    except (LookupError, RuntimeError, TypeError, ValueError, AssertionError, AttributeError):
        return found  # of another network: what does not fit is named by the caller
    return adapted


def _fit_channels(found: dict[str, Tensor], name: str, wanted: Mapping[str, Tensor]) -> None:
    """Sum a first convolution of 2D over its channels, or spread it."""
    if name not in found or name not in wanted or found[name].ndim != 4 or wanted[name].ndim != 4:
        return
    before, after = found[name].shape[1], wanted[name].shape[1]
    if {before, after} == {1, 3}:
        found[name] = adapt_input_conv(after, found[name], base_chans=before)


def _compare(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], head: set[str], where: str) -> None:
    wrong = [
        f"{name} ({_shape(found[name])} and not {_shape(value)})"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    missing = [name for name in wanted if name not in found and name not in head and not _is_count(name)]
    unknown = [name for name in found if name not in wanted]
    for names, what in ((wrong, "of another shape"), (missing, "missing"), (unknown, "unknown to it")):
        if names:
            raise TrainingError(
                f"{where} does not fit the network: {listed(names)} {what}; name the model that it was made for"
            )


def listed(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _shape(value: Tensor) -> str:
    return " x ".join(map(str, value.shape))


def _is_count(name: str) -> bool:
    """Whether a tensor counts the batches that a norm has seen, which old checkpoints lack."""
    return name.endswith("num_batches_tracked")


def convert_in_order(source: Path, architecture: str, out: Path) -> int:
    """Rename the tensors of a checkpoint to those of a network that has the same ones in the same order.

    The checkpoint is read as tensors alone: torch refuses everything else in it.

    Args:
        source: Checkpoint of torch, a dictionary of tensors.
        architecture: A name of timm.
        out: Safetensors file to write; its folder is made.

    Returns:
        Number of tensors.

    Raises:
        TrainingError: The checkpoint cannot be read, or its tensors are not those of the network.
    """
    try:
        found: Any = torch.load(source, map_location="cpu", weights_only=True)
    except OSError as error:
        raise TrainingError(f"cannot read {source} ({error.strerror}): give a checkpoint of tensors") from None
    except Exception as error:  # torch and its unpickler say in many ways that a file is none of theirs
        raise TrainingError(f"cannot read {source} ({first_line(error)}): give a checkpoint of tensors") from None
    wanted = timm.create_model(architecture, pretrained=False).state_dict()
    if not isinstance(found, Mapping) or _kinds(found) != _kinds(wanted):
        raise TrainingError(f"{source} does not hold the tensors of timm's {architecture}: name another network")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, save({name: value.contiguous() for name, value in zip(wanted, found.values(), strict=True)}))
    return len(wanted)


def _kinds(tensors: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Of each tensor, what it is to its layer (``weight``, ``running_mean``, ...), and its shape."""
    return [(name.rpartition(".")[2], getattr(value, "shape", None)) for name, value in tensors.items()]
