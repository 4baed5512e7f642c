"""Weights in files: read as tensors alone, made to fit a network, and taken over from another package's file."""

import re
import sys
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from timm.models import adapt_input_conv
from torch import Tensor, nn

from medmnist_hf.errors import TrainingError, cannot_read
from medmnist_hf.files import regular_size, write_atomically

PICKLED: Final = (".pth", ".pt", ".bin", ".ckpt")
"""What the names of torch's own files end in; of these tensors are read, and nothing in them is run."""

_INSIDE: Final = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
"""Where a file that holds more than weights has them; ``net`` is where the paper's released files do."""

_UNNAMED: Final = {"first_conv": "conv1", "classifier": "fc"}
"""Layers of the networks of the MedMNIST paper, which carry no `pretrained_cfg` that names them."""

_PUBLISHED: Final = ((re.compile(r"\.shortcut\."), ".downsample."), (re.compile(r"^linear\."), "fc."))
"""Names in the paper's released weights for 28 pixels, and those that timm's ResNet gives the same layers."""

_SAVE_ALONE: Final = "save its state_dict() alone"
_LISTED: Final = 3


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, as it names them.

    A file of torch (`PICKLED`) is read without running what is pickled in it. It may hold the weights under a key, as
    ``{"net": ...}`` of the MedMNIST paper's released files or ``{"state_dict": ...}``.

    Args:
        path: A safetensors file, or one of torch.

    Raises:
        TrainingError: The file cannot be read, or holds something else.
    """
    if path.suffix.lower() in PICKLED:
        return _state_dict(_unpickled(path), path)
    try:
        regular_size(path)  # safetensors, as torch, waits for a pipe and reads a device without end
        return load_file(path)
    except (OSError, SafetensorError) as error:
        endings = ", ".join(PICKLED)
        raise TrainingError(
            cannot_read(path, error, f"give a safetensors file, or one of torch ({endings})")
        ) from None


def _unpickled(path: Path) -> Any:
    """What a file of torch holds; nothing but tensors and plain containers is accepted."""
    try:
        regular_size(path)
        # Mapped, a file cannot make torch allocate more than its own size; files of old releases cannot be.
        mapped = zipfile.is_zipfile(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (OSError, MemoryError) as error:
        raise TrainingError(cannot_read(path, error, _SAVE_ALONE)) from None
    except Exception as error:  # torch and its unpickler say in many ways that a file is none of theirs
        # torch's own words go on to advise loading it with code.
        objects = re.search(r"GLOBAL `?([\w.]+)", str(error))
        why = f"it holds more than tensors: {objects[1]}" if objects else "it holds no tensors that torch can read"
    raise TrainingError(f"cannot read {path} ({why}): {_SAVE_ALONE}") from None


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors by name in what a file of torch holds."""
    found = next((content[key] for key in _INSIDE if _is_state_dict(content, key)), content)
    if not isinstance(found, Mapping) or not all(_is_named_tensor(*item) for item in found.items()):
        raise TrainingError(f"{path} holds no weights by name: save the state_dict() of a network")
    return dict(found)


def _is_state_dict(content: Any, key: str) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get(key), Mapping) and bool(content[key])


def _is_named_tensor(name: Any, value: Any) -> bool:
    """Whether it is a name and a tensor that lies in the file as large as it says."""
    if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    return value.is_quantized or value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def without_prefix(found: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """Weights without what wrappers put before all names, as ``module.``, ``model.`` or ``_orig_mod.`` do.

    Args:
        found: Weights by name.
        wanted: Names of the network; as soon as one is among those found, nothing more is taken off.
    """
    known, stripped = set(wanted), dict(found)
    while stripped and not known & stripped.keys():
        first, dot, _ = next(iter(stripped)).partition(".")
        if not dot or not all(name.startswith(f"{first}.") for name in stripped):
            return dict(found)
        stripped = {name.removeprefix(f"{first}."): value for name, value in stripped.items()}
    return stripped


def load_weights(network: nn.Module, found: Mapping[str, Tensor], where: str) -> None:
    """Load weights into a network, all of them but a classifier of other classes.

    As timm does for weights it fetches, position embeddings are resampled to the network's size of input, and the
    first convolution is summed over its channels for gray images, or spread over three. A prefix that all names have
    in common is taken off, and the released weights of the MedMNIST paper get timm's names.

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
    named = without_prefix(found, wanted)
    if shown is _UNNAMED:
        named = {_timm_name(name): value for name, value in named.items()}
    fitting = _resampled(network, named, wanted)
    for name in layer_names(shown["first_conv"]):
        _fit_channels(fitting, f"{name}.weight", wanted)
    if any(name in fitting and fitting[name].shape != wanted[name].shape for name in head & set(wanted)):
        fitting = {name: value for name, value in fitting.items() if name not in head}
    _compare(fitting, wanted, head, where)
    network.load_state_dict(fitting, strict=False)


def _timm_name(name: str) -> str:
    for pattern, replacement in _PUBLISHED:
        name = pattern.sub(replacement, name)
    return name


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
    except Exception:  # every module of timm has one of its own
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
    hint = "" if wanted.keys() & found.keys() else _prefixes(found, missing)
    for names, what in ((wrong, "of another shape"), (missing, "missing"), (unknown, "unknown to it")):
        if names:
            raise TrainingError(
                f"{where} does not fit the network: {listed(names)} {what}{hint}; name the model that it was made for"
            )


def _prefixes(found: Mapping[str, Tensor], missing: list[str]) -> str:
    """Where weights that are missing are there after all, but under a prefix that not all names have: which it is."""
    ends = {f".{name}" for name in missing[:_LISTED]}
    prefixes = {name[: 1 - len(end)] for end in ends for name in found if name.endswith(end)}
    return f" (there with {' or '.join(sorted(prefixes)[:_LISTED])} before the name)" if prefixes else ""


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
    found = _unpickled(source)
    wanted = timm.create_model(architecture, pretrained=False).state_dict()
    if not isinstance(found, Mapping) or _kinds(found) != _kinds(wanted):
        raise TrainingError(f"{source} does not hold the tensors of timm's {architecture}: name another network")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, save({name: value.contiguous() for name, value in zip(wanted, found.values(), strict=True)}))
    return len(wanted)


def _kinds(tensors: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Of each tensor, what it is to its layer (``weight``, ``running_mean``, ...), and its shape."""
    return [(name.rpartition(".")[2], getattr(value, "shape", None)) for name, value in tensors.items()]
