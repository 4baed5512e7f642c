"""Fine-tuning: a model trained end to end, or that part of it which a method such as LoRA leaves to be trained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.recipe_transforms import input_transform, memory_format, train_transform
from medmnist_hf.training.losses import make_loss, to_scores
from medmnist_hf.training.methods.base import CHECKPOINTS, Fitted, Run
from medmnist_hf.training.methods.linear_probe import probe_model
from medmnist_hf.training.methods.trainer import RecipeTrainer, last_checkpoint, training_arguments
from medmnist_hf.training.models.factory import build_model, parameter_counts
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe


def fit(run: Run, seed: int, folder: Path) -> Fitted:
    """Train all weights end to end; the best epoch of validation is kept."""
    return train(run, seed, folder)


def train(
    run: Run,
    seed: int,
    folder: Path,
    *,
    adapt: Callable[[Recipe, Built], Any] = lambda _, built: built.model,
    merge: Callable[[Any], nn.Module] = lambda model: model,
) -> Fitted:
    """Train what can be trained of a model; the best epoch of validation is kept.

    Args:
        run: What to do.
        seed: Seed of weights, order and augmentation.
        folder: The seed's folder, which gets checkpoints; from those that are there, training resumes.
        adapt: Called with recipe and model before training, gives the model to train.
        merge: Called with that model after training, gives the one to publish.

    Raises:
        TrainingError: The recipe cannot be carried out.
    """
    recipe = run.recipe
    built = build_model(recipe)
    checkpoints = folder / CHECKPOINTS
    resumed = last_checkpoint(checkpoints)
    if recipe.probe_first and resumed is None:
        probe_model(run, built, ("train", "validation"))
    model: Any = adapt(recipe, built)
    model.to(memory_format=memory_format(recipe))
    inputs = built.mean, built.std, built.image_size
    images = ArrayDataset(*run.data["train"])
    trainer = RecipeTrainer(
        recipe,
        model,
        training_arguments(recipe, checkpoints, seed),
        loss=make_loss(
            recipe.resolved_loss,
            images.labels.numpy(),
            len(recipe.subset.labels),
            weighted=recipe.class_weights,
            smoothing=recipe.label_smoothing,
        ),
        train=images,
        validation=ArrayDataset(*run.data["validation"]),
        train_transform=train_transform(recipe, *inputs, seed),
        transform=input_transform(recipe, *inputs),
        quiet=run.quiet,
    )
    output = trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    model.train()  # some networks keep parts of their weights for evaluation until then: those of the last epoch
    scores = {}
    for split in run.scored:
        predicted = trainer.predict(ArrayDataset(*run.data[split])).predictions
        scores[split] = to_scores(np.asarray(predicted), recipe.resolved_loss)
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
    return Fitted(scores, facts, replace(built, model=merge(model)))
