"""An AutoML engine as one more method: a recipe and its data as a search, and what it found as facts."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from accelerate import PartialState  # type: ignore[import-untyped]

from medmnist_hf.automl.engines import Engine, engine
from medmnist_hf.automl.environments import interpreter
from medmnist_hf.automl.search import Found, Problem, search
from medmnist_hf.catalog import SPLITS
from medmnist_hf.data.arrays import Arrays
from medmnist_hf.errors import TrainingError
from medmnist_hf.training.recipe import PIXELS, Recipe

LABELLED: Final = ("train", "validation")
"""Splits whose labels an engine is given."""

Values = Mapping[str, npt.NDArray[Any]]


def run_engine(
    recipe: Recipe,
    seed: int,
    folder: Path,
    *,
    data: Mapping[str, Arrays],
    features: Callable[[], Mapping[str, npt.NDArray[np.float32]]],
    quiet: bool,
) -> Found:
    """Search on train by validation, within ``time_budget``, in the interpreter of the engine.

    Args:
        recipe: What to do; its method is the engine.
        seed: Seed of the search.
        folder: Where it works, and what it goes on from.
        data: Split -> images and labels. Those of test are not given to the engine.
        features: Called where the recipe names a network, gives its features of each split, float32 (N, F).
        quiet: No progress on standard error.

    Returns:
        Scores of validation and test, and facts: ``inputs`` in words, ``engine``, ``trials``, ``configuration``,
        ``search_seconds``, and of a search that was broken off how, as ``partial``.

    Raises:
        TrainingError: The engine is not installed, cannot do what is asked for, or has left no model.
        KeyboardInterrupt: Ctrl-C before there was a model.
    """
    if PartialState().num_processes > 1:
        raise TrainingError(f"method {recipe.method} runs in one process: start it without a launcher")
    one = engine(recipe.method)
    python = interpreter(one)
    kind, words = _inputs(recipe, one)
    problem = Problem(
        task=recipe.subset.task.value,
        classes=len(recipe.subset.labels),
        inputs=kind,
        x=features() if kind == "features" else {split: _shaped(kind, data[split].images) for split in SPLITS},
        y={split: data[split].labels.astype(np.int64) for split in LABELLED},
        seconds=recipe.time_budget,
        seed=seed,
        options={"epochs": recipe.epochs} | ({} if recipe.trials is None else {"trials": recipe.trials}),
    )
    tell = partial(print, file=sys.stderr, flush=True)
    found = search(one, python, folder, problem, (lambda line: None) if quiet else tell)
    found.facts.setdefault("inputs", words)  # an engine may read them in a way of its own
    if found.partial:
        found.facts["partial"] = found.partial
    return found


def _inputs(recipe: Recipe, one: Engine) -> tuple[str, str]:
    """What the engine is given, see ``adapters/job.py``, and that in words."""
    if recipe.model != PIXELS:
        return "features", f"features of {recipe.model}"
    if "pixels" in one.inputs:
        return "pixels", "flattened voxels" if recipe.subset.ndim == 3 else "flattened pixels"
    return "images", "volumes" if recipe.subset.ndim == 3 else "images"


def _shaped(kind: str, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return images.reshape(len(images), -1) if kind == "pixels" else images
