"""Read weights files as pure tensors, fit them to a network, and convert files of other packages."""

import hashlib
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
"""Suffixes of torch's pickled files, of which only tensors are read; no code in them is run."""

_INSIDE: Final = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
"""Keys under which files with more content store weights; the paper's released files use ``net``."""

_UNNAMED: Final = {"first_conv": "conv1", "classifier": "fc"}
"""Layers of the networks of the MedMNIST paper, which have no `pretrained_cfg` that names them."""

_PUBLISHED: Final = ((re.compile(r"\.shortcut\."), ".downsample."), (re.compile(r"^linear\."), "fc."))
"""Patterns in names of the paper's released weights for 28 pixels, and their names in timm's ResNet."""

_SAVE_ALONE: Final = "save its state_dict() alone"
_LISTED: Final = 3


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file by name.

    Pickled files of torch (`PICKLED`) are read without running any code in them. They may store the weights under a
    key, such as ``{"net": ...}`` in the MedMNIST paper's released files or ``{"state_dict": ...}``.

    Args:
        path: A safetensors file or a pickled file of torch.

    Raises:
        TrainingError: The file cannot be read, or holds anything but named tensors.
    """
    if path.suffix.lower() in PICKLED:
        return _state_dict(_load_pickled(path), path)
    try:
        regular_size(path)  # safetensors and torch would wait for a pipe and read a device endlessly
        return load_file(path)
    except (OSError, SafetensorError) as error:
        endings = ", ".join(PICKLED)
        raise TrainingError(
            cannot_read(path, error, f"give a safetensors file, or one of torch ({endings})")
        ) from None


def _load_pickled(path: Path) -> Any:
    """Load a pickled file of torch, which may contain only tensors and plain containers."""
    try:
        regular_size(path)
        # With memory mapping, torch cannot allocate more than the file size; old formats do not support it.
        mapped = zipfile.is_zipfile(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old formats
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (OSError, MemoryError) as error:
        raise TrainingError(cannot_read(path, error, _SAVE_ALONE)) from None
    except Exception as error:  # torch and its unpickler raise many kinds of errors
        # torch's message is not quoted, as it recommends loading the file with its code.
        objects = re.search(r"GLOBAL `?([\w.]+)", str(error))
        why = f"it holds more than tensors: {objects[1]}" if objects else "it holds no tensors that torch can read"
    raise TrainingError(f"cannot read {path} ({why}): {_SAVE_ALONE}") from None


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The named tensors in the content of a pickled file."""
    tensors = next((content[key] for key in _INSIDE if _is_state_dict(content, key)), content)
    if not isinstance(tensors, Mapping) or not all(_is_named_tensor(*item) for item in tensors.items()):
        raise TrainingError(f"{path} holds no named weights: save the state_dict() of a network")
    return dict(tensors)


def _is_state_dict(content: Any, key: str) -> bool:
    return isinstance(content, Mapping) and isinstance(content.get(key), Mapping) and bool(content[key])


def _is_named_tensor(name: Any, value: Any) -> bool:
    """Whether this is a name with a tensor whose data in the file is as large as its shape claims."""
    if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    return value.is_quantized or value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def tensors_digest(tensors: Mapping[str, Tensor]) -> tuple[str, int]:
    """SHA-256 over names, types, shapes and values of tensors, sorted by name, and the number of their values."""
    digest, count = hashlib.sha256(), 0
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
        count += values.numel()
    return digest.hexdigest(), count


def strip_prefix(tensors: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """Remove prefixes that wrappers add to all names, such as ``module.``, ``model.`` or ``_orig_mod.``.

    Args:
        tensors: Weights by name.
        expected: Names in the network; stripping stops as soon as one of them matches.
    """
    names, stripped = set(expected), dict(tensors)
    while stripped and not names & stripped.keys():
        first, dot, _ = next(iter(stripped)).partition(".")
        if not dot or not all(name.startswith(f"{first}.") for name in stripped):
            return dict(tensors)
        stripped = {name.removeprefix(f"{first}."): value for name, value in stripped.items()}
    return stripped


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load weights into a network, except for a classifier with another number of classes.

    As in timm, position embeddings are resampled to the network's input size, and the first convolution is summed over
    its channels for gray images, or spread over three. A common prefix of all names is removed, and names in the
    MedMNIST paper's released weights are replaced by those of timm.

    Args:
        network: A network of timm or of the MedMNIST paper, for images or volumes.
        tensors: Tensors by name.
        where: Name of the weights in an error message.

    Raises:
        TrainingError: The weights do not fit; the message names the parameters.
    """
    expected = network.state_dict()
    settings = getattr(network, "pretrained_cfg", _UNNAMED)
    head = {f"{name}.{part}" for name in layer_names(settings["classifier"]) for part in ("weight", "bias")}
    named = strip_prefix(tensors, expected)
    if settings is _UNNAMED and not named.keys() <= expected.keys():
        named = {_timm_name(name): value for name, value in named.items()}
    fitting = _resample(network, named, expected)
    for name in layer_names(settings["first_conv"]):
        _fit_channels(fitting, f"{name}.weight", expected)
    if any(name in fitting and fitting[name].shape != expected[name].shape for name in head & set(expected)):
        fitting = {name: value for name, value in fitting.items() if name not in head}
    _compare(fitting, expected, head, where)
    network.load_state_dict(fitting, strict=False)


def _timm_name(name: str) -> str:
    for pattern, replacement in _PUBLISHED:
        name = pattern.sub(replacement, name)
    return name


def layer_names(layers: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Convert one, several or no layer names to a tuple."""
    return (layers,) if isinstance(layers, str) else tuple(layers or ())


def _resample(network: nn.Module, tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert weights to the names and sizes of this network, if its timm module supports it."""
    if all(name in expected and value.shape == expected[name].shape for name, value in tensors.items()):
        return tensors
    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if adapt is None:
        return tensors
    try:
        adapted: dict[str, Tensor] = adapt(dict(tensors), network)
    except Exception:  # each timm module has its own function
        return tensors  # weights of another network: the caller names what does not fit
    return adapted


def _fit_channels(tensors: dict[str, Tensor], name: str, expected: Mapping[str, Tensor]) -> None:
    """Sum a first 2D convolution over its channels, or spread it over three."""
    if name not in tensors or name not in expected or tensors[name].ndim != 4 or expected[name].ndim != 4:
        return
    before, after = tensors[name].shape[1], expected[name].shape[1]
    if {before, after} == {1, 3}:
        tensors[name] = adapt_input_conv(after, tensors[name], base_chans=before)


def _compare(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], head: set[str], where: str) -> None:
    wrong = [
        f"{name} ({_shape(tensors[name])} instead of {_shape(value)})"
        for name, value in expected.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    missing = [name for name in expected if name not in tensors and name not in head and not _is_count(name)]
    unknown = [name for name in tensors if name not in expected]
    hint = "" if expected.keys() & tensors.keys() else _prefixes(tensors, missing)
    for names, what in ((wrong, "of another shape"), (missing, "missing"), (unknown, "unknown to it")):
        if names:
            raise TrainingError(
                f"{where} does not fit the network: {first_names(names)} {what}{hint}; name the model it was made for"
            )


def _prefixes(tensors: Mapping[str, Tensor], missing: list[str]) -> str:
    """A hint if missing weights exist under a prefix that not all names have."""
    ends = {f".{name}" for name in missing[:_LISTED]}
    prefixes = {name[: 1 - len(end)] for end in ends for name in tensors if name.endswith(end)}
    return f" (but present with the prefix {' or '.join(sorted(prefixes)[:_LISTED])})" if prefixes else ""


def first_names(names: list[str]) -> str:
    """Join the first names of a list and say how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _shape(value: Tensor) -> str:
    return " x ".join(map(str, value.shape))


def _is_count(name: str) -> bool:
    """Whether a tensor is the batch count of a norm, which old checkpoints lack."""
    return name.endswith("num_batches_tracked")


def convert_in_order(source: Path, architecture: str, out: Path) -> int:
    """Rename the tensors of a checkpoint after those of a timm network with the same tensors in the same order.

    Only tensors are read from the checkpoint; torch refuses anything else.

    Args:
        source: Pickled file of torch, a dictionary of tensors.
        architecture: Name of the network in timm.
        out: Safetensors file to write; its folder is created.

    Returns:
        Number of tensors.

    Raises:
        TrainingError: The checkpoint cannot be read, or its tensors do not match the network.
    """
    tensors = _load_pickled(source)
    expected = timm.create_model(architecture, pretrained=False).state_dict()
    if not isinstance(tensors, Mapping) or _kinds(tensors) != _kinds(expected):
        raise TrainingError(f"{source} does not hold the tensors of timm's {architecture}: name another network")
    out.parent.mkdir(parents=True, exist_ok=True)
    renamed = {name: value.contiguous() for name, value in zip(expected, tensors.values(), strict=True)}
    write_atomically(out, save(renamed))
    return len(expected)


def _kinds(tensors: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Role in its layer (``weight``, ``running_mean``, ...) and shape of each tensor."""
    return [(name.rpartition(".")[2], getattr(value, "shape", None)) for name, value in tensors.items()]
