"""The methods that a recipe can name, described without importing them.

Each is implemented by ``fit(run, seed, folder)`` in a module of `medmnist_hf.training.methods`. To add one, write
such a module and an entry in `METHODS`: see ``docs/contributing/add-a-method.md``.

Example:
    >>> method("linear-probe").leaves_model, method("knn").leaves_model
    (True, False)
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from medmnist_hf.automl.engines import Engine, engines
from medmnist_hf.catalog import Subset, Task
from medmnist_hf.errors import TrainingError, cannot_read, shorten
from medmnist_hf.files import expand_user, regular_size
from medmnist_hf.own_code.names import MODEL_FILE, is_code, pin_code, public_code

COMMON: Final = (
    *("dataset", "size", "root", "repository", "revision", "model", "method", "loss", "seeds", "test"),
    "scores_only",
)
"""Recipe options that every method reads."""

LABELS: Final = ("fraction", "shots", "few_validation", "label_seed")
"""Recipe options that choose rows, for methods that learn from labels."""

LOSSES: Final = {
    Task.BINARY: ("cross-entropy",),
    Task.MULTI_CLASS: ("cross-entropy",),
    Task.ORDINAL: ("cross-entropy", "ordinal"),
    Task.MULTI_LABEL: ("bce",),
}
"""Task -> losses it can be trained with; ``auto`` resolves to the first."""

PAPER_MODELS: Final = ("resnet18", "resnet50")
"""Names of the networks of the MedMNIST paper."""

PIXELS: Final = "pixels"
"""The model name with which an AutoML engine reads the images themselves."""

_INPUT: Final = ("resize", "channels", "intensity_scale", "batch_size")
_NETWORK: Final = (
    *_INPUT,
    *("pretrained", "checkpoint", "stem", "volumetric", "depth_stride"),
    *("slice_pooling", "image_size", "normalize"),
)
_FROZEN: Final = (*_NETWORK, "features")
_TRAINING: Final = (
    *_FROZEN,
    *(
        "class_weights",
        "label_smoothing",
        "joint_head",
        "balance",
        "probe_first",
        "freeze_batch_norm",
        "epochs",
        "accumulation",
        "optimizer",
    ),
    *("learning_rate", "weight_decay", "layer_decay", "schedule", "warmup_epochs", "max_grad_norm"),
    *("early_stopping", "select", "mixup", "cutmix", "ema", "drop_rate", "drop_path", "flip_horizontal"),
    *("flip_vertical", "crop_padding", "rotation", "rotate90", "color_jitter", "corruptions", "augmentation_file"),
    *("precision", "compile", "report_to"),
)


@dataclass(frozen=True, slots=True)
class Method:
    """A way to make a model predict the labels of a subset.

    Attributes:
        name: Name in a recipe.
        about: One-line description.
        card: How the model was made, for the model card, following the name of the network, with options of the recipe
            in braces; empty if the method leaves no model.
        trains: Whether it trains with the recipe's loss, which may then be any loss of the task.
        volumes: Whether it reads volumes as well as images.
        reads_labels: Whether it learns from labels of the train split, and so reads `LABELS`.
        engine: The AutoML engine it runs, if any.
        reads: Recipe options it reads in addition to `COMMON`; for an engine, those that define the frozen features.
        module: Module of its ``fit`` in `medmnist_hf.training.methods`; by default the one named like the method.
    """

    name: str
    about: str
    card: str = ""
    trains: bool = False
    volumes: bool = True
    reads_labels: bool = True
    engine: Engine | None = None
    reads: tuple[str, ...] = _FROZEN
    module: str = ""

    @property
    def leaves_model(self) -> bool:
        """Whether the method leaves a model to publish."""
        return bool(self.card)

    def reads_option(self, option: str, *, pixels: bool = False) -> bool:
        """Whether the method reads a recipe option; with `pixels`, an engine ignores options of frozen features."""
        own = () if self.engine is None else ("time_budget", *self.engine.options)
        common = COMMON + LABELS if self.reads_labels else COMMON
        return option in common or option in own or (option in self.reads and not pixels)

    def check(self, entry: Subset, model: str) -> None:
        """Check that the method can read the images of a subset, or the features of a model.

        Raises:
            TrainingError: It cannot.
        """
        if entry.ndim == 3 and not self.volumes:
            raise TrainingError(
                f"method {self.name} reads only images, but {entry.flag} has volumes: use another method"
            )
        if self.name == "zero-shot" and is_code(model):
            raise TrainingError(f"method zero-shot needs a CLIP-like model of transformers, not {public_code(model)}")
        if self.engine is None and model == PIXELS:
            names = ", ".join(other.name for other in METHODS.values() if other.engine)
            raise TrainingError(f"model {PIXELS} is only for the methods {names}: name a network for {self.name}")
        if self.engine is not None and model != PIXELS and "features" not in self.engine.inputs:
            raise TrainingError(f"method {self.name} reads images, not features of {model}: use model {PIXELS}")

    def check_joint(self) -> None:
        """Check that the method can train one model on several subsets. Raises `TrainingError` if not."""
        if not self.trains:
            names = ", ".join(other.name for other in METHODS.values() if other.trains)
            raise TrainingError(f"method {self.name} reads one subset: use {names} for several, or name one")

    def fit(self, run: Any, seed: int, folder: Path) -> Any:
        """Run the method for one seed: takes a `methods.base.Run`, returns a `methods.base.Fitted`."""
        module = import_module(f"medmnist_hf.training.methods.{self.module or self.name.replace('-', '_')}")
        return module.fit(run, seed, folder)


METHODS: Final[dict[str, Method]] = {
    entry.name: entry
    for entry in (
        Method("finetune", "Train all weights.", card="all weights trained", trains=True, reads=_TRAINING),
        Method(
            "partial",
            "Train the classifier and the first or last blocks.",
            card="with its classifier and the {unfreeze_from} {unfreeze:.0%} of its blocks trained",
            trains=True,
            reads=(*_TRAINING, "unfreeze", "unfreeze_from"),
        ),
        Method(
            "linear-probe",
            "Fit a linear classifier to frozen features.",
            card="with frozen features and a linear classifier fitted to them",
            reads=(*_FROZEN, "class_weights", "select"),
        ),
        Method(
            "knn",
            "Predict from the nearest train images in frozen feature space.",
            reads=(*_FROZEN, "neighbors"),
        ),
        Method(
            "lora",
            "Train low-rank updates of the layers and merge them.",
            card="fine-tuned by LoRA",
            trains=True,
            volumes=False,
            reads=(*_TRAINING, "lora_rank", "lora_alpha"),
        ),
        Method(
            "zero-shot",
            "Match images to label prompts with a CLIP-like model.",
            volumes=False,
            reads_labels=False,
            reads=(*_INPUT, "prompt"),
        ),
        *(Method(engine.name, engine.about, engine=engine, module="automl") for engine in engines()),
    )
}
"""Name -> method, in the order of listings."""


def method(name: str) -> Method:
    """Look up a method.

    Raises:
        TrainingError: The name is unknown.
    """
    if name not in METHODS:
        raise TrainingError(f"unknown method {shorten(name)}: choose from {', '.join(METHODS)}")
    return METHODS[name]


def check_model_name(name: str, checkpoint: str | None = None) -> None:
    """Check the name of a model and its weights file without importing timm or contacting the Hub.

    Args:
        name: Name of the model in a recipe.
        checkpoint: Weights file.

    Raises:
        TrainingError: The name cannot be that of a model, or the file cannot be read.
    """
    if is_code(name):
        pin_code(name, MODEL_FILE)
    elif "/" not in name and name not in (*PAPER_MODELS, PIXELS) and not Path(name).is_dir():
        raise TrainingError(
            f"unknown model {shorten(name)}: give {' or '.join(PAPER_MODELS)}, timm/NAME (perhaps timm/{name}), "
            "a transformers id (google/vit-base-patch16-224) or folder, or my.py:build"
        )
    if checkpoint is not None:
        path = expand_user(checkpoint)
        try:
            regular_size(path)
        except OSError as error:
            raise TrainingError(cannot_read(path, error, "give a weights file")) from None
