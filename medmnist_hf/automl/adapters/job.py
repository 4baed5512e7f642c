"""What a search is given and what it gives back, as files in one folder; for Python 3.7 and newer, with numpy alone.

The folder holds ``job.json`` and arrays of the splits. A search publishes the scores of the best model it has so far,
as often as there is a better one, into one file that is replaced whole: whatever ends the search, the best stays.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import numpy as np

JOB_NAME = "job.json"
BEST_NAME = "best.npz"
SPLITS = ("train", "validation", "test")
MULTI_LABEL = "multi-label"


class Job:
    """One search.

    Attributes:
        folder: Where everything lies; a search may keep what it resumes from in ``folder / "state"``.
        task: ``binary-class``, ``multi-class``, ``ordinal-regression`` or ``multi-label``.
        classes: Number K of classes, or L of findings.
        inputs: ``pixels``: images or volumes, flattened, uint8 (N, F). ``features``: those of a network, float32
            (N, F). ``images``: uint8 (N, H, W), (N, H, W, 3) or (N, D, H, W).
        seconds: The time budget of the whole search.
        seed: Its seed.
        cores: Processor cores that it may use.
        options: What else the engine is told, by name.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        told = json.loads((self.folder / JOB_NAME).read_text(encoding="utf-8"))
        self.task: str = told["task"]
        self.classes: int = told["classes"]
        self.inputs: str = told["inputs"]
        self.seconds: float = told["seconds"]
        self.seed: int = told["seed"]
        self.cores: int = told["cores"]
        self.options: Dict[str, Any] = told["options"]
        self.begun = time.monotonic()

    def x(self, split: str) -> np.ndarray:
        """Inputs of a split, as `inputs` says."""
        return np.asarray(np.load(self.folder / f"x_{split}.npy", allow_pickle=False))

    def y(self, split: str) -> np.ndarray:
        """Labels of ``train`` or ``validation``: class ids int64 (N,), or findings int64 (N, L) of 0 and 1.

        There are none of test.
        """
        return np.asarray(np.load(self.folder / f"y_{split}.npy", allow_pickle=False))

    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.seconds - (time.monotonic() - self.begun)

    def publish(self, scores: Dict[str, np.ndarray], found: Dict[str, Any]) -> None:
        """Leave the scores of the best model so far.

        Args:
            scores: ``validation`` and ``test`` -> probabilities, float64 (N, K).
            found: What to tell of the search, for JSON: the configuration, the number of trials.
        """
        seconds = {"seconds": round(time.monotonic() - self.begun, 2)}
        arrays = {split: np.asarray(values, np.float64) for split, values in scores.items()}
        fresh = self.folder / f".{BEST_NAME}.tmp"
        with fresh.open("wb") as file:
            np.savez(file, found=np.array(json.dumps({**found, **seconds}, default=str)), **arrays)
        os.replace(str(fresh), str(self.folder / BEST_NAME))


def all_columns(scores: np.ndarray, known: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities of the classes that a model knows, with 0 for those that train never shows; float64 (N, K)."""
    whole = np.zeros((len(scores), classes))
    whole[:, np.asarray(known, np.int64)] = scores
    return whole


Fit = Callable[[np.ndarray, np.ndarray, float, str], Tuple[Callable[[np.ndarray], np.ndarray], Dict[str, Any]]]
"""Called with labels of train and validation, seconds and a name; gives what maps inputs to (N, 2), and what to tell."""


def one_model_a_finding(job: Job, fit: Fit) -> None:
    """Search each finding by itself as a binary task, for engines that know no multi-label one, and publish.

    What is left of the budget is shared evenly among the findings that are left. A finding that train always or never
    shows has that for its score. A search that is ended early has 0.5 for the findings it did not come to.
    """
    labels = {split: job.y(split) for split in ("train", "validation")}
    inputs = {split: job.x(split) for split in ("validation", "test")}
    scores = {split: np.full((len(values), job.classes), 0.5) for split, values in inputs.items()}
    told: Dict[str, Any] = {"one_model_a_finding": True, "findings": {}}
    for at in range(job.classes):
        train, validation = labels["train"][:, at], labels["validation"][:, at]
        if train.min() == train.max():
            for values in scores.values():
                values[:, at] = train[0]
            told["findings"][str(at)] = "constant in train"
        else:
            predict, found = fit(train, validation, job.left() / (job.classes - at), f"finding-{at}")
            for split, values in scores.items():
                values[:, at] = predict(inputs[split])[:, 1]
            told["findings"][str(at)] = found
        job.publish(scores, told)
