"""What a search is given and what it gives back, as files in one folder; for Python 3.7 and newer, with numpy alone.

The folder holds ``job.json`` and arrays of the splits. A search publishes the scores of the best model it has so far,
as often as there is a better one, into one file that is replaced whole: whatever ends the search, the best stays.
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
"""What `numpy.load` and `zipfile` raise of damaged files, a header that asks for terabytes included."""

STATE_NAME = "state"
SPLITS = ("train", "validation", "test")
MULTI_LABEL = "multi-label"

FAULT, NOT_INSTALLED, STOPPED = 1, 3, 130
"""Exit codes: an expected fault, whose line is on standard error; the engine cannot be imported; a signal to end."""

_LOOK_EVERY = 1.0
_PATIENCE = 60.0


class SearchError(Exception):
    """An expected fault, as one line: a budget too small for one trial, a task that the engine cannot do."""


class AutoMLJob:
    """One search.

    Attributes:
        folder: Where everything lies.
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
        if told.get("parent") == os.getppid():
            threading.Thread(target=_end_without, args=(told["parent"],), daemon=True).start()

    @property
    def state(self) -> Path:
        """Folder of what a search goes on from if it is broken off; made where it is missing."""
        folder = self.folder / STATE_NAME
        folder.mkdir(exist_ok=True)
        return folder

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
        seconds = {"best_after_seconds": round(time.monotonic() - self.begun, 2)}
        _save(self.folder / BEST_NAME, scores, {**found, **seconds})

    def found(self) -> Optional[Dict[str, Any]]:
        """What was told with the scores that were published last, also before this search was broken off; or None."""
        kept = _load(self.folder / BEST_NAME)
        return None if kept is None else kept[1]

    def note(self, **facts: Any) -> None:
        """Change what is told with the scores that were published last."""
        kept = _load(self.folder / BEST_NAME)
        if kept is not None:
            _save(self.folder / BEST_NAME, kept[0], {**kept[1], **facts})


def main(search: Callable[[AutoMLJob], None], name: Callable[[], str]) -> None:
    """Be an adapter: run the search of the folder that the command names, or with ``--check`` tell the engine's name.

    SIGTERM is a `KeyboardInterrupt` as SIGINT is; a search may catch it to publish what it has, and raise it again.

    Args:
        search: Called with the job; raises a `SearchError` for an expected fault.
        name: Imports the engine and gives ``NAME VERSION``.
    """
    if sys.argv[1:] == ["--check"]:
        try:
            print(name())
        except ImportError as error:
            print(" ".join(str(error).split()), file=sys.stderr)
            sys.exit(NOT_INSTALLED)
        return
    for one in (signal.SIGINT, signal.SIGTERM):  # a shell may have had SIGINT ignored
        signal.signal(one, signal.default_int_handler)
    try:
        search(AutoMLJob(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except SearchError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(FAULT)


def _end_without(parent: int) -> None:
    """End this process, and its group if that is its own, once its parent is gone: nobody waits for its result."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def all_columns(scores: np.ndarray, known: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities of the classes that a model knows, with 0 for those that train never shows; float64 (N, K)."""
    whole = np.zeros((len(scores), classes))
    whole[:, np.asarray(known, np.int64)] = scores
    return whole


Fit = Callable[[np.ndarray, np.ndarray, float, str], Tuple[Callable[[np.ndarray], np.ndarray], Dict[str, Any]]]
"""Takes labels of train and validation, seconds and a name; gives what maps inputs to (N, 2), and what to tell."""


def one_model_a_finding(job: AutoMLJob, fit: Fit) -> None:
    """Search each finding by itself as a binary task, for engines that know no multi-label one, and publish.

    What is left of the budget is shared evenly among the findings that are left. A finding that train always or never
    shows has that for its score. A search that is ended early has 0.5 for the findings it did not come to; where it
    goes on, those that it came to are not searched again.
    """
    labels = {split: job.y(split) for split in ("train", "validation")}
    inputs = {split: job.x(split) for split in ("validation", "test")}
    scores = {split: np.full((len(values), job.classes), 0.5) for split, values in inputs.items()}
    told: Dict[str, Any] = {"trials": 0, "configuration": {}, "one_model_a_finding": True}
    for at in range(job.classes):
        train, validation, done = labels["train"][:, at], labels["validation"][:, at], job.state / f"finding-{at}.npz"
        kept = _load(done)
        if train.min() == train.max():
            columns = {split: np.full(len(values), float(train[0])) for split, values in inputs.items()}
            found: Dict[str, Any] = {"configuration": "constant in train"}
        elif kept is not None:
            columns, found = kept
        else:
            predict, found = fit(train, validation, job.left() / (job.classes - at), f"finding-{at}")
            columns = {split: predict(values)[:, 1] for split, values in inputs.items()}
            _save(done, columns, found)
        for split, values in columns.items():
            scores[split][:, at] = values
        told["trials"] += found.get("trials", 0)
        told["configuration"][str(at)] = found["configuration"]
        told.update({key: found[key] for key in ("engine",) if key in found})
        job.publish(scores, told)


def _save(path: Path, arrays: Dict[str, np.ndarray], told: Dict[str, Any]) -> None:
    """Write arrays, as float64, and what is to be told of them, in place of a file as a whole."""
    fresh = path.with_name(f".{path.name}.tmp")
    with fresh.open("wb") as file:
        whole: Dict[str, np.ndarray] = {name: np.asarray(values, np.float64) for name, values in arrays.items()}
        whole["found"] = np.array(json.dumps(told, default=_plain))
        np.savez(file, **whole)  # type: ignore[arg-type]
    fresh.replace(path)


def _load(path: Path) -> Optional[Tuple[Dict[str, np.ndarray], Dict[str, Any]]]:
    """Arrays and the facts beside them; None if there is no file, or a damaged one, which is then replaced."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, json.loads(str(arrays.pop("found")))
    except DAMAGES:
        return None


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy as those of JSON, anything else as its text."""
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else str(value)
