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
from medmnist_hf.errors import TrainingError, shorten


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
        module: Module of its ``fit``, within `medmnist_hf.training.methods`; that of its name if not given.
    """

    name: str
    about: str
    card: str = ""
    trains: bool = False
    volumes: bool = True
    engine: Engine | None = None
    module: str = ""

    @property
    def leaves_model(self) -> bool:
        """Whether there is a model to publish."""
        return bool(self.card)

    def fit(self, run: Any, seed: int, folder: Path) -> Any:
        """Carry it out: from a `methods.base.Run`, a seed and the seed's folder to a `methods.base.Fitted`."""
        module = import_module(f"medmnist_hf.training.methods.{self.module or self.name.replace('-', '_')}")
        return module.fit(run, seed, folder)


METHODS: Final[dict[str, Method]] = {
    entry.name: entry
    for entry in (
        Method("finetune", "All weights are trained.", card="all weights trained", trains=True),
        Method(
            "linear-probe",
            "A linear classifier on frozen features.",
            card="its features frozen and a linear classifier fitted to them",
        ),
        Method("knn", "The nearest train images vote, in the space of frozen features."),
        Method(
            "lora",
            "Small matrices beside the layers are trained and merged.",
            card="fine-tuned by LoRA",
            trains=True,
            volumes=False,
        ),
        Method("zero-shot", "A CLIP-like model compares images with the names of the labels.", volumes=False),
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
