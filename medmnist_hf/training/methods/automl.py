"""AutoML engines as methods: a search in a separate process, on the images themselves or on frozen features."""

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
"""Splits whose labels are passed to an engine."""


def fit(run: Run, seed: int, folder: Path) -> Fitted:
    """Fit models on train and select on validation, within ``time_budget``, in the interpreter of the engine.

    Args:
        run: The run, whose recipe names the engine as its method.
        seed: Seed of the search.
        folder: The seed's folder; the search works and resumes in its folder `CHECKPOINTS`.

    Returns:
        Scores and facts: a description of the ``inputs``, ``engine``, ``trials``, ``configuration``,
        ``search_seconds`` and, for an interrupted search, ``partial`` with the cause.

    Raises:
        TrainingError: The engine is not installed, does not support the task, or found no model.
        KeyboardInterrupt: Ctrl-C was pressed before there was a model.
    """
    recipe = run.recipe
    if PartialState().num_processes > 1:
        raise TrainingError(f"method {recipe.method} runs in one process: start it without a launcher")
    search_engine = engine(recipe.method)
    python = interpreter(search_engine)
    if recipe.model == PIXELS:
        run.claim()
    kind, description = _inputs(recipe, search_engine)
    x, origin = _arrays(run, kind)
    problem = Problem(
        task=recipe.subset.task.value,
        classes=len(recipe.subset.labels),
        inputs=kind,
        x=x,
        y={split: run.labels(split).astype(np.int64) for split in LABELED},
        seconds=recipe.time_budget,
        seed=seed,
        options={"epochs": recipe.epochs} | ({} if recipe.trials is None else {"trials": recipe.trials}),
    )
    echo = (lambda line: None) if run.quiet else partial(print, file=sys.stderr, flush=True)
    result = search(search_engine, python, folder / CHECKPOINTS, problem, echo)
    result.facts.setdefault("inputs", description)  # unless the engine describes them itself
    if origin:
        result.facts["features"] = origin
    if result.partial:
        result.facts["partial"] = result.partial
    return Fitted(
        {split: result.scores[split] for split in run.scored},
        result.facts,
        stopped=result.stopped,
        earlier_seconds=result.earlier_seconds,
    )


def _inputs(recipe: Recipe, search_engine: Engine) -> tuple[str, str]:
    """The kind of the engine's inputs, see ``adapters/job.py``, and a description."""
    if recipe.model != PIXELS:
        return "features", f"features of {recipe.model}"
    if "pixels" in search_engine.inputs:
        return "pixels", "flattened voxels" if recipe.subset.ndim == 3 else "flattened pixels"
    return "images", "volumes" if recipe.subset.ndim == 3 else "images"


def _arrays(run: Run, kind: str) -> tuple[dict[str, npt.NDArray[Any]], str]:
    """Split -> inputs of the given kind, and the origin of features."""
    if kind == "features":
        built = build_model(run.recipe)
        run.describe(built, trained=0)
        features = split_features(run, built, SPLITS)
        return {split: part.values for split, part in features.items()}, features["train"].origin
    images = {split: run.images(split) for split in SPLITS}
    flat = kind != "images"
    return {split: part.reshape(len(part), -1) if flat else part for split, part in images.items()}, ""
