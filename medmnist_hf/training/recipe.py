"""The recipe of a run: one flat, typed record, made from a preset, a YAML file and options, and written as YAML.

Example:
    >>> from medmnist_hf.training.recipe import make_recipe
    >>> make_recipe({"dataset": "pathmnist", "epochs": 5}, preset="medmnist_v2").batch_size
    128
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, get_type_hints

import yaml

from medmnist_hf import catalog
from medmnist_hf.documents import parse_yaml
from medmnist_hf.errors import TrainingError, shorten
from medmnist_hf.own_code.names import is_code, public_code, rename_model_file
from medmnist_hf.places.resolver import DEFAULT_ROOT, ROOT_VARIABLE
from medmnist_hf.scoring.metrics import available
from medmnist_hf.training.data_source import NamedData, locate_data, subsets_of
from medmnist_hf.training.registry import LOSSES, METHODS, PIXELS, method
from medmnist_hf.training.values import (
    check_numbers,
    option,
    parse_seconds,
    parse_size,
    read_yaml,
    typed_value,
    unknown_option,
)

SEEDS: Final = "seeds"
_OF_LIBRARIES: Final = ("pretrained", "stem", "volumetric", "depth_stride", "slice_pooling", "drop_rate", "drop_path")
"""Fields that do not affect a network from a file of the user's."""
NOT_TRAINED: Final = (SEEDS, "report_to")
"""Fields that do not affect training: a run continues in the same folder when they change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(NamedData):
    """Everything a run depends on. Each field is described by its ``help`` and is an option of the command.

    Sizes are edge lengths in pixels or voxels, rates are per optimizer step, fractions are in 0..1.
    """

    dataset: str = field(
        metadata={
            "help": "Data set: a subset (pathmnist, pathmnist-64), a repository on the Hub (you/pathmnist@v1) or a "
            "build (dist/pathmnist). Several subsets, to train one model on: pathmnist,bloodmnist, all-2d or all-3d."
        }
    )
    size: int = option(catalog.DEFAULT_SIZE, "Size of the images to read: 28, 64, 128 or 224, or e.g. 28-corrected.")
    root: str | None = option(
        None,
        f"Folder of builds to search for the subset, not {ROOT_VARIABLE}, {DEFAULT_ROOT}, the cache and the Hub.",
    )
    repository: str | None = option(None, "Repository of the data set on the Hub, as user/name.")
    revision: str | None = option(None, "Branch, tag or commit of the data set on the Hub.")
    fraction: float | None = option(
        None, "Fraction of the train rows to use, stratified: 0.01 is 1 %.", above=0, at_most=1
    )
    shots: int | None = option(
        None, "Train rows of each class to use; for ChestMNIST of each finding and of no finding.", at_least=1
    )
    few_validation: bool = option(False, "Reduce validation to the same fraction or shots, for all seeds alike.")
    label_seed: int | None = option(
        None,
        "Seed of the choice of fraction or shots; by default the training seed, so that each seed has its own rows.",
        at_least=0,
        at_most=2**32 - 1,
    )

    model: str = option(
        "resnet18",
        "resnet18 or resnet50 (the networks of the MedMNIST paper), timm/NAME, a transformers id or folder, or a "
        "function in a Python file of yours (my.py:build). An AutoML engine searches on frozen features of this "
        "model, or with pixels on the images themselves.",
    )
    pretrained: bool = option(True, "Start from the published weights of the model, if there are any.")
    checkpoint: str | None = option(
        None, "Weights file to start from: safetensors, or tensors saved by torch (.pth, .pt, .bin, .ckpt)."
    )
    stem: Literal["auto", "cifar", "imagenet"] = option(
        "auto", "Stem of resnet18 and resnet50; auto: imagenet for inputs of 128 pixels or more, otherwise cifar."
    )
    volumetric: Literal["2.5d", "3d", "acs"] = option(
        "acs", "How a 2D network is converted to read volumes; its weights are inflated, even random ones."
    )
    depth_stride: bool = option(False, "For 2.5d: stride and pool along depth too, as in the published results.")
    slice_pooling: Literal["mean", "max"] = option("mean", "For 2.5d: how the network pools over slices.")

    image_size: int | Literal["auto"] | None = option(
        None,
        "Size of the network's input; by default the size of the data. auto: that of the model's pretraining, or the "
        "nearest that its patches allow; for resnet18, resnet50 and volumes that of the data.",
        at_least=1,
    )
    resize: Literal["none", "nearest", "bilinear", "bicubic", "pad"] = option(
        "bilinear", "How to bring images to image_size; pad: surround them with zeros."
    )
    channels: Literal["images", 1, 3] = option(
        3, "Channels of the network's input. 3: repeat gray images; images: keep the channels of the images."
    )
    normalize: Literal["model", "dataset", "half", "none"] = option(
        "model", "Mean and std. model: the model's; dataset: of the train split; half: 0.5, 0.5; none: keep 0..1."
    )

    features: str | None = option(
        None, "Folder of feature stores: read frozen features from the one of the model, which is made if missing."
    )
    method: str = option("finetune", "How to adapt the model to the data set, or the AutoML engine to run.")
    loss: Literal["auto", "cross-entropy", "bce", "ordinal"] = option(
        "auto", "auto: bce for multi-label, otherwise cross-entropy; ordinal: a threshold between adjacent grades."
    )
    class_weights: bool = option(False, "Weight classes by their inverse frequency in the train split.")
    label_smoothing: float = option(0.0, "Fraction of the target spread over all classes.", at_least=0, at_most=1)

    joint_head: bool = option(
        False, "Of several subsets, train one softmax over all their classes instead of a head per subset."
    )
    balance: bool = option(
        False, "Of several subsets, draw all equally often in training, not in proportion to their rows."
    )
    probe_first: bool = option(False, "Start fine-tuning from the classifier of a linear probe.")
    freeze_batch_norm: bool = option(False, "Keep the running statistics of batch norms fixed, and normalize by them.")
    epochs: int = option(100, "Passes over the train split.", at_least=1)
    batch_size: int = option(128, "Samples per batch and process.", at_least=1)
    accumulation: int = option(1, "Batches per optimizer step, over which gradients are accumulated.", at_least=1)
    optimizer: Literal["adam", "adamw", "sgd"] = option("adamw", "Optimizer; sgd uses Nesterov momentum of 0.9.")
    learning_rate: float = option(1e-3, "Peak learning rate.", above=0)
    weight_decay: float = option(0.0, "Weight decay; not applied to norms and biases.", at_least=0)
    layer_decay: float = option(
        1.0, "Factor on the learning rate for each layer further from the head.", above=0, at_most=1
    )
    schedule: Literal["cosine", "step", "constant"] = option(
        "cosine", "Learning rate schedule; step: multiply by 0.1 at 50 % and at 75 % of the epochs."
    )
    warmup_epochs: float = option(0.0, "Epochs of linear warm-up.", at_least=0)
    max_grad_norm: float = option(0.0, "Norm to clip gradients to; 0: no clipping.", at_least=0)
    early_stopping: int = option(0, "Stop after this many epochs without a better `select`; 0: never.", at_least=0)
    select: str = option("auc", "Validation measure that selects epoch, probe and seed: loss, or any of the task.")
    mixup: float = option(0.0, "Mixup alpha; 0: off.", at_least=0)
    cutmix: float = option(0.0, "CutMix alpha; 0: off.", at_least=0)
    ema: float = option(0.0, "Decay of the exponential moving average of the weights; 0: off.", at_least=0, at_most=1)
    drop_rate: float = option(0.0, "Dropout rate before the classifier.", at_least=0, at_most=1)
    drop_path: float = option(0.0, "Stochastic depth rate.", at_least=0, at_most=1)

    flip_horizontal: float = option(0.0, "Probability of a left-right flip.", at_least=0, at_most=1)
    flip_vertical: float = option(
        0.0, "Probability of an up-down flip and, for volumes, of a flip along depth.", at_least=0, at_most=1
    )
    crop_padding: int = option(0, "Pixels of padding before a random crop back to the stored size.", at_least=0)
    rotation: float = option(0.0, "Largest random rotation, in degrees.", at_least=0)
    rotate90: bool = option(False, "Rotate by a random multiple of 90 degrees; volumes in a random plane.")
    color_jitter: float = option(0.0, "Strength of brightness, contrast and saturation jitter; RGB only.", at_least=0)
    corruptions: bool = option(False, "Corrupt each image by one of the subset's MedMNIST-C corruptions, or by none.")
    augmentation_file: str | None = option(
        None, "Further augmentation by a function in a Python file of yours, as my.py:augment."
    )
    intensity_scale: bool = option(
        False, "Scale volumes by U(0, 1) in training, 0.5 in evaluation; for shape subsets."
    )

    unfreeze: float = option(
        0.6,
        "Fraction of the blocks that method partial trains, at least one; 0: the classifier alone.",
        at_least=0,
        at_most=1,
    )
    unfreeze_from: Literal["last", "first"] = option(
        "last", "Which blocks method partial trains: the last ones and the final norm, or the first ones and the stem."
    )
    lora_rank: int = option(8, "Rank of the LoRA matrices.", at_least=1)
    lora_alpha: float = option(16.0, "LoRA alpha: updates are scaled by alpha / rank.", above=0)
    neighbors: int = option(11, "Number of neighbors k for kNN.", at_least=1)
    prompt: str = option("a medical image of {}.", "Zero-shot prompt; {} is replaced by the label.")

    time_budget: float = option(
        7200.0, "Search time of an AutoML engine per seed: 90s, 10m, 2h or a number of seconds.", above=0
    )
    trials: int | None = option(None, "Most configurations an AutoML engine may try; no limit by default.", at_least=1)

    precision: Literal["fp32", "bf16", "fp16"] = option("fp32", "Full precision (fp32), or mixed precision.")
    compile: bool = option(False, "Compile the model with torch.compile.")
    seeds: tuple[int, ...] = option((0,), "Random seeds; the model is trained once per seed.")
    test: bool = option(True, "Score the test split at the end; turn off while comparing configurations.")
    scores_only: bool = option(False, "Leave results and prediction files alone: no model, no figures, no card.")
    report_to: Literal["none", "trackio", "tensorboard", "wandb"] = option(
        "none", "Also log the training to this tracker, which must be installed."
    )

    def __new__(cls, *values: Any, **options: Any) -> "Recipe":
        """Reject positional values and unknown fields with a one-line error, which dataclasses do not give."""
        if values:
            raise TrainingError(f"Recipe({shorten(values[0])}): name each field, as in Recipe(dataset='pathmnist')")
        for name in options:
            if name not in FIELDS:
                raise TrainingError(f"Recipe: {unknown_option(name, FIELDS, SHORT)}")
        return object.__new__(cls)

    def __post_init__(self) -> None:
        check_numbers(self)
        seeds = self.seeds
        if not seeds or len(set(seeds)) < len(seeds) or not 0 <= min(seeds) <= max(seeds) < 2**32:
            raise TrainingError(f"seeds are {shorten(list(seeds))}: give one or more distinct seeds in 0..2^32-1")
        if self.is_joint:
            self._check_joint()
        else:
            self._check_subset()
        if self.fraction is not None and self.shots is not None:
            raise TrainingError(f"fraction is {self.fraction:g} and shots is {self.shots}: give only one of them")
        if self.ema == 1:
            raise TrainingError("ema is 1, which never updates the average: give less than 1")
        if (self.mixup or self.cutmix) and self.batch_size == 1:
            raise TrainingError("mixup and cutmix mix images within a batch: give a batch_size of 2 or more")
        if self.warmup_epochs > self.epochs:
            raise TrainingError(
                f"warmup_epochs is {self.warmup_epochs:g} but epochs is {self.epochs}: give at most {self.epochs}, "
                "so that learning_rate is reached"
            )

    def _check_subset(self) -> None:
        """Check the options that depend on the subset."""
        entry = self.subset
        entry.file(self.size)
        if self.loss not in ("auto", *LOSSES[entry.task]):
            losses = " or ".join(("auto", *LOSSES[entry.task]))
            raise TrainingError(f"loss is {self.loss} but {entry.flag} is {entry.task}: use {losses}")
        method(self.method).check(entry, self.model)
        if self.select not in (measures := ("loss", *available(entry.task))):
            choices = ", ".join(measures)
            raise TrainingError(f"select is {shorten(self.select)}: choose a measure of {entry.flag}, {choices}")
        if entry.channels == 3 and self.channels == 1:
            raise TrainingError(f"channels is 1 but the images of {entry.flag} are RGB: use 3")

    def _check_joint(self) -> None:
        """Check each subset, and the options that only one subset can have."""
        method(self.method).check_joint()
        losses = {part.dataset: part.resolved_loss for part in self.parts}
        if self.loss not in {"auto", *losses.values()}:
            raise TrainingError(f"loss is {self.loss}, which is for no subset of {self.dataset}: leave it out")
        other = next((flag for flag, loss in losses.items() if loss != "cross-entropy"), None)
        if self.joint_head and other is not None:
            raise TrainingError(
                f"joint_head is one softmax, but {other} is trained with {losses[other]}: leave one of them out"
            )

    @property
    def parts(self) -> tuple["Recipe", ...]:
        """The recipe of each subset, which scores it as if it were alone; the loss is its own if the task differs."""
        if not self.is_joint:
            return (self,)
        return tuple(
            dataclasses.replace(
                self, dataset=entry.flag, loss=self.loss if self.loss in LOSSES[entry.task] else "auto"
            )
            for entry in self.subsets
        )

    @property
    def heads(self) -> tuple[tuple[str, int], ...]:
        """The loss and the number of classes of each subset, in the order of the network's outputs."""
        return tuple((part.resolved_loss, len(part.subset.labels)) for part in self.parts)

    @property
    def few_labels(self) -> str:
        """Which train rows are used, as ``fraction 0.01`` or ``shots 5``; empty for all of them."""
        if not method(self.method).reads_labels or self.fraction == 1:
            return ""
        return f"shots {self.shots}" if self.shots else f"fraction {self.fraction:g}" if self.fraction else ""

    @property
    def resolved_loss(self) -> str:
        """The loss, with ``auto`` replaced by the default of the task."""
        return LOSSES[self.subset.task][0] if self.loss == "auto" else self.loss

    def to_yaml(self) -> str:
        """All fields as YAML, in the form that `make_recipe` reads."""
        values = dataclasses.asdict(self) | {"seeds": list(self.seeds)}
        return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


RECIPE_NAME: Final = "recipe.yaml"
"""File name of the recipe in the folder of a run."""

SHORT: Final = {"learning_rate": "lr"}
"""Field -> common short name, which commands accept too."""

FIELDS: Final = {declared.name: declared for declared in dataclasses.fields(Recipe)}
"""Name -> field, in the order of declaration."""

_TYPES: Final[dict[str, Any]] = get_type_hints(Recipe)


def type_of(name: str) -> Any:
    """The type of a field; for ``method``, a literal of all method names."""
    return Literal.__getitem__(tuple(METHODS)) if name == "method" else _TYPES[name]


def presets(ndim: int | None = None) -> tuple[str, ...]:
    """Names of the presets, or only of those for images (`ndim` 2) or for volumes (3)."""
    folder = resources.files("medmnist_hf.training") / "presets"
    names = sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))
    return tuple(name for name in names if ndim is None or _preset(name)[1] in {None, ndim})


def make_recipe(options: Mapping[str, Any], *, preset: str | None = None, config: Path | None = None) -> Recipe:
    """Make a recipe from the defaults, overridden by a preset, then by a file, then by options.

    Values of a preset that the chosen method, network or data does not use stay at their defaults.

    Args:
        options: Field -> value; None counts as not given.
        preset: Name of a preset.
        config: YAML file of fields and values, such as the ``recipe.yaml`` of a run.

    Raises:
        TrainingError: A preset, field or value is unknown, the preset is for volumes and the data has images or the
            other way round, or the file cannot be read.
        CatalogError: The subset or size is unknown.
    """
    if preset is not None and preset not in presets():
        raise TrainingError(f"unknown preset {shorten(preset)}: choose from {', '.join(presets())}")
    general, ndim = ({}, None) if preset is None else _preset(preset)
    explicit = {} if config is None else read_options(config)
    explicit |= _checked({name: value for name, value in options.items() if value is not None}, "options")
    values = general | explicit
    if "dataset" not in values:
        raise TrainingError("no data set given: name it first, e.g. medmnist-hf finetune pathmnist")
    values |= locate_data(values)
    entry = subsets_of(values["dataset"])[0]
    if ndim not in {None, entry.ndim}:
        kinds, others = {2: "images", 3: "volumes"}, ", ".join(presets(entry.ndim))
        raise TrainingError(
            f"preset {preset} is for {kinds[ndim]}, but {entry.flag} has {kinds[entry.ndim]}: use one of {others}"
        )
    recipe = Recipe(**values)
    return without_options(recipe, unread_options(recipe, general.keys() - explicit.keys()))


def read_options(config: Path) -> dict[str, Any]:
    """Read fields and values from a YAML file or from the folder of a run. Raises `TrainingError` as `make_recipe`."""
    if config.is_dir():
        config /= RECIPE_NAME
    return _checked(read_yaml(config, "a YAML file of options"), str(config))


def without_options(recipe: Recipe, names: Iterable[str]) -> Recipe:
    """A copy of a recipe with the named options reset to their defaults."""
    defaults: dict[str, Any] = {name: FIELDS[name].default for name in names}
    return dataclasses.replace(recipe, **defaults)


def unread_options(recipe: Recipe, names: Iterable[str]) -> dict[str, str]:
    """Find options that were set but have no effect: option -> reason.

    Args:
        recipe: The recipe.
        names: Names of the options to check.
    """
    chosen, is_2d = method(recipe.method), recipe.ndim == 2
    gray = ", ".join(entry.flag for entry in recipe.subsets if entry.channels == 1)
    of_slices = "it is only for volumes with volumetric 2.5d"
    own = dict.fromkeys(_OF_LIBRARIES, (True, f"{public_code(recipe.model)} makes the network"))
    reasons = {
        "repository": (recipe.root is not None, "the data is read from root"),
        "revision": (recipe.root is not None, "the data is read from root"),
        "stem": (recipe.model.startswith("timm/"), "it is only for resnet18 and resnet50"),
        "volumetric": (is_2d, f"{recipe.dataset} has images"),
        **dict.fromkeys(("depth_stride", "slice_pooling"), (is_2d or recipe.volumetric != "2.5d", of_slices)),
        "layer_decay": (recipe.method == "partial" and not recipe.unfreeze, "only the classifier is trained"),
        "color_jitter": (bool(gray), f"the images of {gray} are gray"),
        "corruptions": (not is_2d or recipe.is_joint, "it is for one subset of images"),
        **dict.fromkeys(("joint_head", "balance"), (not recipe.is_joint, "it is only for several subsets")),
        **dict.fromkeys(("mixup", "cutmix", "probe_first"), (recipe.is_joint, "it is only for one subset")),
        "unfreeze_from": (recipe.unfreeze in {0, 1}, f"unfreeze is {recipe.unfreeze:g}"),
        "features": (chosen.trains and not recipe.probe_first, "it is only read with probe_first"),
        "few_validation": (not recipe.few_labels, "there is neither fraction nor shots"),
        "label_seed": (not recipe.few_labels, "there is neither fraction nor shots"),
        "early_stopping": (recipe.early_stopping >= recipe.epochs, f"epochs is {recipe.epochs}"),
    }
    reasons |= own if is_code(recipe.model) else {}
    unread = {}
    for name in names:
        if getattr(recipe, name) == FIELDS[name].default:
            continue
        applies, reason = reasons.get(name, (False, ""))
        if not chosen.reads_option(name, pixels=recipe.model == PIXELS):
            unread[name] = f"method {recipe.method} does not read it"
        elif applies:
            unread[name] = reason
    return unread


@cache
def _preset(name: str) -> tuple[dict[str, Any], int | None]:
    """The values of a preset, and the number of dimensions of its data: 2, 3, or None for any."""
    text = (resources.files("medmnist_hf.training") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    values = dict(parse_yaml(text))
    ndim = values.pop("ndim", None)
    return _checked(values, f"preset {name}"), ndim


def _checked(values: Any, where: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise TrainingError(f"{where} does not map options to values: write NAME: VALUE on each line")
    checked = {}
    for name, value in rename_model_file(values, where).items():
        if name not in FIELDS:
            raise TrainingError(f"{where}: {unknown_option(name, FIELDS, SHORT)}")
        plain = parse_seconds(value, f"{where}: {name}") if name == "time_budget" else value
        plain = parse_size(plain) if name in {"size", "image_size"} else plain
        kind = str if name == "size" and isinstance(plain, str) else type_of(name)  # 28-corrected: see `locate_data`
        checked[name] = typed_value(plain, kind, f"{where}: {name}")
    return checked
