"""The methods by which a model is made to predict a subset's labels, each from one seed to scores and a model.

To add one, write a function of `Job`, seed and folder, and name it in `METHODS`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from medmnist_hf.automl.engines import engines
from medmnist_hf.catalog import SPLITS
from medmnist_hf.data.arrays import Arrays
from medmnist_hf.errors import TrainingError
from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.loader import ArrayLoader
from medmnist_hf.training.data.recipe_transforms import input_transform, memory_format, train_transform
from medmnist_hf.training.losses import make_loss, to_scores
from medmnist_hf.training.methods.automl import run_engine
from medmnist_hf.training.methods.features import (
    Features,
    Probe,
    extract,
    linear_probe,
    nearest_neighbors,
    with_classifier,
)
from medmnist_hf.training.methods.lora import add_lora, merge_lora
from medmnist_hf.training.methods.trainer import RecipeTrainer, last_checkpoint, training_arguments
from medmnist_hf.training.methods.zero_shot import ZeroShot
from medmnist_hf.training.models.factory import Built, build_model, parameter_counts, resolved_loss
from medmnist_hf.training.recipe import Recipe

CHECKPOINTS: Final = "checkpoints"
"""Folder of what a training goes on from."""

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What a method made of one seed.

    Attributes:
        scores: Split -> scores, float64 of shape (N, K): ``validation`` and, if the recipe says so, ``test``.
        facts: What the method has to tell, for JSON: the best epoch, the strength chosen, what was tried.
        built: The model as it is to be published; None for methods whose model cannot score by itself.
        stopped: Ctrl-C ended it, and this is the best it had.
    """

    scores: dict[str, Scores]
    facts: dict[str, Any]
    built: Built | None = None
    stopped: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What all seeds of a run share.

    Attributes:
        recipe: What to do.
        data: Split -> images and labels.
        device: Where to compute.
        quiet: No progress on the terminal.
    """

    recipe: Recipe
    data: dict[str, Arrays]
    device: torch.device
    quiet: bool

    @property
    def scored(self) -> tuple[str, ...]:
        """The splits to score: validation, and test unless configurations are still being compared."""
        return ("validation", "test") if self.recipe.test else ("validation",)

    def batches(self, split: str, built: "Built | ZeroShot") -> ArrayLoader:
        """A split in its order, as inputs of a model."""
        return ArrayLoader(
            ArrayDataset(*self.data[split]),
            2 * self.recipe.batch_size,
            transform=input_transform(self.recipe, built.mean, built.std, built.image_size),
            device=self.device,
        )


def finetune(job: Job, seed: int, folder: Path) -> Fitted:
    """Train all weights end to end, or under LoRA a few; the best epoch of validation is kept."""
    recipe, lora = job.recipe, job.recipe.method == "lora"
    built = build_model(recipe)
    checkpoints = folder / CHECKPOINTS
    resumed = last_checkpoint(checkpoints)
    if recipe.probe_first and resumed is None:
        _fit_probe(job, built, ("train", "validation"))
    model: Any = add_lora(recipe, built.model) if lora else built.model
    model.to(memory_format=memory_format(recipe))
    inputs = built.mean, built.std, built.image_size
    train = ArrayDataset(*job.data["train"])
    trainer = RecipeTrainer(
        recipe,
        model,
        training_arguments(recipe, checkpoints, seed),
        loss=make_loss(
            resolved_loss(recipe),
            train.labels.numpy(),
            len(recipe.subset.labels),
            weighted=recipe.class_weights,
            smoothing=recipe.label_smoothing,
        ),
        train=train,
        validation=ArrayDataset(*job.data["validation"]),
        train_transform=train_transform(recipe, *inputs, seed),
        transform=input_transform(recipe, *inputs),
        quiet=job.quiet,
    )
    output = trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    scores = {}
    for split in job.scored:
        predicted = trainer.predict(ArrayDataset(*job.data[split])).predictions
        scores[split] = to_scores(np.asarray(predicted), resolved_loss(recipe))
    total, trained = parameter_counts(model)
    steps_an_epoch = max(1, trainer.state.max_steps // recipe.epochs)
    facts = {
        "origin": built.origin,
        "parameters": total,
        "trained_parameters": trained,
        "best_epoch": round((trainer.state.best_global_step or trainer.state.global_step) / steps_an_epoch),
        "epochs": round(trainer.state.epoch or 0),
        "train_samples_per_second": output.metrics["train_samples_per_second"],
        "history": [dict(entry) for entry in trainer.state.log_history],
    }
    if lora:
        model = merge_lora(model)
    return Fitted(scores, facts, replace(built, model=model))


def probe(job: Job, seed: int, folder: Path) -> Fitted:
    """Fit a linear classifier on frozen features and make it the model's own."""
    recipe = job.recipe
    built = build_model(recipe)
    found, features = _fit_probe(job, built, ("train", *job.scored))
    loss = resolved_loss(recipe)
    scores = {split: to_scores(found.logits(features[split]), loss) for split in job.scored}
    facts = {
        "origin": built.origin,
        "parameters": parameter_counts(built.model)[0],
        "trained_parameters": found.weight.size + found.bias.size,
        "strength": found.strength,
        "tried": {f"{strength:g}": auc for strength, auc in found.tried.items()},
    }
    return Fitted(scores, facts, built)


def knn(job: Job, seed: int, folder: Path) -> Fitted:
    """Let the nearest train images vote, in the space of frozen features."""
    recipe, entry = job.recipe, job.recipe.subset
    built = build_model(recipe)
    features = _features(job, built, ("train", *job.scored))
    scores = {
        split: np.asarray(
            nearest_neighbors(features["train"], features[split], entry.task, len(entry.labels), recipe.neighbors),
            np.float64,
        )
        for split in job.scored
    }
    facts = {
        "origin": built.origin,
        "parameters": parameter_counts(built.model)[0],
        "trained_parameters": 0,
        "neighbors": recipe.neighbors,
    }
    return Fitted(scores, facts)


def zero_shot(job: Job, seed: int, folder: Path) -> Fitted:
    """Compare images with prompts made of the label names; nothing is trained."""
    recipe = job.recipe
    model = ZeroShot(recipe.model, recipe.subset, recipe.prompt, job.device)
    scores = {split: model.scores(job.batches(split, model)) for split in job.scored}
    return Fitted(scores, {"origin": f"weights of {recipe.model}", "trained_parameters": 0, "prompt": recipe.prompt})


def automl(job: Job, seed: int, folder: Path) -> Fitted:
    """Let an AutoML engine search, on the images themselves or on frozen features."""

    def features() -> dict[str, npt.NDArray[np.float32]]:
        return {split: found.values for split, found in _features(job, build_model(job.recipe), SPLITS).items()}

    found = run_engine(job.recipe, seed, folder / CHECKPOINTS, data=job.data, features=features, quiet=job.quiet)
    return Fitted({split: found.scores[split] for split in job.scored}, found.facts, stopped=found.stopped)


def _fit_probe(job: Job, built: Built, splits: Iterable[str]) -> tuple[Probe, dict[str, Features]]:
    """A linear probe, which becomes the classifier of the model, and the features of some splits."""
    entry, features = job.recipe.subset, _features(job, built, splits)
    found = linear_probe(
        features["train"], features["validation"], entry.task, len(entry.labels), balanced=job.recipe.class_weights
    )
    with_classifier(built.model, found.weight, found.bias)
    return found, features


def _features(job: Job, built: Built, splits: Iterable[str]) -> dict[str, Features]:
    """What the classifier of a model sees of some splits."""
    if resolved_loss(job.recipe) == "ordinal":
        raise TrainingError("loss ordinal is not for frozen features: use finetune or lora without probe_first")
    model: Any = built.model  # torch's stubs know no memory format for modules
    model.to(memory_format=memory_format(job.recipe))
    return {split: extract(built.model, job.batches(split, built), job.device) for split in splits}


METHODS: Final[dict[str, Callable[[Job, int, Path], Fitted]]] = {
    "finetune": finetune,
    "lora": finetune,
    "linear-probe": probe,
    "knn": knn,
    "zero-shot": zero_shot,
    **dict.fromkeys((engine.name for engine in engines()), automl),
}
"""Name of a method -> what carries it out."""
