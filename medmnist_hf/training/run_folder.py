"""The folder of a run: its files, whether it belongs to a recipe, and how an earlier run is replaced.

It contains ``recipe.yaml``, ``data.json``, a folder per seed and, once all seeds are finished, ``results.json`` and
``best``, a link to the model of the seed to publish.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from medmnist_hf.documents import parse_json
from medmnist_hf.embeddings.manifest import model_slug
from medmnist_hf.errors import TrainingError, cannot_read
from medmnist_hf.files import read_document, write_atomically
from medmnist_hf.own_code.names import AUGMENTATION_FILE, MODEL_FILE, is_code, pin_code, public_code
from medmnist_hf.training.recipe import FIELDS, NOT_TRAINED, RECIPE_NAME, Recipe, make_recipe
from medmnist_hf.training.results import (
    PROVENANCE,
    RESULTS_NAME,
    SEED_RESULT_NAME,
    DataRecord,
    RunResult,
    read_results,
)
from medmnist_hf.typed_json import decode

DATA_NAME: Final = "data.json"
"""File that describes the data of the run, written before the data is read."""
LOCK_NAME: Final = "run.lock"
"""Lock file of the running process; it is not removed."""

BEST: Final = "best"
"""In the folder of a seed, the model of the best epoch; in the folder of the run, a link to the model to publish."""
LAST: Final = "last"
CHECKPOINTS: Final = "checkpoints"
"""Folder within that of a seed from which an interrupted method resumes."""
ENSEMBLE: Final = "ensemble"
"""Takes the place of the seed in the names of the ensemble's prediction files."""


class Finished(Protocol):
    """The results of a run, on one subset or on several."""

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run."""

    @property
    def partial(self) -> tuple[int, ...]:
        """Seeds that are missing or interrupted."""


Result = TypeVar("Result", bound=Finished)

_REPLACE: Final = "give --force to replace it, or name another folder with --out"


def pin_files(recipe: Recipe) -> Recipe:
    """Add the digests of the user's own files to a recipe, so that another version of a file is another recipe.

    Raises:
        TrainingError: A file cannot be read, or has another digest than the recipe states.
    """
    model, augmentation = recipe.model, recipe.augmentation_file
    return dataclasses.replace(
        recipe,
        model=pin_code(model, MODEL_FILE) if is_code(model) else model,
        augmentation_file=augmentation and pin_code(augmentation, AUGMENTATION_FILE),
    )


def run_name(recipe: Recipe) -> str:
    """The folder name of a configuration: subset, size, model, method and an eight-digit hash.

    The hash covers all options that differ from their defaults, except seeds and tracker: seeds can be added to a
    finished run.
    """
    values = {name: _without_folder(getattr(recipe, name)) for name in FIELDS}
    changed = {name: value for name, value in values.items() if value != FIELDS[name].default}
    for name in NOT_TRAINED:
        changed.pop(name, None)
    digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
    flags = recipe.dataset.split(",")
    data = "+".join(flags) if len(flags) < 4 else f"{len(flags)}-subsets"
    return f"{data}-{recipe.size}-{model_slug(recipe.model)}-{recipe.method}-{digest}"


def default_folder(recipe: Recipe) -> Path:
    """The folder of a run if none is given."""
    return Path("runs", run_name(recipe))


def differences(earlier: Recipe, recipe: Recipe) -> str:
    """Describe how a recipe differs from an earlier one, e.g. ``epochs 3 -> 4``; empty if both train the same."""
    names = [name for name in FIELDS if name not in NOT_TRAINED]
    pairs = ((name, *(_without_folder(getattr(each, name)) for each in (earlier, recipe))) for name in names)
    words = {"None": "none", "True": "yes", "False": "no"}
    changed = ((name, words.get(str(old), old), words.get(str(new), new)) for name, old, new in pairs if old != new)
    return ", ".join(f"{name} {old} -> {new}" for name, old, new in changed)


def _without_folder(value: Any) -> Any:
    """A value of a recipe; of a user's own file, which is identified by its digest, without the folder."""
    return public_code(value) if isinstance(value, str) else value


def seed_folder(out: Path, seed: int) -> Path:
    """The folder of a seed within the folder of its run."""
    return out / f"seed-{seed}"


def predictions_name(recipe: Recipe, part: str) -> str:
    """The run name in the name of a prediction file: model, method, few labels if so, and ``seed0`` or `ENSEMBLE`.

    It contains no dot, since the official package reads a run name only up to the first dot.
    """
    few = f"_{recipe.few_labels.replace(' ', '')}" if recipe.few_labels else ""
    return f"{model_slug(recipe.model)}_{recipe.method}{few}_{part}".replace(".", "-")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of a run, which may not exist yet.

    Attributes:
        path: Path of the folder.
        recipe: The recipe to run.
        force: Replace an existing run, even a finished one.
    """

    path: Path
    recipe: Recipe
    force: bool = False

    def check_recipe(self) -> None:
        """Refuse a folder with results or checkpoints of another recipe; seeds may be added.

        Raises:
            TrainingError: The folder holds another run and `force` is not set, or its recipe cannot be read.
        """
        recipe_file = self.path / RECIPE_NAME
        if self.force or not self._holds_results() or not recipe_file.exists():
            return
        changed = differences(make_recipe({"seeds": self.recipe.seeds}, config=recipe_file), self.recipe)
        if changed:
            raise TrainingError(f"{self.path} holds a run of another recipe ({changed}): {_REPLACE}")

    def check(self, *data: DataRecord) -> None:
        """Refuse a folder with results or checkpoints of another recipe or of other data; seeds may be added.

        Args:
            data: The data to be read, of each subset.

        Raises:
            TrainingError: The folder holds another run and `force` is not set, or its files cannot be read.
        """
        if self.force or not self._holds_results():
            return
        self.check_recipe()
        data_file = self.path / DATA_NAME
        try:
            existing = _parse(read_document(data_file)) if data_file.exists() else self._scored_data() or data
        except OSError as error:
            raise TrainingError(cannot_read(data_file, error, _REPLACE)) from None
        for at, record in enumerate(data):
            if len(existing) != len(data) or existing[at].identity != record.identity:
                raise TrainingError(
                    f"{self.path} holds a run on other data than {record.provenance} {record.source.file}, "
                    f"see {DATA_NAME} there: {_REPLACE}"
                )

    def _scored_data(self) -> tuple[DataRecord, ...]:
        """The record of the data in the results of one subset, if there are any."""
        path = self.path / RESULTS_NAME
        return (read_results(path).data,) if path.exists() and not self.recipe.is_joint else ()

    def finished_result(self) -> RunResult | None:
        """As `finished`, for a run on one subset."""
        return self.finished(read_results)

    def finished(self, read: Callable[[Path], Result]) -> Result | None:
        """The results if the folder holds a finished run of this recipe with exactly its seeds; otherwise None.

        Args:
            read: Reads the file of results.

        Raises:
            TrainingError: The folder holds a run of another recipe, or its results cannot be read.
        """
        self.check_recipe()
        path = self.path / RESULTS_NAME
        if self.force or not path.exists():
            return None
        result, folders = read(path), [seed_folder(self.path, seed) for seed in self.recipe.seeds]
        if not all((folder / SEED_RESULT_NAME).exists() for folder in folders):
            return None
        if any((folder / BEST).is_dir() for folder in folders) and not (self.path / BEST).is_dir():
            return None
        same = sorted(result.recipe.seeds) == sorted(self.recipe.seeds) and not differences(result.recipe, self.recipe)
        return result if same and not result.partial else None

    def claim(self, *data: DataRecord) -> None:
        """Write recipe and data record into the folder, after all checks have passed.

        With `force`, an earlier run is removed first; files that do not belong to a run stay.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if self.force:
            self._discard()
        texts = [record.to_json() for record in data]
        write_atomically(self.path / DATA_NAME, texts[0] if len(texts) == 1 else "[\n" + ",".join(texts) + "]\n")
        write_atomically(self.path / RECIPE_NAME, self.recipe.to_yaml())

    def link_best(self, seed: int) -> None:
        """Link ``best`` to the model of a seed, if it has one.

        The link is relative, so it stays valid when the folder is moved or copied. On a file system without links, the
        model is copied.
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
        """Whether the folder holds a result, or a checkpoint to resume from."""
        return (self.path / RESULTS_NAME).exists() or any(
            (folder / SEED_RESULT_NAME).exists() or ((at := folder / CHECKPOINTS).is_dir() and any(os.scandir(at)))
            for folder in self._seed_folders()
        )

    def _discard(self) -> None:
        """Remove an earlier run, results first, so that its remains never pass for a finished run."""
        _remove(self.path / RESULTS_NAME)
        for folder in self._seed_folders():
            _remove(folder / SEED_RESULT_NAME)
            _remove(folder)
        for path in (
            self.path / BEST,
            *self.path.glob(f"*@*{ENSEMBLE}*.csv"),
            *self.path.glob(f"*/*@*{ENSEMBLE}*.csv"),
        ):
            _remove(path)


def _parse(text: bytes) -> Sequence[DataRecord]:
    """The records in a ``data.json``, one per subset; empty if it is damaged."""
    records = []
    try:
        content = parse_json(text)
        for each in content if isinstance(content, list) else [content]:
            table = decode(each, dict[str, Any])
            provenance = table.pop(PROVENANCE, None)
            record: DataRecord = decode(table, DataRecord)
            if record.provenance != provenance:
                return ()
            records.append(record)
    except ValueError:
        return ()
    return records


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
