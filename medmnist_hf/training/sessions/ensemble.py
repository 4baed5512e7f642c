"""The ensemble of a run: the mean of the scores of all seeds, as in deep ensembles.

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
    """Average the scores of all seeds, write the mean as prediction files, and score it.

    Args:
        shared: The run.
        folders: Seed -> folder of its prediction files.
        out: Folder for the prediction files of the mean.

    Returns:
        Measures of the mean; None for a single seed.

    Raises:
        TrainingError: A prediction file of a seed is missing.
    """
    if len(folders) < 2:
        return None
    predictions = {}
    for split in shared.scored:
        mean: FloatArray = np.mean([_scores(folder, split) for folder in folders.values()], axis=0)
        write_scores(shared, out, split, mean, ENSEMBLE)
        predictions[split] = check_scores(shared.recipe, shared.labels(split), mean)
    return score_splits(shared.recipe, predictions)


def write_scores(shared: Run, folder: Path, split: str, scores: FloatArray, part: str) -> None:
    """Write the scores of a split as the only prediction file of that split in a folder.

    The run name consists of model, method and part, followed by the provenance of the data unless it is verified: the
    file has no other place to record it and may later be scored against other labels.

    Args:
        shared: The run.
        folder: Folder to write to.
        split: ``validation`` or ``test``.
        scores: float64 of shape (N, K).
        part: Part of the run: ``seed0`` or similar, or `ENSEMBLE`.
    """
    recipe = shared.recipe
    earlier = files_of_split(folder, split)
    provenance = shared.record.provenance
    run = predictions_name(recipe, part)
    marked = run if provenance.comparable else f"{run}-{provenance}"
    path = write_predictions(folder, recipe.dataset, recipe.size, split, scores, shared.labels(split), run=marked)
    for other in earlier:
        if other != path:
            other.unlink()


def _scores(folder: Path, split: str) -> FloatArray:
    files = files_of_split(folder, split)
    if len(files) != 1:
        raise TrainingError(
            f"{folder} has {len(files)} prediction files of {split} instead of one: remove the folder to run it again"
        )
    return read_predictions(files[0]).scores
