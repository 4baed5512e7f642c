"""Exchange data with a search through files in a folder. Runs on Python 3.7 and newer, with only NumPy installed.

The folder holds ``job.json`` and the arrays of each split. Whenever a search finds a better model, it publishes that
model's scores by replacing one file atomically, so the best scores survive however the search ends.
"""

from __future__ import annotations

import json
import lzma
import os
import signal
import struct
import sys
import threading
import time
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np

JOB_NAME = "job.json"
BEST_NAME = "best.npz"
DAMAGES = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    EOFError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors that `numpy.load` and `zipfile` raise for damaged files, for example if a header declares terabytes."""

STATE_NAME = "state"
SPLITS = ("train", "validation", "test")
MULTI_LABEL = "multi-label"

FAULT, NOT_INSTALLED, STOPPED = 1, 3, 130
"""Exit codes: an expected error, printed on standard error; the engine cannot be imported; ended by a signal."""

_CHECK_PARENT_EVERY = 1.0
_PATIENCE = 60.0


class SearchError(Exception):
    """An expected error, reported in one line, such as a budget that is too small for one trial."""


class AutoMLJob:
    """The job of a search.

    Attributes:
        folder: The folder with all files.
        task: ``binary-class``, ``multi-class``, ``ordinal-regression`` or ``multi-label``.
        classes: Number K of classes, or L of findings.
        inputs: ``pixels``: flattened images or volumes, uint8 (N, F). ``features``: features from a network, float32
            (N, F). ``images``: uint8 (N, H, W), (N, H, W, 3) or (N, D, H, W).
        seconds: Time budget of the whole search.
        seed: Seed of the search.
        cores: Number of processor cores that it may use.
        options: Further options of the engine, by name.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        job = json.loads((self.folder / JOB_NAME).read_text(encoding="utf-8"))
        self.task: str = job["task"]
        self.classes: int = job["classes"]
        self.inputs: str = job["inputs"]
        self.seconds: float = job["seconds"]
        self.seed: int = job["seed"]
        self.cores: int = job["cores"]
        self.options: Dict[str, Any] = job["options"]
        self.started = time.monotonic()
        if job.get("parent") == os.getppid():
            threading.Thread(target=_end_with_parent, args=(job["parent"],), daemon=True).start()

    @property
    def state(self) -> Path:
        """Folder for files that an interrupted search resumes from; created if missing."""
        folder = self.folder / STATE_NAME
        folder.mkdir(exist_ok=True)
        return folder

    def x(self, split: str) -> np.ndarray:
        """Return the inputs of a split, of the kind named by `inputs`."""
        return np.asarray(np.load(self.folder / f"x_{split}.npy", allow_pickle=False))

    def y(self, split: str) -> np.ndarray:
        """Return the labels of ``train`` or ``validation``: class ids int64 (N,), or findings int64 (N, L) of 0 and 1.

        The labels of ``test`` are not available to a search.
        """
        return np.asarray(np.load(self.folder / f"y_{split}.npy", allow_pickle=False))

    def left(self) -> float:
        """Return the remaining seconds of the budget."""
        return self.seconds - (time.monotonic() - self.started)

    def publish(self, scores: Dict[str, np.ndarray], facts: Dict[str, Any]) -> None:
        """Publish the scores of the best model so far.

        Args:
            scores: ``validation`` and ``test`` -> probabilities, float64 (N, K).
            facts: Facts about the search for the results, such as the configuration and the number of trials.
        """
        seconds = {"best_after_seconds": round(time.monotonic() - self.started, 2)}
        _save(self.folder / BEST_NAME, scores, {**facts, **seconds})

    def published_facts(self) -> Optional[Dict[str, Any]]:
        """Return the facts published last, possibly before an interruption; None if there are none."""
        published = _load(self.folder / BEST_NAME)
        return None if published is None else published[1]

    def update_facts(self, **facts: Any) -> None:
        """Update the published facts."""
        published = _load(self.folder / BEST_NAME)
        if published is not None:
            _save(self.folder / BEST_NAME, published[0], {**published[1], **facts})


def main(search: Callable[[AutoMLJob], None], name: Callable[[], str]) -> None:
    """Run an adapter: search in the folder named on the command line, or print the engine's name for ``--check``.

    SIGTERM raises `KeyboardInterrupt` like SIGINT; a search may catch it to publish its best model, then re-raise it.

    Args:
        search: Called with the job; raises a `SearchError` for an expected error.
        name: Imports the engine and returns ``NAME VERSION``.
    """
    if sys.argv[1:] == ["--check"]:
        try:
            print(name())
        except ImportError as error:
            print(" ".join(str(error).split()), file=sys.stderr)
            sys.exit(NOT_INSTALLED)
        return
    for signal_number in (signal.SIGINT, signal.SIGTERM):  # a shell may have set SIGINT to be ignored
        signal.signal(signal_number, signal.default_int_handler)
    try:
        search(AutoMLJob(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except SearchError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(FAULT)


def _end_with_parent(parent: int) -> None:
    """Once the parent process has ended, end this one, and its process group if it leads one."""
    while os.getppid() == parent:
        time.sleep(_CHECK_PARENT_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def all_columns(scores: np.ndarray, known: np.ndarray, classes: int) -> np.ndarray:
    """Return probabilities of all classes, float64 (N, K), with 0 for classes that train lacks.

    Args:
        scores: Probabilities of the known classes.
        known: Class ids of the columns of `scores`, those that occur in train.
        classes: Number K of classes.
    """
    all_scores = np.zeros((len(scores), classes))
    all_scores[:, np.asarray(known, np.int64)] = scores
    return all_scores


Fit = Callable[[np.ndarray, np.ndarray, float, str], Tuple[Callable[[np.ndarray], np.ndarray], Dict[str, Any]]]
"""Maps labels of train and validation, seconds and a name to a function from inputs to scores (N, 2), and facts."""


def search_each_finding(job: AutoMLJob, fit: Fit) -> None:
    """Search each finding as a binary task of its own, for engines without multi-label support, and publish scores.

    The remaining budget is divided evenly among the remaining findings. A finding that is constant in train gets that
    value as its score. If the search ends early, the findings it has not reached score 0.5; when it resumes, finished
    findings are not searched again.
    """
    labels = {split: job.y(split) for split in ("train", "validation")}
    inputs = {split: job.x(split) for split in ("validation", "test")}
    scores = {split: np.full((len(values), job.classes), 0.5) for split, values in inputs.items()}
    facts: Dict[str, Any] = {"trials": 0, "configuration": {}, "one_model_per_finding": True}
    for index in range(job.classes):
        train, validation = labels["train"][:, index], labels["validation"][:, index]
        path = job.state / f"finding-{index}.npz"
        saved = _load(path)
        if train.min() == train.max():
            columns = {split: np.full(len(values), float(train[0])) for split, values in inputs.items()}
            finding_facts: Dict[str, Any] = {"configuration": "constant in train"}
        elif saved is not None:
            columns, finding_facts = saved
        else:
            predict, finding_facts = fit(train, validation, job.left() / (job.classes - index), f"finding-{index}")
            columns = {split: predict(values)[:, 1] for split, values in inputs.items()}
            _save(path, columns, finding_facts)
        for split, values in columns.items():
            scores[split][:, index] = values
        facts["trials"] += finding_facts.get("trials", 0)
        facts["configuration"][str(index)] = finding_facts["configuration"]
        facts.update({key: finding_facts[key] for key in ("engine",) if key in finding_facts})
        job.publish(scores, facts)


def _save(path: Path, arrays: Dict[str, np.ndarray], facts: Dict[str, Any]) -> None:
    """Write arrays as float64, together with facts, to a file that is replaced atomically."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        content: Dict[str, np.ndarray] = {name: np.asarray(values, np.float64) for name, values in arrays.items()}
        content["found"] = np.array(json.dumps(facts, default=_to_json))
        np.savez(file, **content)  # type: ignore[arg-type]
    temporary.replace(path)


def _load(path: Path) -> Optional[Tuple[Dict[str, np.ndarray], Dict[str, Any]]]:
    """Load arrays and facts; None if the file is missing or damaged."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, json.loads(str(arrays.pop("found")))
    except DAMAGES:
        return None


def _to_json(value: Any) -> Any:
    """Convert NumPy scalars and arrays to JSON types, and anything else to text."""
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else str(value)
