"""The folder of a run: what it holds, whether it is that of a recipe, and how an earlier run is replaced.

It holds ``recipe.yaml``, ``data.json`` with what the data is, a folder for each seed and, once all are done,
``results.json`` and ``best``, a link to the model of the seed that is to be published.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from medmnist_hf.errors import TrainingError, cannot_read
from medmnist_hf.files import read_document, write_atomically
from medmnist_hf.training.recipe import RECIPE_NAME, Recipe, differences, make_recipe, model_part
from medmnist_hf.training.results import RESULTS_NAME, SEED_RESULT_NAME, DataRecord, RunResult, read_results

DATA_NAME: Final = "data.json"
"""What the data is that the run reads, noted before it is."""
LOCK_NAME: Final = "run.lock"
"""The lock of who runs; it stays in the folder."""

BEST: Final = "best"
"""The model of the best epoch, in the folder of a seed; in that of the run, a link to that of the published seed."""
LAST: Final = "last"
CHECKPOINTS: Final = "checkpoints"
"""Folder, in that of a seed, from which an interrupted method resumes."""
ENSEMBLE: Final = "ensemble"
"""Stands for the seed in the file names of the ensemble's predictions."""

_REPLACE: Final = "give --force to replace it, or name another folder with --out"


def seed_folder(out: Path, seed: int) -> Path:
    """The folder of a seed in that of its run."""
    return out / f"seed-{seed}"


def predictions_name(recipe: Recipe, part: str) -> str:
    """The run that a prediction file names: its model and method, and ``seed0`` or `ENSEMBLE`.

    It has no dot: the official package reads the name of a run up to the first one.
    """
    return f"{model_part(recipe)}_{recipe.method}_{part}".replace(".", "-")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of a run, which need not exist.

    Attributes:
        path: Where it is.
        recipe: What is to be run.
        force: Replace a run that it holds, also one that is done.
    """

    path: Path
    recipe: Recipe
    force: bool = False

    def check_recipe(self) -> None:
        """Refuse a folder that holds results, or checkpoints, of another recipe; seeds may be added.

        Raises:
            TrainingError: It does and is not to be replaced, or it cannot be known.
        """
        recipe_file = self.path / RECIPE_NAME
        if self.force or not self._holds_results() or not recipe_file.exists():
            return
        changed = differences(make_recipe({"seeds": self.recipe.seeds}, config=recipe_file), self.recipe)
        if changed:
            raise TrainingError(f"{self.path} holds a run of another recipe ({changed}): {_REPLACE}")

    def check(self, data: DataRecord) -> None:
        """Refuse a folder that holds results, or checkpoints, of another recipe or other data; seeds may be added.

        Args:
            data: What is to be read.

        Raises:
            TrainingError: It does and is not to be replaced, or it cannot be known.
        """
        if self.force or not self._holds_results():
            return
        self.check_recipe()
        data_file = self.path / DATA_NAME
        record = data.to_json().encode()
        try:
            before = read_document(data_file) if data_file.exists() else self._scored_data() or record
        except OSError as error:
            raise TrainingError(cannot_read(data_file, error, _REPLACE)) from None
        if before != record:
            raise TrainingError(
                f"{self.path} holds a run on other data than {data.provenance} {data.source.file}, "
                f"see {DATA_NAME} there: {_REPLACE}"
            )

    def _scored_data(self) -> bytes | None:
        """What the data was, as far as the results say."""
        path = self.path / RESULTS_NAME
        return read_results(path).data.to_json().encode() if path.exists() else None

    def done(self) -> RunResult | None:
        """The results of a run of this recipe with just its seeds, all whole and still there; None without one.

        Raises:
            TrainingError: The folder is of another recipe, as `check_recipe` says, or its results cannot be read.
        """
        self.check_recipe()
        path = self.path / RESULTS_NAME
        if self.force or not path.exists():
            return None
        result, folders = read_results(path), [seed_folder(self.path, seed) for seed in self.recipe.seeds]
        if not all((folder / SEED_RESULT_NAME).exists() for folder in folders):
            return None
        if any((folder / BEST).is_dir() for folder in folders) and not (self.path / BEST).is_dir():
            return None
        same = sorted(result.recipe.seeds) == sorted(self.recipe.seeds) and not differences(result.recipe, self.recipe)
        return result if same and not result.partial else None

    def claim(self, data: DataRecord) -> None:
        """Note recipe and data in the folder, once all that may be refused is checked.

        An earlier run goes first where it is to be replaced; what is not of a run stays.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if self.force:
            self._discard()
        write_atomically(self.path / DATA_NAME, data.to_json())
        write_atomically(self.path / RECIPE_NAME, self.recipe.to_yaml())

    def link_best(self, seed: int) -> None:
        """Make ``best`` the model of a seed: a relative link, which is right also where the folder is moved or copied.

        Where the file system has no links, it is a copy. A seed without a model gets none.
        """
        model, link = seed_folder(self.path, seed) / BEST, self.path / BEST
        if not model.is_dir():
            return
        fresh = self.path / f".{BEST}.tmp"
        _remove(fresh)
        try:
            fresh.symlink_to(model.relative_to(self.path), target_is_directory=True)
        except OSError:
            shutil.copytree(model, fresh)
        if not (fresh.is_symlink() and link.is_symlink()):
            _remove(link)
        fresh.replace(link)

    def _seed_folders(self) -> Iterator[Path]:
        return (path for path in self.path.glob("seed-*") if path.is_dir() and not path.is_symlink())

    def _holds_results(self) -> bool:
        """Whether there is a result, or a checkpoint that a run can resume from."""
        return (self.path / RESULTS_NAME).exists() or any(
            (folder / SEED_RESULT_NAME).exists() or ((at := folder / CHECKPOINTS).is_dir() and any(os.scandir(at)))
            for folder in self._seed_folders()
        )

    def _discard(self) -> None:
        """Remove an earlier run; the results first, so that what is left of it never counts as done."""
        _remove(self.path / RESULTS_NAME)
        for folder in self._seed_folders():
            _remove(folder / SEED_RESULT_NAME)
            _remove(folder)
        for path in (self.path / BEST, *self.path.glob(f"*@*{ENSEMBLE}*.csv")):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
