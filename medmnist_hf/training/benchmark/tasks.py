"""Run the cells of a benchmark as tasks of an engine: a process of ``medmnist-hf finetune`` per cell.

However often a cell is started, and wherever, its processes run one after the other, since each locks the cell's
folder; one that finds a checkpoint resumes from it, one that finds results leaves them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from medmnist_hf.errors import JobError
from medmnist_hf.files import BusyError, sole_process, write_atomically
from medmnist_hf.jobs.engine import Engine
from medmnist_hf.jobs.submit import check_engine, duration, run_tasks, still_running
from medmnist_hf.jobs.tasks import JOBS_DIR, Task, TaskFolder
from medmnist_hf.training.benchmark.matrix import BenchmarkRun
from medmnist_hf.training.benchmark.status import CONFIG_NAME, LOG_NAME, explain, is_done, task_folders
from medmnist_hf.training.registry import method
from medmnist_hf.training.results import RESULTS_NAME, RunResult, read_results

LOCK_NAME: Final = "benchmark.lock"
"""In ``.jobs``, the lock of the process that runs the cells of a matrix."""

_PROGRAM: Final = ("python", "-m", "medmnist_hf", "finetune")
_LAUNCH: Final = (
    *("python", "-m", "accelerate.commands.launch", "--multi-gpu"),
    # These replace what a user's own defaults of accelerate say: all GPUs of the task, and any free port.
    *("--num-machines", "1", "--gpu-ids", "all", "--main-process-port", "0"),
    *("--mixed-precision", "no", "--dynamo-backend", "no"),
)
"""Starts a process per GPU; the precision is that of the recipe."""


def tasks_of(cells: Sequence[BenchmarkRun], out: Path, gpus_per_task: float = 0.0) -> list[Task]:
    """Describe cells as tasks.

    Args:
        cells: The cells.
        out: Absolute path of the benchmark's folder where the tasks run.
        gpus_per_task: GPUs of a cell; with 2 or more, a process per GPU trains it, unless it is an AutoML search.
    """
    processes, here = int(gpus_per_task), str(Path.cwd())  # recipes may name folders relative to it
    return [
        Task(cell.name, _command(cell, out, processes), f"../../{cell.name}/{LOG_NAME}", cwd=here) for cell in cells
    ]


def _command(cell: BenchmarkRun, out: Path, processes: int) -> tuple[str, ...]:
    launch = processes > 1 and method(cell.recipe.method).engine is None
    program = (*_LAUNCH, "--num-processes", str(processes), "--module", *_PROGRAM[2:]) if launch else _PROGRAM
    folder = out / cell.name
    return (*program, "--config", str(folder / CONFIG_NAME), "--out", str(folder), "--quiet")


def task_folder(out: Path, matrix: Path) -> TaskFolder:
    """Return the folder of the tasks of a matrix, within the folder of a benchmark."""
    return TaskFolder(out / JOBS_DIR / matrix.stem)


def run_cells(
    cells: Sequence[BenchmarkRun],
    matrix: Path,
    out: Path,
    engine: Engine,
    *,
    is_selected: Callable[[str], bool] = lambda name: True,
    keep_going: bool = True,
    wait: bool = True,
    report: Callable[[str], None] = print,
) -> None:
    """Run the cells of a matrix that are not done, failed ones again, and wait until all have ended.

    How they ended is in the folder, see `medmnist_hf.training.benchmark.status.statuses_in`.

    Args:
        cells: All cells of the matrix.
        matrix: File of the matrix.
        out: Absolute path of the benchmark's folder, as the engine's machines see it; created if missing.
        engine: Engine to run them on.
        is_selected: Whether to run the cell of a name.
        keep_going: Run further cells after a failure; otherwise stop all.
        wait: Wait for the cells; otherwise return once the engine has them.
        report: Called with a line whenever a cell ends.

    Raises:
        JobError: Cells of the folder are already running, or the engine cannot run them.
        KeyboardInterrupt: Ctrl-C was pressed. All processes have been ended; the same call resumes.
        TrainingError: A file of results is damaged.
        OSError: The folder cannot be written.
    """
    here, by_name = engine.place(out), {cell.name: cell for cell in cells}
    check_engine(engine, wait=wait)
    with _sole_benchmark(here, engine):
        done = {cell.name: is_done(cell, here / cell.name) for cell in cells}
        for cell in cells:
            if is_selected(cell.name) and not done[cell.name]:
                _write_config(cell, here / cell.name / CONFIG_NAME)
        run_tasks(
            task_folder(here, matrix),
            tasks_of(cells, out, engine.settings.gpus_per_task),
            engine,
            is_done=lambda task: done[task.name],
            is_selected=lambda task: is_selected(task.name),
            keep_going=keep_going,
            wait=wait,
            describe=lambda task: _describe(by_name[task.name], here / task.name),
            explain=lambda task, reason: explain(by_name[task.name], reason),
            report=report,
        )


@contextmanager
def _sole_benchmark(out: Path, engine: Engine) -> Iterator[None]:
    """Be the only process that runs cells in a folder, of any matrix.

    Raises:
        JobError: Another process does, or the engine still runs some.
    """
    (out / JOBS_DIR).mkdir(parents=True, exist_ok=True)
    try:
        with sole_process(out / JOBS_DIR / LOCK_NAME, f"running a benchmark in {out}", wait=False):
            for folder in task_folders(out):
                if running := still_running(folder, engine):
                    raise JobError(f"{running} is still running cells in {out}: wait until it ends, or cancel it")
            yield
    except BusyError as error:
        raise JobError(error) from None


def _write_config(cell: BenchmarkRun, path: Path) -> None:
    text = cell.recipe.to_yaml()
    if not path.is_file() or path.read_bytes() != text.encode():
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, text)


def _describe(cell: BenchmarkRun, folder: Path) -> str:
    """Scores and time of a cell whose process has ended without an error."""
    if not is_done(cell, folder):
        return f"ended without results: see {LOG_NAME}"
    result = read_results(folder / RESULTS_NAME)
    return f"{_scores(result)} in {duration(sum(seed.facts.seconds or 0.0 for seed in result.seeds))}"


def _scores(result: RunResult) -> str:
    """AUC and ACC on test, or on validation if test was not scored."""
    split, means = ("test", result.test) if result.test else ("validation", result.validation)
    auc, acc = ("unknown" if math.isnan(score.mean) else f"{score.mean:.3f}" for score in (means.auc, means.acc))
    return result.provenance.mark(f"{split} AUC {auc} and ACC {acc}")
