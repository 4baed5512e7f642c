"""Fine-tuning: a model trained end to end, or that part of it which a method such as LoRA leaves to be trained."""

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState  # type: ignore[import-untyped]
from torch import nn
from transformers import TrainerCallback
from transformers.integrations.integration_utils import rewrite_logs

from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.recipe_transforms import input_transform, memory_format, train_transform
from medmnist_hf.training.losses import make_loss, to_scores
from medmnist_hf.training.methods.base import Fitted, Run
from medmnist_hf.training.methods.resume import folder_of, last_checkpoint
from medmnist_hf.training.methods.trainer import RecipeTrainer, training_arguments
from medmnist_hf.training.models.factory import build_model, parameter_counts
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.run_folder import CHECKPOINTS
from medmnist_hf.training.tracking import tracking

_log = logging.getLogger(__name__)


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
        DivergenceError: The loss was no longer finite before an epoch was whole.
    """
    recipe, processes = run.recipe, PartialState()
    built = build_model(recipe)
    model: Any = None if recipe.probe_first else adapt(recipe, built)
    run.claim()
    checkpoints = folder / CHECKPOINTS
    with processes.main_process_first():  # it removes what is not whole
        resumed = last_checkpoint(checkpoints, processes.num_processes)
    earlier = 0.0 if resumed is None else resumed.seconds
    begun = time.monotonic() - earlier
    if recipe.probe_first and resumed is None:
        from medmnist_hf.training.methods.linear_probe import probe_model  # scikit-learn takes a second

        probe_model(run, built, ("train", "validation"))
    if recipe.probe_first:
        model = adapt(recipe, built)
    run.describe(model, built.origin)
    model.to(memory_format=memory_format(recipe))
    inputs = built.mean, built.std, built.image_size
    images = ArrayDataset(*run.data["train"])
    trainer = RecipeTrainer(
        recipe,
        model,
        training_arguments(recipe, checkpoints, seed, run.device),
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
        begun=begun,
        quiet=run.quiet,
        workers=run.workers,
    )
    with contextlib.ExitStack() as tracker:
        if processes.is_main_process:
            log = tracker.enter_context(tracking(recipe, folder, seed, 0 if resumed is None else resumed.step))
            trainer.add_callback(_Tracked(log))
        output = trainer.train(resume_from_checkpoint=resumed and str(folder_of(resumed.step, checkpoints)))
    model.train()  # some networks keep parts of their weights for evaluation until then: those of the last epoch
    scores = {}
    for split in run.scored:
        predicted = trainer.predict(ArrayDataset(*run.data[split])).predictions
        scores[split] = to_scores(np.asarray(predicted), recipe.resolved_loss)
    total, trained = parameter_counts(model)
    best_epoch = round((trainer.state.best_global_step or trainer.state.global_step) / trainer.steps_per_epoch)
    if trainer.diverged and processes.is_main_process:
        _log.warning(
            "training diverged: %s; epoch %d is kept. For more, %s", trainer.diverged, best_epoch, trainer.advice
        )
    facts = {
        "origin": built.origin,
        "parameters": total,
        "trained_parameters": trained,
        "best_epoch": best_epoch,
        "epochs": int(trainer.state.epoch or 0),
        "train_samples_per_second": output.metrics["train_samples_per_second"],
        "history": [dict(entry) for entry in trainer.state.log_history],
    }
    if trainer.diverged:
        facts["diverged"] = trainer.diverged
    return Fitted(scores, facts, replace(built, model=merge(model)), earlier_seconds=earlier)


class _Tracked(TrainerCallback):
    """Passes what is logged in training on to a tracker, see `medmnist_hf.training.tracking`.

    Args:
        log: Takes values by name, ``train/loss`` or ``eval/auc``, and their step.
    """

    def __init__(self, log: Callable[[Mapping[str, float], int], None]) -> None:
        self.log = log

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        values = rewrite_logs(logs)  # type: ignore[no-untyped-call]
        self.log({name: value for name, value in values.items() if isinstance(value, int | float)}, state.global_step)
