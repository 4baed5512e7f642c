"""`Evaluator` and its functions, with the names and arguments of ``medmnist.evaluator``.

AUC and ACC are those of `medmnist_hf.scoring.official`, which equal the official ones.
"""

import csv
import logging
import re
import time
from io import StringIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medmnist_hf.catalog import DEFAULT_SIZE, NPZ_SPLITS, Task, split_name, subset
from medmnist_hf.errors import ScoreError
from medmnist_hf.evaluation.prediction_files import (
    PredictionName,
    check_run,
    read_predictions,
    write_scores,
)
from medmnist_hf.official.info import DEFAULT_ROOT, INFO, size_flag
from medmnist_hf.official.roots import Root, check_size, check_split, find_data, read_labels
from medmnist_hf.official.utils import write_file
from medmnist_hf.scoring.inputs import plain
from medmnist_hf.scoring.official import accuracy, score
from medmnist_hf.scoring.predictions import THRESHOLD, Predictions, check

_NAME: Final = re.compile(r"([^_]+)_(?:(\d{1,4})_)?(train|val|test)")
"""How the name of a prediction file begins; what follows is free, as in the official package."""

_log = logging.getLogger(__name__)


class Metrics(NamedTuple):
    """AUC and ACC, both from 0 to 1."""

    AUC: float
    ACC: float


class Evaluator:
    """Scores predictions of a split with the official AUC and ACC.

    Args:
        flag: Flag of the subset.
        split: ``train``, ``val`` or ``test``.
        size: Edge length in pixels or voxels; 28 if None.
        root: Where the labels are; as for `medmnist_hf.official.dataset.MedMNIST`. Only labels are read.

    Attributes:
        labels: uint8 of shape ``(N, 1)``, for ChestMNIST ``(N, 14)``.
        info: The entry of `INFO`.

    Raises:
        CatalogError: There is no such subset.
        ArgumentError: A `ValueError`: split or size is not valid.
        RootError: A `RuntimeError`: `root` or the data set in it does not exist.
        ReadError: The NPZ file is damaged, or holds another subset.
    """

    def __init__(self, flag: str, split: str, size: int | str | None = None, root: Root = DEFAULT_ROOT) -> None:
        entry = subset(flag)
        self.flag = entry.flag
        self.split = check_split(split)
        self.size = check_size(entry, size)
        self.size_flag = size_flag(self.size)
        self.root = root
        self.info = INFO[self.flag]
        self.labels = read_labels(find_data(entry, self.size, root), split)

    def evaluate(self, y_score: Any, save_folder: str | Path | None = None, run: object = None) -> Metrics:
        """Score predictions, and optionally write them to a prediction file.

        Args:
            y_score: Scores in the order of the rows. Binary: shape ``(N,)``, ``(N, 1)`` or ``(N, 2)``, of which the
                last column counts; other tasks: one column per class or finding. Binary and multi-label scores above
                0.5 are positive decisions, so pass probabilities.
            save_folder: Folder of the file, whose name is `get_standard_evaluation_filename`; created if missing.
            run: Name of the run in that name; the time if None.

        Raises:
            ScoreError: The number of rows or columns is wrong, or a score is not a finite number.
            BuildError: The file cannot be written.
        """
        scores = np.asarray(plain(y_score))
        predictions = _check(self.labels, scores, self.info["task"], len(self.info["label"]))
        if predictions.task in {Task.BINARY, Task.MULTI_LABEL} and not 0 <= predictions.columns.min() <= 1:
            _log.warning("scores are not in 0..1: ACC takes those above 0.5 for positive, so pass probabilities")
        metrics = Metrics(*_score(predictions))
        if save_folder is not None:
            path = Path(save_folder, self.get_standard_evaluation_filename(metrics, run))
            write_scores(path, scores.reshape(len(self.labels), -1))
        return metrics

    def get_standard_evaluation_filename(self, metrics: tuple[float, ...], run: object = None) -> str:
        """The name of a prediction file: ``{flag}{size_flag}_{split}_[AUC]{auc}_[ACC]{acc}@{run}.csv``.

        Args:
            metrics: AUC and ACC, rounded to three decimals. The fields of another named tuple are written likewise.
            run: Name of the run; the time if None.

        Raises:
            ScoreError: The name of the run cannot be part of a file name.
        """
        run = str(time.time() if run is None else run)
        check_run(run)
        fields = getattr(metrics, "_fields", Metrics._fields)
        scores = "_".join(f"[{field}]{value:.3f}" for field, value in zip(fields, metrics, strict=True))
        return f"{self.flag}{self.size_flag}_{self.split}_{scores}@{run}.csv"

    def get_dummy_prediction(self) -> NDArray[np.float64]:
        """Random scores of the right shape, by NumPy's global random state; those of a row of classes sum to 1."""
        if self.info["task"] not in {Task.MULTI_CLASS.official_name, Task.ORDINAL.official_name}:
            return np.random.rand(*self.labels.shape)
        scores = np.random.rand(len(self.labels), len(self.info["label"]))
        return np.asarray(scores / scores.sum(axis=1, keepdims=True))

    @classmethod
    def parse_and_evaluate(cls, path: str | Path, run: object = None, *, root: Root = DEFAULT_ROOT) -> Metrics:
        """Score a prediction file, print the result, and write the scores to a file whose name includes it.

        Args:
            path: A file whose name begins with ``{flag}{size_flag}_{split}``, with a line ``row,score,...`` for each
                row, in any order. The result is written to the same folder.
            run: Name of the run in the name of the result; what follows the first ``@`` of the file's name if None.
            root: Where the labels are.

        Raises:
            SourceError: There is no such file.
            CatalogError: The name contains an unknown subset or size.
            ScoreError: The name does not have that form, or rows or scores are missing.
        """
        path = Path(path)
        match = _NAME.match(path.name)
        named = match and PredictionName(
            match[1].lower(), int(match[2] or DEFAULT_SIZE), split_name(match[3]), run="", auc=None, acc=None
        )
        file = read_predictions(path, named)
        run = path.stem.partition("@")[2] if run is None else run
        if run == "":
            raise ScoreError(f"{path}: its name has no run after @: pass run=")
        evaluator = cls(file.flag, NPZ_SPLITS[file.split], file.size, root)
        metrics = evaluator.evaluate(file.scores, path.parent, run)
        print(metrics)  # noqa: T201 - as the official method does
        return metrics


def _check(y_true: Any, y_score: Any, task: str, num_classes: int | None = None) -> Predictions:
    return check(y_true, y_score, task, from_logits=False, num_classes=num_classes, allow_unscored=True)


def _score(predictions: Predictions) -> tuple[float, float]:
    result = score(predictions, absent="nan")
    return result.auc, result.acc


def getAUC(y_true: Any, y_score: Any, task: str) -> float:  # noqa: N802  (the official name)
    """The official AUC.

    Args:
        y_true: True labels: class ids of shape ``(N,)`` or ``(N, 1)``; for the multi-label task 0 and 1 of shape
            ``(N, L)``.
        y_score: Scores of shape ``(N, K)``; for the binary task also ``(N,)``.
        task: The official name of the task, such as ``multi-label, binary-class``.

    Returns:
        Mean of the one-vs-rest AUCs of the columns; nan if a class has no positive or no negative rows.

    Raises:
        ScoreError: The rows cannot be scored.

    Warns:
        ScoreWarning: The AUC is nan.
    """
    return _score(_check(y_true, y_score, task))[0]


def getACC(y_true: Any, y_score: Any, task: str, threshold: float = THRESHOLD) -> float:  # noqa: N802
    """The official accuracy; arguments and errors as in `getAUC`.

    Args:
        y_true: True labels.
        y_score: Scores.
        task: The official name of the task.
        threshold: Binary and multi-label scores strictly above it are positive decisions.
    """
    predictions = _check(y_true, y_score, task)
    if predictions.task not in {Task.BINARY, Task.MULTI_LABEL}:
        return accuracy(predictions)
    truth = np.stack([predictions.positive(label) for label in range(predictions.labels)])
    return float(np.mean((predictions.columns > threshold) == truth))


def save_results(y_true: Any, y_score: Any, outputpath: str | Path) -> None:
    """Write labels and scores side by side to a CSV with the header ``id,true_0,...,score_0,...``.

    Args:
        y_true: Labels of shape ``(N, L)``.
        y_score: Scores of shape ``(N, K)``.
        outputpath: The file; UTF-8 with a byte order mark.

    Raises:
        MedMNISTError: The file cannot be written.
    """
    labels, scores = np.asarray(plain(y_true)), np.asarray(plain(y_score))
    buffer = StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    columns = [("true", labels.shape[1]), ("score", scores.shape[1])]
    rows.writerow(["id", *(f"{name}_{column}" for name, width in columns for column in range(width))])
    rows.writerows([index, *pair[0], *pair[1]] for index, pair in enumerate(zip(labels, scores, strict=True)))
    write_file(Path(outputpath), f"\ufeff{buffer.getvalue()}")
