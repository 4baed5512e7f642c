"""The seeds of a run taken together: the mean of their scores, as deep ensembles predict.

Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep ensembles", NeurIPS 2017.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medmnist_hf.array_types import FloatArray
from medmnist_hf.errors import TrainingError
from medmnist_hf.evaluation.prediction_files import files_of_split, read_predictions, write_predictions
from medmnist_hf.training.methods.base import Run
from medmnist_hf.training.results import EnsembleResult
from medmnist_hf.training.run_folder import ENSEMBLE, predictions_name
from medmnist_hf.training.scoring import check_scores, score_splits


def ensemble(shared: Run, folders: Mapping[int, Path], out: Path) -> EnsembleResult | None:
    """Score the mean of the scores of all seeds, and leave it as prediction files.

    Args:
        shared: What was done.
        folders: Seed -> where its prediction files are.
        out: Where those of the mean go.

    Returns:
        What the mean scored; None for one seed alone.

    Raises:
        TrainingError: A seed lacks its predictions.
    """
    if len(folders) < 2:
        return None
    predictions = {}
    for split in shared.scored:
        mean: FloatArray = np.mean([_scores(folder, split) for folder in folders.values()], axis=0)
        write_scores(shared, out, split, mean, ENSEMBLE)
        predictions[split] = check_scores(shared.recipe, shared.data[split].labels, mean)
    return score_splits(shared.recipe, predictions)


def write_scores(shared: Run, folder: Path, split: str, scores: FloatArray, part: str) -> None:
    """Write the scores of a split as its one prediction file in a folder, in place of an earlier one.

    The run in its name is model, method and part. It ends in what the data is unless that is verified: the file itself
    cannot say it, and may be scored against other labels later.

    Args:
        shared: What was done.
        folder: Where to.
        split: ``validation`` or ``test``.
        scores: float64 of shape (N, K).
        part: Which part of the run: ``seed0``, or `ENSEMBLE`.
    """
    recipe = shared.recipe
    earlier = files_of_split(folder, split)
    provenance = shared.record.provenance
    run = predictions_name(recipe, part)
    marked = run if provenance.comparable else f"{run}-{provenance}"
    path = write_predictions(folder, recipe.dataset, recipe.size, split, scores, shared.data[split].labels, run=marked)
    for other in earlier:
        if other != path:
            other.unlink()


def _scores(folder: Path, split: str) -> FloatArray:
    files = files_of_split(folder, split)
    if len(files) != 1:
        raise TrainingError(
            f"{folder} has {len(files)} prediction files of {split}, not one: remove it to run it again"
        )
    return read_predictions(files[0]).scores
