"""What a run does, as one flat, typed record: from a preset, a YAML file and options, and back to YAML.

Example:
    >>> from medmnist_hf.training.recipe import make_recipe
    >>> make_recipe({"dataset": "pathmnist", "epochs": 5}, preset="medmnist_v2").batch_size
    128
"""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, get_type_hints

import yaml

from medmnist_hf import catalog
from medmnist_hf.catalog import Subset, Task
from medmnist_hf.documents import YAML_BYTES, parse_yaml
from medmnist_hf.errors import TrainingError, cannot_read, shorten
from medmnist_hf.files import read_document
from medmnist_hf.places.resolver import DEFAULT_ROOT, ROOT_VARIABLE
from medmnist_hf.training.data_source import located
from medmnist_hf.training.registry import METHODS, PIXELS, Method, method
from medmnist_hf.training.values import seconds_of, size_of, typed_value, unknown_option, unmet

LOSSES: Final = {
    Task.BINARY: ("cross-entropy",),
    Task.MULTI_CLASS: ("cross-entropy",),
    Task.ORDINAL: ("cross-entropy", "ordinal"),
    Task.MULTI_LABEL: ("bce",),
}
"""Losses that a task can be trained with; the first is what ``auto`` stands for."""

SEEDS: Final = "seeds"
NOT_TRAINED: Final = (SEEDS, "report_to")
"""Fields that do not change what is trained: a run continues in the same folder with others."""

_LONGEST_MODEL: Final = 60


def option(
    default: object,
    about: str,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
) -> Any:
    """A field of a recipe.

    Args:
        default: Its value if not given.
        about: Its help.
        at_least: Smallest number that it may be.
        above: Number that it must be larger than.
        at_most: Largest number that it may be.
    """
    return field(default=default, metadata={"help": about, "bounds": (at_least, above, at_most)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything a run depends on; each field says in its ``help`` what it is, and is an option of the command.

    Sizes are edge lengths in pixels or voxels, rates are per optimizer step, shares are in 0..1.
    """

    dataset: str = field(
        metadata={
            "help": "The data: a flag (pathmnist, pathmnist-64), a repository on the Hub (you/pathmnist@v1) or a "
            "build (dist/pathmnist)."
        }
    )
    size: int = option(catalog.DEFAULT_SIZE, "Size of the images that are read: 28, 64, 128 or 224.")
    root: str | None = option(
        None, f"Folder of builds, where a flag is looked up; else {ROOT_VARIABLE}, {DEFAULT_ROOT}, the cache, the Hub."
    )
    repository: str | None = option(None, "Repository of the data on the Hub, as user/name.")
    revision: str | None = option(None, "Branch, tag or commit of the data on the Hub.")

    model: str = option(
        "resnet18",
        "resnet18 or resnet50 (those of the MedMNIST paper), timm/NAME, or a transformers id or folder; "
        "pixels: none, for the AutoML engines, which otherwise get its frozen features.",
    )
    pretrained: bool = option(True, "Start from the weights published under the model's name, where there are any.")
    checkpoint: str | None = option(
        None, "File of weights to start from: safetensors, or tensors saved by torch (.pth, .pt, .bin, .ckpt)."
    )
    stem: Literal["auto", "cifar", "imagenet"] = option(
        "auto", "Stem of the paper's networks; auto: imagenet for inputs of 128 and more, else cifar."
    )
    volumetric: Literal["2.5d", "3d", "acs"] = option(
        "acs", "How a 2D network reads volumes; its weights, also random ones, are inflated."
    )
    depth_stride: bool = option(False, "2.5d: strides and pools run along depth too, as in the published results.")

    image_size: int | None = option(None, "Size of the network's input; that of the data if not given.", at_least=1)
    resize: Literal["none", "nearest", "bilinear", "bicubic", "pad"] = option(
        "bilinear", "How images get to image_size; pad: zeros around them."
    )
    channels: Literal["images", 1, 3] = option(
        3, "Channels of the network's input; 3 repeats gray images; images: as they have."
    )
    normalize: Literal["model", "half", "none"] = option(
        "model", "Mean and standard deviation: the model's own, 0.5 and 0.5, or none (values in 0..1)."
    )

    method: str = option("finetune", "How the model is made to predict the labels, or an AutoML engine.")
    loss: Literal["auto", "cross-entropy", "bce", "ordinal"] = option(
        "auto", "auto: bce for multi-label, else cross-entropy. ordinal: one threshold a grade."
    )
    class_weights: bool = option(False, "Weight classes by the inverse of their frequency in train.")
    label_smoothing: float = option(0.0, "Share of the target spread over all classes.", at_least=0, at_most=1)

    probe_first: bool = option(False, "Fine-tuning starts from the classifier of a linear probe.")
    freeze_batch_norm: bool = option(False, "Batch norms keep their statistics in training, and normalize by them.")
    epochs: int = option(100, "Passes over train.", at_least=1)
    batch_size: int = option(128, "Samples a step and a process.", at_least=1)
    accumulation: int = option(1, "Batches whose gradients make one optimizer step.", at_least=1)
    optimizer: Literal["adam", "adamw", "sgd"] = option("adamw", "Optimizer; sgd has momentum 0.9.")
    learning_rate: float = option(1e-3, "Peak learning rate.", above=0)
    weight_decay: float = option(0.0, "Weight decay of weights; norms and biases have none.", at_least=0)
    layer_decay: float = option(
        1.0, "Factor on the learning rate for each layer further from the head.", above=0, at_most=1
    )
    schedule: Literal["cosine", "step", "constant"] = option(
        "cosine", "Course of the rate; step: times 0.1 at 50 % and 75 % of the epochs."
    )
    warmup_epochs: float = option(0.0, "Epochs of linear warm-up.", at_least=0)
    max_grad_norm: float = option(0.0, "Norm to which gradients are clipped; 0 clips nothing.", at_least=0)
    early_stopping: int = option(0, "Epochs without a better value of `select` before stopping; 0: never.", at_least=0)
    select: Literal["auc", "loss"] = option("auc", "What the best epoch is chosen by, on validation.")
    mixup: float = option(0.0, "Alpha of mixup; 0: none.", at_least=0)
    cutmix: float = option(0.0, "Alpha of cutmix; 0: none.", at_least=0)
    ema: float = option(0.0, "Decay of an exponential moving average of the weights; 0: none.", at_least=0, at_most=1)
    drop_rate: float = option(0.0, "Dropout before the head.", at_least=0, at_most=1)
    drop_path: float = option(0.0, "Stochastic depth.", at_least=0, at_most=1)

    flip_horizontal: float = option(0.0, "Probability of a left-right flip.", at_least=0, at_most=1)
    flip_vertical: float = option(
        0.0, "Probability of an up-down flip (volumes: of each further axis).", at_least=0, at_most=1
    )
    crop_padding: int = option(0, "Pixels of padding before a random crop back to size.", at_least=0)
    rotation: float = option(0.0, "Largest rotation in degrees.", at_least=0)
    rotate90: bool = option(False, "Random quarter turns (volumes: in random planes).")
    color_jitter: float = option(0.0, "Strength of brightness, contrast and saturation jitter; RGB alone.", at_least=0)
    intensity_scale: bool = option(False, "Volumes: times U(0,1) in training and 0.5 after; for the shape subsets.")

    lora_rank: int = option(8, "Rank of LoRA's matrices.", at_least=1)
    lora_alpha: float = option(16.0, "LoRA's scale times its rank.", above=0)
    neighbors: int = option(11, "k of kNN.", at_least=1)
    prompt: str = option("a medical image of {}.", "Zero-shot prompt; {} is replaced by the label.")

    time_budget: float = option(
        7200.0, "Time that an AutoML engine may search for each seed: 90s, 10m or 2h, or a number of seconds.", above=0
    )
    trials: int | None = option(
        None, "Most configurations that an AutoML engine tries; no limit if not given.", at_least=1
    )

    precision: Literal["fp32", "bf16", "fp16"] = option("fp32", "Mixed precision, or none.")
    compile: bool = option(False, "Compile the model with torch.compile.")
    seeds: tuple[int, ...] = option((0,), "One run for each seed.")
    test: bool = option(True, "Score test at the end; not while configurations are still compared.")
    report_to: Literal["none", "trackio", "tensorboard", "wandb"] = option(
        "none", "Log the training also for this tracker, which must be installed."
    )

    def __new__(cls, *values: Any, **options: Any) -> "Recipe":
        """Refuse values without names and unknown fields, which dataclasses would not do in a line of ours."""
        if values:
            raise TrainingError(f"Recipe({shorten(values[0])}): name each field, as in Recipe(dataset='pathmnist')")
        for name in options:
            if name not in FIELDS:
                raise TrainingError(f"Recipe: {unknown_option(name, FIELDS, SHORT)}")
        return object.__new__(cls)

    def __post_init__(self) -> None:
        for name, declared in FIELDS.items():
            value = getattr(self, name)
            if isinstance(value, float) and not math.isfinite(value):
                raise TrainingError(f"{name} is {value}: must be a finite number")
            if isinstance(value, int | float) and (must := unmet(value, *declared.metadata["bounds"])):
                raise TrainingError(f"{name} is {value}: must be {must}")
        seeds = self.seeds
        if not seeds or len(set(seeds)) < len(seeds) or not 0 <= min(seeds) <= max(seeds) < 2**32:
            raise TrainingError(f"seeds are {shorten(list(seeds))}: give one or more in 0..2^32-1, each once")
        entry = self.subset
        entry.file(self.size)
        if self.loss not in ("auto", *LOSSES[entry.task]):
            losses = " or ".join(("auto", *LOSSES[entry.task]))
            raise TrainingError(f"loss is {self.loss} but {entry.flag} is {entry.task}: use {losses}")
        self._check_method(method(self.method))
        if self.ema == 1:
            raise TrainingError("ema is 1, an average that never moves: give less")
        if (self.mixup or self.cutmix) and self.batch_size == 1:
            raise TrainingError("mixup and cutmix mix the images of a batch: give a batch_size of 2 or more")
        if self.warmup_epochs > self.epochs:
            raise TrainingError(
                f"warmup_epochs is {self.warmup_epochs:g} but epochs is {self.epochs}, so the learning rate would "
                "never be reached: warm up for less"
            )
        if entry.channels == 3 and self.channels == 1:
            raise TrainingError(f"channels is 1 but the images of {entry.flag} are RGB: use 3")

    def _check_method(self, chosen: Method) -> None:
        name, flag = chosen.name, self.subset.flag
        if self.subset.ndim == 3 and not chosen.volumes:
            raise TrainingError(f"method {name} reads images, but {flag} has volumes: use another method")
        if chosen.engine is None and self.model == PIXELS:
            names = ", ".join(other.name for other in METHODS.values() if other.engine)
            raise TrainingError(f"model {PIXELS} is for the methods {names}: name a network for {name}")
        if chosen.engine is not None and self.model != PIXELS and "features" not in chosen.engine.inputs:
            raise TrainingError(f"method {name} reads images, no features of {self.model}: use model {PIXELS}")

    @property
    def source(self) -> str:
        """The name by which the data is found, in `root` if that is given."""
        return self.dataset if self.root is not None or self.repository is None else self.repository

    @property
    def subset(self) -> Subset:
        """The subset; raises `CatalogError` for an unknown flag."""
        return catalog.subset(self.dataset)

    @property
    def input_channels(self) -> int:
        """Channels of the network's input."""
        return self.subset.channels if self.channels == "images" else self.channels

    @property
    def resolved_loss(self) -> str:
        """The loss, with ``auto`` resolved by task."""
        return LOSSES[self.subset.task][0] if self.loss == "auto" else self.loss

    def to_yaml(self) -> str:
        """All fields as YAML, which `make_recipe` reads back."""
        values = dataclasses.asdict(self) | {"seeds": list(self.seeds)}
        text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        return text


RECIPE_NAME: Final = "recipe.yaml"
"""The recipe in the folder of a run."""

SHORT: Final = {"learning_rate": "lr"}
"""Field -> what people type for it, which a command takes too."""

FIELDS: Final = {declared.name: declared for declared in dataclasses.fields(Recipe)}
"""Name of a field -> the field, in order."""

_TYPES: Final[dict[str, Any]] = get_type_hints(Recipe)


def type_of(name: str) -> Any:
    """The type of a field; that of ``method`` is a literal of the methods there are."""
    return Literal.__getitem__(tuple(METHODS)) if name == "method" else _TYPES[name]


def presets(ndim: int | None = None) -> tuple[str, ...]:
    """Names of the presets; with a number of dimensions, 2 or 3, those for images or for volumes."""
    folder = resources.files("medmnist_hf.training") / "presets"
    names = sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))
    return tuple(name for name in names if ndim is None or _preset(name)[1] in {None, ndim})


def make_recipe(options: Mapping[str, Any], *, preset: str | None = None, config: Path | None = None) -> Recipe:
    """A recipe: the defaults, overridden by a preset, then a file, then options.

    What a preset says for other methods, networks or data stays at its default.

    Args:
        options: Values by field; those that are None are as if not given.
        preset: Name of a preset.
        config: YAML file of values by field, such as a run writes.

    Raises:
        TrainingError: An unknown preset, field or value; a preset for volumes on images, or the other way round; or
            the file cannot be read.
        CatalogError: An unknown subset or size.
    """
    if preset is not None and preset not in presets():
        raise TrainingError(f"unknown preset {shorten(preset)}: choose from {', '.join(presets())}")
    general, ndim = ({}, None) if preset is None else _preset(preset)
    written = {} if config is None else read_options(config)
    written |= _checked({name: value for name, value in options.items() if value is not None}, "options")
    values = general | written
    if "dataset" not in values:
        raise TrainingError("no dataset named: put it first, e.g. medmnist-hf finetune pathmnist")
    values |= located(values)
    entry = catalog.subset(values["dataset"])
    if ndim not in {None, entry.ndim}:
        kinds, others = {2: "images", 3: "volumes"}, ", ".join(presets(entry.ndim))
        raise TrainingError(
            f"preset {preset} is for {kinds[ndim]}, but {entry.flag} has {kinds[entry.ndim]}: use one of {others}"
        )
    recipe = Recipe(**values)
    return without_options(recipe, unread_options(recipe, general.keys() - written.keys()))


def read_options(config: Path) -> dict[str, Any]:
    """The values by field of a YAML file, or of a run's folder; raises a `TrainingError` as `make_recipe`."""
    if config.is_dir():
        config /= RECIPE_NAME
    return _checked(read_yaml(config, "a YAML file of options"), str(config))


def without_options(recipe: Recipe, names: Iterable[str]) -> Recipe:
    """A recipe with some of its options at their defaults."""
    defaults: dict[str, Any] = {name: FIELDS[name].default for name in names}
    return dataclasses.replace(recipe, **defaults)


def unread_options(recipe: Recipe, names: Iterable[str]) -> dict[str, str]:
    """Options of some that are not at their default and change nothing in a recipe, each with the reason.

    Args:
        recipe: The recipe.
        names: Names of the options that were asked for.
    """
    chosen, is_2d = method(recipe.method), recipe.subset.ndim == 2
    reasons = {
        "repository": (recipe.root is not None, "the data is read from root"),
        "revision": (recipe.root is not None, "the data is read from root"),
        "stem": (recipe.model.startswith("timm/"), "it is for the networks of the paper"),
        "volumetric": (is_2d, f"{recipe.dataset} has images"),
        "depth_stride": (is_2d or recipe.volumetric != "2.5d", "it is for volumes and volumetric 2.5d"),
        "early_stopping": (recipe.early_stopping >= recipe.epochs, f"there are {recipe.epochs} epochs"),
    }
    unread = {}
    for name in names:
        if getattr(recipe, name) == FIELDS[name].default:
            continue
        applies, reason = reasons.get(name, (False, ""))
        if not chosen.does_read(name, pixels=recipe.model == PIXELS):
            unread[name] = f"method {recipe.method} does not read it"
        elif applies:
            unread[name] = reason
    return unread


def run_name(recipe: Recipe) -> str:
    """What the folder of a configuration is called: subset, size, model, method and eight digits of its options.

    The digits are of the options that differ from a recipe's defaults. They do not change with the seeds, so that
    seeds can be added to a run that is done, nor with the tracker that a run reports to.
    """
    given = {name: value for name, value in dataclasses.asdict(recipe).items() if value != FIELDS[name].default}
    for name in NOT_TRAINED:
        given.pop(name, None)
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:8]
    return f"{recipe.dataset}-{recipe.size}-{model_part(recipe)}-{recipe.method}-{digest}"


def model_part(recipe: Recipe) -> str:
    """The model as a part of a name of a file or folder: ASCII letters, digits and ``_.-``."""
    return re.sub(r"[^\w.-]+", "-", recipe.model, flags=re.ASCII).strip("-")[-_LONGEST_MODEL:]


def default_folder(recipe: Recipe) -> Path:
    """Where a run goes for which no folder is given."""
    return Path("runs", run_name(recipe))


def differences(earlier: Recipe, recipe: Recipe) -> str:
    """What a recipe changes of an earlier one, such as ``epochs 3 -> 4``; empty where what is trained is the same."""
    pairs = ((name, getattr(earlier, name), getattr(recipe, name)) for name in FIELDS if name not in NOT_TRAINED)
    return ", ".join(f"{name} {_shown(before)} -> {_shown(after)}" for name, before, after in pairs if before != after)


def _shown(value: object) -> str:
    return {"None": "none", "True": "yes", "False": "no"}.get(str(value), str(value))


def read_yaml(path: Path, what: str) -> Any:
    """What a YAML file holds; what it must be is named in the `TrainingError` for one that cannot be read."""
    try:
        text = read_document(path, YAML_BYTES).decode()
    except OSError as error:
        raise TrainingError(cannot_read(path, error, f"give {what}")) from None
    except UnicodeDecodeError:
        raise TrainingError(f"cannot read {path} (it is not text): give {what}") from None
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise TrainingError(f"{path} is no YAML of options ({error}): fix it there") from None


@cache
def _preset(name: str) -> tuple[dict[str, Any], int | None]:
    """The values of a preset, and the number of dimensions of what it is for; None where it is for both."""
    text = (resources.files("medmnist_hf.training") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    values = dict(parse_yaml(text))
    ndim = values.pop("ndim", None)
    return _checked(values, f"preset {name}"), ndim


def _checked(values: Any, where: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise TrainingError(f"{where} holds no options by name: write NAME: VALUE on each line")
    checked = {}
    for name, value in values.items():
        if name not in FIELDS:
            raise TrainingError(f"{where}: {unknown_option(name, FIELDS, SHORT)}")
        plain = seconds_of(value, f"{where}: {name}") if name == "time_budget" else value
        plain = size_of(plain) if name == "size" else plain
        checked[name] = typed_value(plain, type_of(name), f"{where}: {name}")
    return checked
