"""An AutoML engine as a method: a search in a process of its own, on the images themselves or on frozen features."""

import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from accelerate import PartialState  # type: ignore[import-untyped]

from medmnist_hf.automl.engines import Engine, engine
from medmnist_hf.automl.environments import interpreter
from medmnist_hf.automl.search import Problem, search
from medmnist_hf.catalog import SPLITS
from medmnist_hf.errors import TrainingError
from medmnist_hf.training.methods.base import Fitted, Run
from medmnist_hf.training.methods.features import split_features
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.registry import PIXELS
from medmnist_hf.training.run_folder import CHECKPOINTS

LABELED: Final = ("train", "validation")
"""Splits whose labels an engine is given."""


def fit(run: Run, seed: int, folder: Path) -> Fitted:
    """Search on train by validation, within ``time_budget``, in the interpreter of the engine.

    Args:
        run: What to do; the method of its recipe is the engine.
        seed: Seed of the search.
        folder: The seed's folder; the search works, and resumes, in `CHECKPOINTS` there.

    Returns:
        Scores, and facts: ``inputs`` in words, ``engine``, ``trials``, ``configuration``, ``search_seconds``, and of
        an interrupted search how that happened, as ``partial``.

    Raises:
        TrainingError: The engine is not installed, cannot do what is asked for, or has left no model.
        KeyboardInterrupt: Ctrl-C before there was a model.
    """
    recipe = run.recipe
    if PartialState().num_processes > 1:
        raise TrainingError(f"method {recipe.method} runs in one process: start it without a launcher")
    searched = engine(recipe.method)
    python = interpreter(searched)
    if recipe.model == PIXELS:
        run.claim()
    kind, words = _inputs(recipe, searched)
    problem = Problem(
        task=recipe.subset.task.value,
        classes=len(recipe.subset.labels),
        inputs=kind,
        x=_arrays(run, kind),
        y={split: run.data[split].labels.astype(np.int64) for split in LABELED},
        seconds=recipe.time_budget,
        seed=seed,
        options={"epochs": recipe.epochs} | ({} if recipe.trials is None else {"trials": recipe.trials}),
    )
    tell = partial(print, file=sys.stderr, flush=True)
    result = search(searched, python, folder / CHECKPOINTS, problem, (lambda line: None) if run.quiet else tell)
    result.facts.setdefault("inputs", words)  # an engine may read them in a way of its own
    if result.partial:
        result.facts["partial"] = result.partial
    return Fitted(
        {split: result.scores[split] for split in run.scored},
        result.facts,
        stopped=result.stopped,
        earlier_seconds=result.earlier_seconds,
    )


def _inputs(recipe: Recipe, searched: Engine) -> tuple[str, str]:
    """What the engine is given, see ``adapters/job.py``, and that in words."""
    if recipe.model != PIXELS:
        return "features", f"features of {recipe.model}"
    if "pixels" in searched.inputs:
        return "pixels", "flattened voxels" if recipe.subset.ndim == 3 else "flattened pixels"
    return "images", "volumes" if recipe.subset.ndim == 3 else "images"


def _arrays(run: Run, kind: str) -> dict[str, npt.NDArray[Any]]:
    """Split -> inputs of that kind."""
    if kind == "features":
        built = build_model(run.recipe)
        run.describe(built.model, built.origin, trained=0)
        features = split_features(run, built, SPLITS)
        return {split: part.values for split, part in features.items()}
    images = {split: run.data[split].images for split in SPLITS}
    return images if kind == "images" else {split: part.reshape(len(part), -1) for split, part in images.items()}
