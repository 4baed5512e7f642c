"""The methods that a recipe can name, with all that is known of each before any of them is imported.

What carries a method out is the function ``fit(run, seed, folder)`` of a module of `medmnist_hf.training.methods`, so
adding one is a module there and a line in `METHODS`: see ``docs/contributing/add-a-method.md``.

Example:
    >>> method("linear-probe").leaves_model, method("knn").leaves_model
    (True, False)
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from medmnist_hf.automl.engines import Engine, engines
from medmnist_hf.errors import TrainingError, cannot_read, shorten
from medmnist_hf.files import expand_user, regular_size

COMMON: Final = ("dataset", "size", "root", "repository", "revision", "model", "method", "loss", "seeds", "test")
"""Options of a recipe that every method reads."""

PAPER_MODELS: Final = ("resnet18", "resnet50")
"""The networks of the MedMNIST paper, as a recipe names them."""

PIXELS: Final = "pixels"
"""The model of an AutoML engine that reads the images themselves."""

_INPUT: Final = ("resize", "channels", "intensity_scale", "batch_size")
_NETWORK: Final = (
    *_INPUT,
    *("pretrained", "checkpoint", "stem", "volumetric", "depth_stride", "image_size", "normalize"),
)
_TRAINING: Final = (
    *_NETWORK,
    *("class_weights", "label_smoothing", "probe_first", "freeze_batch_norm", "epochs", "accumulation", "optimizer"),
    *("learning_rate", "weight_decay", "layer_decay", "schedule", "warmup_epochs", "max_grad_norm"),
    *("early_stopping", "select", "mixup", "cutmix", "ema", "drop_rate", "drop_path", "flip_horizontal"),
    *("flip_vertical", "crop_padding", "rotation", "rotate90", "color_jitter", "precision", "compile", "report_to"),
)


@dataclass(frozen=True, slots=True)
class Method:
    """One way to make a model predict the labels of a subset.

    Attributes:
        name: As a recipe names it.
        about: What it does, one line.
        card: How it makes its model, as the model card says after the name of the network; empty if it leaves none.
        trains: It trains by the recipe's loss, which may then be any of the task's.
        volumes: It reads volumes as well as images.
        engine: The AutoML engine that it runs, if it runs one.
        reads: Options of a recipe that it reads, besides `COMMON`; of an engine those that it reads of a network's
            features.
        module: Module of its ``fit``, within `medmnist_hf.training.methods`; that of its name if not given.
    """

    name: str
    about: str
    card: str = ""
    trains: bool = False
    volumes: bool = True
    engine: Engine | None = None
    reads: tuple[str, ...] = _NETWORK
    module: str = ""

    @property
    def leaves_model(self) -> bool:
        """Whether there is a model to publish."""
        return bool(self.card)

    def does_read(self, option: str, *, pixels: bool = False) -> bool:
        """Whether it reads an option of a recipe, which may give an engine the pixels in place of features."""
        own = () if self.engine is None else ("time_budget", *self.engine.options)
        return option in COMMON or option in own or (option in self.reads and not pixels)

    def fit(self, run: Any, seed: int, folder: Path) -> Any:
        """Carry it out: from a `methods.base.Run`, a seed and the seed's folder to a `methods.base.Fitted`."""
        module = import_module(f"medmnist_hf.training.methods.{self.module or self.name.replace('-', '_')}")
        return module.fit(run, seed, folder)


METHODS: Final[dict[str, Method]] = {
    entry.name: entry
    for entry in (
        Method("finetune", "All weights are trained.", card="all weights trained", trains=True, reads=_TRAINING),
        Method(
            "linear-probe",
            "A linear classifier on frozen features.",
            card="its features frozen and a linear classifier fitted to them",
            reads=(*_NETWORK, "class_weights"),
        ),
        Method(
            "knn",
            "The nearest train images vote, in the space of frozen features.",
            reads=(*_NETWORK, "neighbors"),
        ),
        Method(
            "lora",
            "Small matrices beside the layers are trained and merged.",
            card="fine-tuned by LoRA",
            trains=True,
            volumes=False,
            reads=(*_TRAINING, "lora_rank", "lora_alpha"),
        ),
        Method(
            "zero-shot",
            "A CLIP-like model compares images with the names of the labels.",
            volumes=False,
            reads=(*_INPUT, "prompt"),
        ),
        *(Method(engine.name, engine.about, engine=engine, module="automl") for engine in engines()),
    )
}
"""Name -> method, in the order in which they are listed."""


def method(name: str) -> Method:
    """A method by its name.

    Raises:
        TrainingError: There is no method of this name.
    """
    if name not in METHODS:
        raise TrainingError(f"unknown method {shorten(name)}: choose from {', '.join(METHODS)}")
    return METHODS[name]


def check_model_name(name: str, checkpoint: str | None = None) -> None:
    """Refuse a model whose name alone says that there is none, and a file of weights that is not there.

    Args:
        name: The model, as a recipe names it.
        checkpoint: The file of weights.

    Raises:
        TrainingError: As said; what timm and the Hub have is not known here.
    """
    if "/" not in name and name not in (*PAPER_MODELS, PIXELS) and not Path(name).is_dir():
        raise TrainingError(
            f"unknown model {shorten(name)}: give {' or '.join(PAPER_MODELS)}, timm/NAME (perhaps timm/{name}), "
            "or a transformers id (google/vit-base-patch16-224) or folder"
        )
    if checkpoint is not None:
        path = expand_user(checkpoint)
        try:
            regular_size(path)
        except OSError as error:
            raise TrainingError(cannot_read(path, error, "give a file of weights")) from None
