"""What an entry of a leaderboard says of finished runs: their predictions for test, their protocol and scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medmnist_hf import catalog
from medmnist_hf.errors import TrainingError, counted
from medmnist_hf.evaluation.prediction_files import files_of_split
from medmnist_hf.leaderboard.results import SelectedOn
from medmnist_hf.submissions.entry import claimed
from medmnist_hf.submissions.start import Start
from medmnist_hf.training.report.predictions import predictions_of_run
from medmnist_hf.training.report.publishable import portable
from medmnist_hf.training.results import RESULTS_NAME, RunResult, check_complete, read_results
from medmnist_hf.training.standing import setting_of


def start_of_runs(folders: Sequence[Path]) -> Start:
    """Describe runs of one recipe, each on another subset, as a new entry.

    Args:
        folders: Their folders, one or more.

    Raises:
        TrainingError: A run is not finished, was not scored on test, was made on data that is not official, or
            differs from the first one in more than the subset.
    """
    results: dict[str, Any] = {}
    files: dict[str, Path] = {}
    shared: dict[str, Any] = {}
    for folder in folders:
        predictions_of_run(folder)  # names what an unfinished run lacks
        run = portable(read_results(folder / RESULTS_NAME))
        check_complete(run)
        if not run.provenance.comparable:
            raise TrainingError(f"{folder}: made on {run.provenance} data, and an entry needs the official files")
        values = _values(run)
        differing = [name for name, value in shared.items() if values[name] != value]
        if differing:
            raise TrainingError(
                f"{folder}: differs from {folders[0]} in {', '.join(differing)}: an entry has one protocol, so start "
                "another one"
            )
        flag = run.recipe.dataset
        if flag in results:
            raise TrainingError(f"{folder}: a second run on {flag}: give one run per subset, of all seeds")
        shared = values
        scores = [seed.test for seed in run.seeds]
        results[flag] = claimed([each.auc for each in scores], [each.acc for each in scores])
        results[flag]["md5"] = run.data.source.md5
        for seed in run.seeds:
            files |= _file_of(folder, seed.seed)
    return Start(shared | {"results": results}, files)


def _file_of(folder: Path, seed: int) -> dict[str, Path]:
    found = files_of_split(folder / f"seed-{seed}", "test")
    if len(found) != 1:
        raise TrainingError(f"{folder}: seed-{seed} has {len(found)} prediction files of test, not one: run it again")
    return {f"seed-{seed}/{found[0].name}": found[0]}


def _values(run: RunResult) -> dict[str, Any]:
    """The attributes of an entry that a run gives, apart from its scores."""
    recipe, setting = run.recipe, setting_of(run.recipe)
    image_size = run.seeds[0].facts.image_size or recipe.size
    few = (
        f"{counted(recipe.shots, 'row')} per class"
        if recipe.shots
        else f"a fraction of {recipe.fraction} of the train split"
    )
    return {
        "method": recipe.model if recipe.method == "finetune" else f"{recipe.model}, {recipe.method}",
        "size": recipe.size,
        "image_size": image_size,
        "resize": "none" if image_size == recipe.size else "other" if recipe.resize == "none" else recipe.resize,
        "pretraining": setting.pretraining,
        "adaptation": setting.adaptation,
        "labels": setting.labels,
        "selected_on": SelectedOn.VALIDATION.value,
        "seeds": len(run.seeds),
        "release": catalog.collection().version,
        "note": f"trained on {few}" if recipe.few_labels else "",
    }
