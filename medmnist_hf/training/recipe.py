"""What a run does, as one flat, typed record: from a preset, a YAML file and options, and back to YAML.

Example:
    >>> from medmnist_hf.training.recipe import make_recipe
    >>> make_recipe({"dataset": "pathmnist", "epochs": 5}, preset="medmnist_v2").batch_size
    128
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from medmnist_hf import catalog
from medmnist_hf.automl.engines import engines
from medmnist_hf.catalog import Subset, Task
from medmnist_hf.errors import TrainingError

_RANGES: Final[dict[str, tuple[Callable[[float], bool], tuple[str, ...]]]] = {
    "1 or more": (
        lambda value: value >= 1,
        ("epochs", "batch_size", "accumulation", "image_size", "lora_rank", "neighbors", "trials"),
    ),
    "above 0": (lambda value: value > 0, ("learning_rate", "layer_decay", "lora_alpha", "time_budget")),
    "0 or more": (
        lambda value: value >= 0,
        (
            *("weight_decay", "warmup_epochs", "max_grad_norm", "early_stopping", "mixup", "cutmix"),
            *("crop_padding", "rotation", "color_jitter"),
        ),
    ),
    "in 0..1": (
        lambda value: 0 <= value <= 1,
        ("layer_decay", "label_smoothing", "ema", "drop_rate", "drop_path", "flip_horizontal", "flip_vertical"),
    ),
}
"""What numbers must be -> whether one is so, and the fields."""

_LOSSES: Final = {
    Task.BINARY: ("cross-entropy",),
    Task.MULTI_CLASS: ("cross-entropy",),
    Task.ORDINAL: ("cross-entropy", "ordinal"),
    Task.MULTI_LABEL: ("bce",),
}
"""Losses that a task can be trained with."""

PIXELS: Final = "pixels"
"""The model of an AutoML engine that reads the images themselves."""

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smh])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything a run depends on; each field says in its ``help`` what it is, and is an option of the command.

    Sizes are edge lengths in pixels or voxels, rates are per optimizer step, shares are in 0..1.
    """

    dataset: str = field(metadata={"help": "Flag of the subset, e.g. pathmnist."})
    size: int = field(
        default=catalog.DEFAULT_SIZE, metadata={"help": "Size of the images that are read: 28, 64, 128 or 224."}
    )
    root: str | None = field(default=None, metadata={"help": "Folder of local builds; without it, from the Hub."})
    namespace: str | None = field(
        default=None, metadata={"help": "User or organisation on the Hub; that of MedMNIST if not given."}
    )
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the data on the Hub."})

    model: str = field(
        default="resnet18",
        metadata={
            "help": "resnet18 or resnet50 (those of the MedMNIST paper), timm/NAME, or a transformers id or folder; "
            "pixels: none, for the AutoML engines, which otherwise get its frozen features."
        },
    )
    pretrained: bool = field(
        default=True,
        metadata={"help": "Start from the weights published under the model's name, where there are any."},
    )
    checkpoint: str | None = field(default=None, metadata={"help": "Safetensors file with weights to start from."})
    stem: Literal["auto", "cifar", "imagenet"] = field(
        default="auto",
        metadata={"help": "Stem of the paper's networks; auto: imagenet for inputs of 128 and more, else cifar."},
    )
    volumetric: Literal["2.5d", "3d", "acs"] = field(
        default="acs",
        metadata={"help": "How a 2D network reads volumes; its weights, also random ones, are inflated."},
    )
    depth_stride: bool = field(
        default=False, metadata={"help": "2.5d: strides and pools run along depth too, as in the published results."}
    )

    image_size: int | None = field(
        default=None, metadata={"help": "Size of the network's input; that of the data if not given."}
    )
    resize: Literal["none", "nearest", "bilinear", "bicubic", "pad"] = field(
        default="bilinear", metadata={"help": "How images get to image_size; pad: zeros around them."}
    )
    channels: Literal["images", 1, 3] = field(
        default=3, metadata={"help": "Channels of the network's input; 3 repeats gray images; images: as they have."}
    )
    normalize: Literal["model", "half", "none"] = field(
        default="model",
        metadata={"help": "Mean and standard deviation: the model's own, 0.5 and 0.5, or none (values in 0..1)."},
    )

    method: Literal[
        "finetune", "linear-probe", "knn", "lora", "zero-shot", "flaml", "autogluon", "autokeras", "auto-sklearn"
    ] = field(
        default="finetune", metadata={"help": "How the model is made to predict the labels, or an AutoML engine."}
    )
    loss: Literal["auto", "cross-entropy", "bce", "ordinal"] = field(
        default="auto",
        metadata={"help": "auto: bce for multi-label, else cross-entropy. ordinal: one threshold a grade."},
    )
    class_weights: bool = field(
        default=False, metadata={"help": "Weight classes by the inverse of their frequency in train."}
    )
    label_smoothing: float = field(default=0.0, metadata={"help": "Share of the target spread over all classes."})

    probe_first: bool = field(
        default=False, metadata={"help": "Fine-tuning starts from the classifier of a linear probe."}
    )
    freeze_batch_norm: bool = field(
        default=False, metadata={"help": "Batch norms keep their statistics in training, and normalise by them."}
    )
    epochs: int = field(default=100, metadata={"help": "Passes over train."})
    batch_size: int = field(default=128, metadata={"help": "Samples a step and a process."})
    accumulation: int = field(default=1, metadata={"help": "Batches whose gradients make one optimizer step."})
    optimizer: Literal["adam", "adamw", "sgd"] = field(
        default="adamw", metadata={"help": "Optimizer; sgd has momentum 0.9."}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate."})
    weight_decay: float = field(default=0.0, metadata={"help": "Weight decay of weights; norms and biases have none."})
    layer_decay: float = field(
        default=1.0, metadata={"help": "Factor on the learning rate for each layer further from the head."}
    )
    schedule: Literal["cosine", "step", "constant"] = field(
        default="cosine", metadata={"help": "Course of the rate; step: times 0.1 at 50 % and 75 % of the epochs."}
    )
    warmup_epochs: float = field(default=0.0, metadata={"help": "Epochs of linear warm-up."})
    max_grad_norm: float = field(
        default=0.0, metadata={"help": "Norm to which gradients are clipped; 0 clips nothing."}
    )
    early_stopping: int = field(
        default=0, metadata={"help": "Epochs without a better value of `select` before stopping; 0: never."}
    )
    select: Literal["auc", "loss"] = field(
        default="auc", metadata={"help": "What the best epoch is chosen by, on validation."}
    )
    mixup: float = field(default=0.0, metadata={"help": "Alpha of mixup; 0: none."})
    cutmix: float = field(default=0.0, metadata={"help": "Alpha of cutmix; 0: none."})
    ema: float = field(
        default=0.0, metadata={"help": "Decay of an exponential moving average of the weights; 0: none."}
    )
    drop_rate: float = field(default=0.0, metadata={"help": "Dropout before the head."})
    drop_path: float = field(default=0.0, metadata={"help": "Stochastic depth."})

    flip_horizontal: float = field(default=0.0, metadata={"help": "Probability of a left-right flip."})
    flip_vertical: float = field(
        default=0.0, metadata={"help": "Probability of an up-down flip (volumes: of each further axis)."}
    )
    crop_padding: int = field(default=0, metadata={"help": "Pixels of padding before a random crop back to size."})
    rotation: float = field(default=0.0, metadata={"help": "Largest rotation in degrees."})
    rotate90: bool = field(default=False, metadata={"help": "Random quarter turns (volumes: in random planes)."})
    color_jitter: float = field(
        default=0.0, metadata={"help": "Strength of brightness, contrast and saturation jitter; RGB alone."}
    )
    intensity_scale: bool = field(
        default=False, metadata={"help": "Volumes: times U(0,1) in training and 0.5 after; for the shape subsets."}
    )

    lora_rank: int = field(default=8, metadata={"help": "Rank of LoRA's matrices."})
    lora_alpha: float = field(default=16.0, metadata={"help": "LoRA's scale times its rank."})
    neighbors: int = field(default=11, metadata={"help": "k of kNN."})
    prompt: str = field(
        default="a medical image of {}.", metadata={"help": "Zero-shot prompt; {} is replaced by the label."}
    )

    time_budget: float = field(
        default=7200.0, metadata={"help": "Seconds that an AutoML engine may search; in a file also 90s, 10m or 2h."}
    )
    trials: int | None = field(
        default=None, metadata={"help": "Most configurations that an AutoML engine tries; no limit if not given."}
    )

    precision: Literal["fp32", "bf16", "fp16"] = field(default="fp32", metadata={"help": "Mixed precision, or none."})
    compile: bool = field(default=False, metadata={"help": "Compile the model with torch.compile."})
    seeds: tuple[int, ...] = field(default=(0,), metadata={"help": "One run for each seed."})
    test: bool = field(
        default=True, metadata={"help": "Score test at the end; not while configurations are still compared."}
    )
    report_to: Literal["none", "trackio", "tensorboard", "wandb"] = field(
        default="none", metadata={"help": "Where the course of training is shown besides the files of the run."}
    )

    def __post_init__(self) -> None:
        for name in FIELDS:
            value = getattr(self, name)
            if isinstance(value, float) and not math.isfinite(value):
                raise TrainingError(f"{name} is {value}: must be a finite number")
        for must, (holds, names) in _RANGES.items():
            for name in names:
                value = getattr(self, name)
                if value is not None and not holds(value):
                    raise TrainingError(f"{name} is {value}: must be {must}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or not all(0 <= one < 2**32 for one in self.seeds):
            raise TrainingError(f"seeds are {list(self.seeds)}: give one or more in 0..2^32-1, each once")
        entry = self.subset
        entry.file(self.size)
        if self.loss not in ("auto", *_LOSSES[entry.task]):
            known = " or ".join(("auto", *_LOSSES[entry.task]))
            raise TrainingError(f"loss is {self.loss} but {entry.flag} is {entry.task}: use {known}")
        if entry.ndim == 3 and self.method in {"zero-shot", "lora"}:
            raise TrainingError(f"method {self.method} reads images, but {entry.flag} has volumes: use another method")
        self._check_engine()
        if entry.channels == 3 and self.channels == 1:
            raise TrainingError(f"channels is 1 but the images of {entry.flag} are RGB: use 3")

    def _check_engine(self) -> None:
        engine = next((one for one in engines() if one.name == self.method), None)
        if engine is None and self.model == PIXELS:
            names = ", ".join(one.name for one in engines())
            raise TrainingError(f"model {PIXELS} is for the methods {names}: name a network for {self.method}")
        if engine is not None and self.model != PIXELS and "features" not in engine.inputs:
            raise TrainingError(f"method {self.method} reads images, no features of {self.model}: use model {PIXELS}")

    @property
    def subset(self) -> Subset:
        """The subset; raises `CatalogError` for an unknown flag."""
        return catalog.subset(self.dataset)

    @property
    def input_channels(self) -> int:
        """Channels of the network's input."""
        return self.subset.channels if self.channels == "images" else self.channels

    def to_yaml(self) -> str:
        """All fields as YAML, which `make_recipe` reads back."""
        values = dataclasses.asdict(self) | {"seeds": list(self.seeds)}
        text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        return text


FIELDS: Final = {one.name: one for one in dataclasses.fields(Recipe)}
"""Name of a field -> the field, in order."""

TYPES: Final[dict[str, Any]] = get_type_hints(Recipe)
"""Name of a field -> its type."""


def presets() -> tuple[str, ...]:
    """Names of the presets."""
    folder = resources.files("medmnist_hf.training") / "presets"
    return tuple(sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml")))


def make_recipe(options: Mapping[str, Any], *, preset: str | None = None, config: Path | None = None) -> Recipe:
    """A recipe: the defaults, overridden by a preset, then a file, then options.

    Args:
        options: Values by field; those that are None are as if not given.
        preset: Name of a preset.
        config: YAML file of values by field, such as a run writes.

    Raises:
        TrainingError: An unknown preset, field or value; or the file cannot be read.
        CatalogError: An unknown subset or size.
    """
    values: dict[str, Any] = {}
    if preset is not None:
        if preset not in presets():
            raise TrainingError(f"unknown preset {preset!r}: choose from {', '.join(presets())}")
        text = (resources.files("medmnist_hf.training") / "presets" / f"{preset}.yaml").read_text(encoding="utf-8")
        values |= _checked(yaml.safe_load(text), f"preset {preset}")
    if config is not None:
        values |= _checked(_read_yaml(config), str(config))
    values |= _checked({name: value for name, value in options.items() if value is not None}, "options")
    if "dataset" not in values:
        raise TrainingError("no dataset named: give --dataset, e.g. pathmnist")
    values["dataset"] = catalog.subset(values["dataset"]).flag
    return Recipe(**values)


def default_folder(recipe: Recipe) -> Path:
    """Where a run goes that is not told where."""
    model = recipe.model.rstrip("/").replace("/", "-")
    return Path("runs", f"{recipe.dataset}-{recipe.size}-{model}-{recipe.method}")


def _read_yaml(path: Path) -> Any:  # noqa: ANN401
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise TrainingError(f"cannot read {path} ({why}): give a YAML file of options") from None
    except yaml.YAMLError as error:
        raise TrainingError(f"{path} is no YAML ({' '.join(str(error).split())}): mend it there") from None


def _checked(values: Any, where: str) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(values, Mapping):
        raise TrainingError(f"{where} holds no options by name: write NAME: VALUE on each line")
    checked = {}
    for name, value in values.items():
        if name not in FIELDS:
            close = difflib.get_close_matches(str(name), FIELDS, 1)
            hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(FIELDS)}"
            raise TrainingError(f"{where}: unknown option {name!r}: {hint}")
        plain = _seconds(value) if name == "time_budget" else value
        checked[name] = _value(plain, TYPES[name], f"{where}: {name}")
    return checked


def _seconds(value: Any) -> Any:  # noqa: ANN401
    """A duration such as ``2h`` in seconds; what is none, as it is."""
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(found[1]) * _UNITS[found[2]] if found else value


def _value(value: Any, kind: Any, where: str) -> Any:  # noqa: ANN401
    """A value of a YAML file or a command as the type of its field; raises a `TrainingError` if it is none."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (inner,) = (one for one in arguments if one is not type(None))
        return None if value is None else _value(value, inner, where)
    if origin is Literal:
        known = {str(one): one for one in arguments}
        if isinstance(value, bool) or str(value) not in known:
            raise TrainingError(f"{where} is {value!r}: choose from {', '.join(known)}")
        return known[str(value)]
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise TrainingError(f"{where} is {value!r}: give a list")
        return tuple(_value(one, arguments[0], where) for one in value)
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):  # YAML reads 1e-3 as text
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TrainingError(f"{where} is {value!r}: must be {kind.__name__}")
    return value
