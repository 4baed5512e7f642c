"""The prediction file that represents a run: the test split of its published seed."""

from dataclasses import dataclass
from pathlib import Path

from medmnist_hf.errors import TrainingError
from medmnist_hf.evaluation.prediction_files import files_of_split
from medmnist_hf.leaderboard.protocols import Setting
from medmnist_hf.training.report.publishable import best_seed
from medmnist_hf.training.results import RESULTS_NAME, SEED_RESULT_NAME, read_results
from medmnist_hf.training.standing import setting_of


@dataclass(frozen=True, slots=True)
class RunPredictions:
    """The prediction file of a run.

    Attributes:
        path: The file.
        seed: Its seed.
        seeds: Number of seeds of the run.
        setting: What decides with which results it may be compared.
    """

    path: Path
    seed: int
    seeds: int
    setting: Setting

    @property
    def why(self) -> str:
        """Why this file was chosen, for messages."""
        return f"seed {self.seed}" + (f" of {self.seeds}, the best on validation" if self.seeds > 1 else "")


def is_run(folder: Path) -> bool:
    """Whether a path is the folder of a run, finished or not."""
    return folder.is_dir() and any(
        next(folder.glob(name), None) for name in (RESULTS_NAME, f"seed-*/{SEED_RESULT_NAME}", "recipe.yaml")
    )


def predictions_of_run(folder: Path) -> RunPredictions:
    """Find the test predictions of the seed that a run publishes, see `best_seed`.

    Args:
        folder: The run's folder.

    Raises:
        TrainingError: The run is not finished, its test split was not scored, or the file is missing.
    """
    if not (folder / RESULTS_NAME).is_file():
        raise TrainingError(f"{folder}: this run is not finished, it has no {RESULTS_NAME}: finish it first")
    result = read_results(folder / RESULTS_NAME)
    if not result.recipe.test:
        raise TrainingError(f"{folder}: this run has not scored test: run it again without --no-test")
    seed = best_seed(result).seed
    files = files_of_split(folder / f"seed-{seed}", "test")
    if len(files) != 1:
        raise TrainingError(
            f"{folder}: seed-{seed} has {len(files)} prediction files of test, not one: pass a file instead"
        )
    return RunPredictions(files[0], seed, len(result.seeds), setting_of(result.recipe))
