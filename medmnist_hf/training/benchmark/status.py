"""States of the cells of a benchmark, from its folder alone.

A cell's folder contains its recipe ``cell.yaml``, what its run writes, and the output of its process, ``log.txt``. A
cell is done once its results are complete, whatever command wrote them. The states of other cells are those of the
tasks below ``.jobs``, where each matrix that was run has a `medmnist_hf.jobs.tasks.TaskFolder`.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from medmnist_hf.data.configs import open_config
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.files import BusyError, sole_process
from medmnist_hf.jobs.tasks import JOBS_DIR, RESUME, TASKS_NAME, State, Status, TaskFolder
from medmnist_hf.training.benchmark.matrix import BenchmarkRun, replace_options
from medmnist_hf.training.recipe import RECIPE_NAME, make_recipe
from medmnist_hf.training.results import RESULTS_NAME, DataRecord, read_results
from medmnist_hf.training.run_folder import LOCK_NAME, differences, run_name

CONFIG_NAME: Final = "cell.yaml"
LOG_NAME: Final = "log.txt"

_DONE: Final = Status(State.DONE)
_FIRST: Final = (State.RUNNING, State.FAILED, State.INTERRUPTED)
"""Of the states of a cell that several matrices list, the first of these counts."""


def task_folders(out: Path) -> tuple[TaskFolder, ...]:
    """The tasks of each matrix that was run in a benchmark's folder, sorted by the name of the matrix."""
    return tuple(TaskFolder(path.parent) for path in sorted((out / JOBS_DIR).glob(f"*/{TASKS_NAME}")))


def statuses_in(out: Path, cells: Sequence[BenchmarkRun] = ()) -> dict[str, Status]:
    """Determine the status of every cell of all matrices that were run in a benchmark's folder, by name.

    Without its recipe, a cell whose task was done and that has results is done: with thousands of cells, reading all
    results takes a minute.

    Args:
        out: The benchmark's folder.
        cells: Cells whose results are compared with their recipes. Those of no matrix that was run come last.

    Raises:
        TrainingError: The recipe or the results of a cell cannot be read.
        JobError: A list of tasks is damaged.
    """
    recipes = {cell.name: cell for cell in cells}
    listed: dict[str, list[Status]] = {}
    for tasks in task_folders(out):
        for name, status in tasks.statuses().items():
            listed.setdefault(name, []).append(status)
    for name in recipes:
        listed.setdefault(name, [])
    statuses = {}
    for name, its_statuses in listed.items():
        cell, folder = recipes.get(name), out / name
        if cell is None and _DONE in its_statuses and (folder / RESULTS_NAME).is_file():
            statuses[name] = _DONE
            continue
        cell = cell or _cell_of(folder)
        status = _DONE if cell and is_done(cell, folder) else _combined(its_statuses)
        statuses[name] = replace(status, note=explain(cell, status.note)) if cell else status
    return statuses


def _combined(statuses: Iterable[Status]) -> Status:
    """The status of a cell without results; a mark that it is done does not count."""
    by_state = {status.state: status for status in statuses}
    return next((by_state[state] for state in _FIRST if state in by_state), Status(State.WAITING))


def explain(cell: BenchmarkRun, note: str) -> str:
    """Name the keys of a matrix in a message about a cell, in place of the options of a command."""
    return replace_options(note, asdict(cell.recipe).values())


def cells_in(out: Path) -> tuple[BenchmarkRun, ...]:
    """List the cells of all matrices that were run in a benchmark's folder and have a folder with a recipe, each once.

    Raises:
        TrainingError: The recipe of a cell cannot be read.
        JobError: A list of tasks is damaged.
    """
    names = dict.fromkeys(task.name for folder in task_folders(out) for task in folder.read())
    return tuple(cell for name in names if (cell := _cell_of(out / name)))


def _cell_of(folder: Path) -> BenchmarkRun | None:
    """The cell of a folder, from the recipe to run or that of results; None if it has neither."""
    if (path := folder / CONFIG_NAME).is_file():
        return BenchmarkRun(folder.name, make_recipe({}, config=path))
    if (path := folder / RESULTS_NAME).is_file() and run_name(recipe := read_results(path).recipe) == folder.name:
        return BenchmarkRun(folder.name, recipe)
    return None


def runs_without_results(out: Path) -> dict[str, Status]:
    """Find running and interrupted runs of ``finetune`` and ``automl`` below a folder.

    Args:
        out: The folder.

    Returns:
        Folder of each run, relative to `out` -> its status.
    """
    return {run.relative_to(out).as_posix(): _status_of_run(run) for run in _unfinished_runs(out)}


def _unfinished_runs(out: Path) -> Iterator[Path]:
    runs = {path.parent for path in out.rglob(RECIPE_NAME)}
    outermost = sorted(run for run in runs if runs.isdisjoint(run.parents))
    return (run for run in outermost if not (run / RESULTS_NAME).exists())


def _status_of_run(run: Path) -> Status:
    """Running while a process holds the lock of the run's folder; a lock that cannot be opened counts as free."""
    path = run / LOCK_NAME
    with contextlib.suppress(OSError):
        try:
            if path.exists():
                with sole_process(path, f"running in {run}", wait=False):
                    pass
        except BusyError:
            return Status(State.RUNNING)
    return Status(State.INTERRUPTED, RESUME)


def is_done(cell: BenchmarkRun, folder: Path) -> bool:
    """Whether a cell's folder has complete results of all seeds of its recipe.

    Raises:
        TrainingError: The file of results is damaged.
    """
    path = folder / RESULTS_NAME
    if not path.is_file():
        return False
    result = read_results(path)
    whole = {seed.seed for seed in result.seeds if not seed.facts.partial}
    return not differences(result.recipe, cell.recipe) and set(cell.recipe.seeds) <= whole


def stale_runs(out: Path, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Find finished runs whose build has been replaced by a build of other data since.

    Runs for which this cannot be determined are left out: those of data on the Hub, and of a build that no longer
    exists.

    Args:
        out: The benchmark's folder.
        names: Folders of finished runs in it.

    Yields:
        Folder of a run, and the folder of builds that it read.

    Raises:
        TrainingError: A file of results is damaged.
    """
    identities: dict[tuple[str, int, str], object] = {}
    for name in names:
        result = read_results(out / name / RESULTS_NAME)
        recipe = result.recipe
        if recipe.root is None:
            continue
        key = (recipe.source, recipe.size, recipe.root)
        if key not in identities:
            identities[key] = None
            with contextlib.suppress(MedMNISTError):
                identities[key] = DataRecord.of(open_config(*key)).identity
        if identities[key] not in {None, result.data.identity}:
            yield name, recipe.root
