"""Fine-tuning: train a model end to end, or only the parameters that a method such as LoRA selects."""

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

from medmnist_hf.training.data.recipe_transforms import input_transform, memory_format, train_transform
from medmnist_hf.training.losses import to_joint_scores
from medmnist_hf.training.methods.base import Fitted, Run, TrainingRun
from medmnist_hf.training.methods.resume import checkpoint_folder, last_checkpoint
from medmnist_hf.training.methods.trainer import RecipeTrainer, training_arguments
from medmnist_hf.training.models.factory import build_model, parameter_counts
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.run_folder import CHECKPOINTS
from medmnist_hf.training.tracking import tracking

_log = logging.getLogger(__name__)


def fit(run: TrainingRun, seed: int, folder: Path) -> Fitted:
    """Train all weights end to end and keep the best epoch on validation."""
    return train(run, seed, folder)


def train(
    run: TrainingRun,
    seed: int,
    folder: Path,
    *,
    adapt: Callable[[Recipe, Built], Any] = lambda _, built: built.model,
    merge: Callable[[Any], nn.Module] = lambda model: model,
) -> Fitted:
    """Train the parameters of a model that require gradients, and keep the best epoch on validation.

    Args:
        run: The run.
        seed: Seed of weights, order and augmentation.
        folder: The seed's folder; checkpoints are written to it, and training resumes from existing ones.
        adapt: Called with recipe and model before training; returns the model to train.
        merge: Called with the trained model; returns the model to publish.

    Raises:
        TrainingError: The recipe cannot be carried out.
        DivergenceError: The loss became infinite or nan within the first epoch.
    """
    recipe, processes = run.recipe, PartialState()
    built = build_model(recipe)
    inputs = built.mean, built.std, built.image_size
    augmented = train_transform(recipe, *inputs, seed)
    model: Any = None if recipe.probe_first else adapt(recipe, built)
    run.claim()
    checkpoints = folder / CHECKPOINTS
    with processes.main_process_first():  # the first process removes incomplete checkpoints
        resumed = last_checkpoint(checkpoints, processes.num_processes)
    earlier = 0.0 if resumed is None else resumed.seconds
    start = time.monotonic() - earlier
    features = ""
    if recipe.probe_first and resumed is None and isinstance(run, Run):
        from medmnist_hf.training.methods.linear_probe import probe_model  # importing scikit-learn takes a second

        features = probe_model(run, built, ("train", "validation"))[1]["train"].origin
    if recipe.probe_first:
        model = adapt(recipe, built)
    run.describe(built, model)
    model.to(memory_format=memory_format(recipe))
    trainer = RecipeTrainer(
        recipe,
        model,
        training_arguments(recipe, checkpoints, seed, run.device),
        loss=run.loss(),
        train=run.dataset("train"),
        validation=run.dataset("validation"),
        train_transform=augmented,
        transform=input_transform(recipe, *inputs),
        start=start,
        quiet=run.quiet,
        workers=run.workers,
    )
    with contextlib.ExitStack() as tracker:
        if processes.is_main_process:
            log = tracker.enter_context(tracking(recipe, folder, seed, 0 if resumed is None else resumed.step))
            trainer.add_callback(_TrackerCallback(log))
        checkpoint = None if resumed is None else str(checkpoint_folder(resumed.step, checkpoints))
        output = trainer.train(resume_from_checkpoint=checkpoint)
    model.train()  # some networks cache weights in evaluation mode, here those of the last epoch; this drops them
    scores = {}
    for split in run.scored:
        logits = trainer.predict(run.dataset(split)).predictions
        scores[split] = to_joint_scores(np.asarray(logits), recipe.heads)
    total, trained = parameter_counts(model)
    best_epoch = round((trainer.state.best_global_step or trainer.state.global_step) / trainer.steps_per_epoch)
    if trainer.diverged and processes.is_main_process:
        _log.warning(
            "training diverged: %s; epoch %d is kept. To train longer, %s",
            trainer.diverged,
            best_epoch,
            trainer.advice,
        )
    facts = {
        "origin": built.origin,
        "image_size": built.image_size,
        "parameters": total,
        "trained_parameters": trained,
        "best_epoch": best_epoch,
        "epochs": int(trainer.state.epoch or 0),
        "train_samples_per_second": output.metrics["train_samples_per_second"],
        "history": [dict(entry) for entry in trainer.state.log_history],
    }
    if features:
        facts["features"] = features
    if trainer.diverged:
        facts["diverged"] = trainer.diverged
    return Fitted(scores, facts, replace(built, model=merge(model)), earlier_seconds=earlier)


class _TrackerCallback(TrainerCallback):
    """Passes logged values on to a tracker, see `medmnist_hf.training.tracking`.

    Args:
        log: Called with values by name, such as ``train/loss`` or ``eval/auc``, and their step.
    """

    def __init__(self, log: Callable[[Mapping[str, float], int], None]) -> None:
        self.log = log

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        values = rewrite_logs(logs)  # type: ignore[no-untyped-call]
        self.log({name: value for name, value in values.items() if isinstance(value, int | float)}, state.global_step)
