"""Run a score card on an engine: features are stored once per data set, then every protocol is a run that reads them.

Below the folder of a card::

    plan.json              what the card consists of
    stores/SUBSET.json     the manifest of the features, which describes model, input and data
    labels/SUBSET.csv      the labels of test, as the scores of a perfect model
    RUN/                   a run: recipe, log, results, predictions
    .jobs/, stores/.jobs/  the states of all tasks
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from medmnist_hf.array_types import FloatArray
from medmnist_hf.catalog import Task as Kind
from medmnist_hf.catalog import subset
from medmnist_hf.data.configs import BuiltConfig
from medmnist_hf.data.rows import BuiltRows
from medmnist_hf.embeddings.manifest import StoreManifest, different_model, parse_store
from medmnist_hf.errors import JobError, TrainingError, cannot_read
from medmnist_hf.evaluation.prediction_files import predictions_of, read_predictions, write_scores
from medmnist_hf.files import expand_user, read_document, write_atomically
from medmnist_hf.jobs.engine import Engine
from medmnist_hf.jobs.submit import check_engine, run_tasks
from medmnist_hf.jobs.tasks import JOBS_DIR, State, Status, TaskFolder
from medmnist_hf.training.benchmark.matrix import BenchmarkRun
from medmnist_hf.training.benchmark.status import is_done, stale_runs, statuses_in
from medmnist_hf.training.benchmark.tasks import run_cells
from medmnist_hf.training.embedding.tasks import config_of, store_tasks, stored
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.results import RESULTS_NAME
from medmnist_hf.training.scorecard.plan import Plan, write_plan

STORES: Final = "stores"
LABELS: Final = "labels"

_RUNS: Final = Path("scorecard")
"""Names the folder of the runs' states, as the file of a matrix does for a benchmark."""


def readers_of_features(cells: Sequence[BenchmarkRun]) -> dict[str, Recipe]:
    """Flag of each subset -> the recipe of a run that reads its stored features."""
    return {cell.recipe.dataset: cell.recipe for cell in reversed(cells) if cell.recipe.features is not None}


def features_of(recipe: Recipe) -> StoreManifest | None:
    """The manifest of the stored features of a recipe; None if they are not complete or of other images.

    Whether they are of the model's weights and input is checked by the runs that read them.
    """
    return stored(recipe, _root(recipe))


def run_card(
    plan: Plan,
    cells: Sequence[BenchmarkRun],
    out: Path,
    engine: Engine,
    *,
    wait: bool = True,
    report: Callable[[str], None] = print,
) -> bool:
    """Run what is not done of a score card: store features, then run the protocols.

    Args:
        plan: The plan.
        cells: The run of each of its entries.
        out: Absolute path of the folder of the card; created if missing.
        engine: Engine to run on.
        wait: Wait for the tasks; otherwise return once the engine has them. Runs are started once all features are
            stored.
        report: Called with a line whenever a task ends.

    Returns:
        Whether the tasks of all runs have ended.

    Raises:
        TrainingError: The folder holds the card of another model, or runs on other data or features.
        JobError: The engine cannot run the tasks, tasks of the folder are running, or results would not be here.
        MedMNISTError: Data was not found.
        KeyboardInterrupt: Ctrl-C was pressed. All processes have been ended; the same call resumes.
        OSError: The folder cannot be written.
    """
    check_here(engine)
    check_engine(engine, wait=wait)
    waiting = [cell for cell in cells if not is_done(cell, out / cell.name)]
    readers = readers_of_features(waiting)
    configs = {cell.recipe.dataset: config_of(cell.recipe) for cell in cells}
    _check_data(out, cells)
    write_plan(out, plan)
    for flag, config in configs.items():
        _write_labels(out, flag, config)
    complete = _store(readers, out, engine, wait, report) if readers else []
    _copy_manifests(out, [readers[flag] for flag in complete])
    if not wait and len(complete) < len(readers):
        return False
    blocked = {cell.name for cell in waiting if cell.recipe.features and cell.recipe.dataset not in complete}
    second = type(engine)(engine.settings)  # an instance runs one list
    run_cells(cells, _RUNS, out, second, is_selected=lambda name: name not in blocked, wait=wait, report=report)
    return wait


def _store(
    readers: Mapping[str, Recipe], out: Path, engine: Engine, wait: bool, report: Callable[[str], None]
) -> list[str]:
    """Store the features of recipes; returns the flags of the subsets whose features are stored."""
    root = _root(next(iter(readers.values()))).absolute()
    tasks = store_tasks(list(readers.values()), root)
    flags = {task.name: flag for task, flag in zip(tasks, readers, strict=True)}
    statuses = run_tasks(
        store_states(out),
        tasks,
        engine,
        is_done=lambda task: features_of(readers[flags[task.name]]) is not None,
        wait=wait,
        describe=lambda task: "features stored",
        report=report,
    )
    return [flag for name, flag in flags.items() if statuses[name].state is State.DONE]


def check_here(engine: Engine) -> None:
    """Raise a `JobError` for an engine whose results this machine does not see, as a card is made of them."""
    if not engine.sees_results:
        raise JobError(
            f"a score card reads the results of its runs, which {engine.name} keeps elsewhere: use local, slurm or ray"
        )


def store_states(out: Path) -> TaskFolder:
    """The folder of the tasks that store features, within the folder of a card."""
    return TaskFolder(out / STORES / JOBS_DIR)


def states_of(plan: Plan, out: Path, cells: Sequence[BenchmarkRun] = ()) -> dict[str, Status]:
    """The status of each run of a plan, by its folder; runs whose features failed say so.

    Args:
        plan: The plan.
        out: Folder of the card.
        cells: Runs whose results are looked for, even if the last command did not name them.

    Raises:
        TrainingError: The recipe or the results of a run cannot be read.
        JobError: A list of tasks is damaged.
    """
    runs, stores = statuses_in(out, cells), store_states(out).statuses()
    found = {}
    for run in plan.runs:
        status = runs.get(run.folder, Status(State.WAITING))
        store = stores.get(f"{run.subset}-{run.size}")
        if status.state is State.WAITING and store is not None and store.state is not State.DONE:
            note = f"its features: {store.note}" if store.note else ""
            status = Status(State.WAITING if store.state is State.RUNNING else store.state, note)
        found[run.folder] = status
    return found


def _copy_manifests(out: Path, recipes: Sequence[Recipe]) -> None:
    """Copy the manifests of stores, which describe model and input, into the folder of a card.

    Raises:
        TrainingError: The features there are now are of other weights or another input.
    """
    for recipe in recipes:
        manifest, earlier = features_of(recipe), read_manifest(out, recipe.dataset)
        if manifest is not None:
            if earlier and (difference := different_model(earlier, manifest.model, manifest.input)):
                raise TrainingError(
                    f"{out} has runs on features of {recipe.dataset} that are not there any more ({difference}): "
                    "name another --out"
                )
            (out / STORES).mkdir(exist_ok=True)
            write_atomically(out / STORES / f"{recipe.dataset}.json", manifest.to_json())


def read_manifest(out: Path, flag: str) -> StoreManifest | None:
    """The manifest of the features of a subset in the folder of a card; None if there is none.

    Raises:
        TrainingError: It cannot be read.
        BuildError: It is damaged.
    """
    path = out / STORES / f"{flag}.json"
    try:
        return parse_store(read_document(path), str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TrainingError(cannot_read(path, error, "run medmnist-hf scorecard again")) from None


def _check_data(out: Path, cells: Sequence[BenchmarkRun]) -> None:
    """Refuse a folder with runs on other data than there is now."""
    done = [cell.name for cell in cells if (out / cell.name / RESULTS_NAME).is_file()]
    for name, root in stale_runs(out, done):
        raise TrainingError(f"{out / name} read other data than there is in {root} now: name another --out")


def read_labels(out: Path, flag: str, size: int) -> FloatArray:
    """The labels of test as class ids, shape (N,), or zeros and ones, shape (N, L), from the folder of a card.

    Raises:
        SourceError: The file is missing.
        ScoreError: It is damaged.
    """
    entry = subset(flag)
    table = read_predictions(out / LABELS / f"{flag}.csv", predictions_of(f"{flag}-{size}", "test")).scores
    return table if entry.task is Kind.MULTI_LABEL else table.argmax(axis=1)


def _write_labels(out: Path, flag: str, config: BuiltConfig) -> None:
    path = out / LABELS / f"{flag}.csv"
    labels = BuiltRows(config).targets("test")
    table = labels if labels.ndim == 2 else np.eye(len(config.entry.labels))[labels]
    write_scores(path, table.astype(np.float64))


def _root(recipe: Recipe) -> Path:
    return expand_user(str(recipe.features))
