"""Measure what an engine adds to each task: the same short tasks on engines, and one after the other without any.

A task is a Python process that sleeps. The time without an engine is that of a loop which starts these processes.
Slurm and Ray are measured on the cluster that this machine belongs to, or on small ones that this script starts on
127.0.0.1 (``--cluster``), two nodes of two cores for Slurm and three of one core for Ray.

Example: python scripts/bench/bench_jobs.py --engine local --tasks 10 --tasks 100 --workers 2
"""

import contextlib
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from medmnist_hf import console
from medmnist_hf.console.program import Program
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.jobs.settings import read_settings
from medmnist_hf.jobs.submit import open_engine, run_tasks
from medmnist_hf.jobs.tasks import State, Task, TaskFolder, count

SAMPLE: Final = 20
"""Tasks that are run without an engine; their mean stands for any number."""

app = Program(add_completion=False)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement.

    Attributes:
        engine: Name of the engine.
        tasks: Number of tasks.
        workers: Tasks at a time.
        tasks_per_job: Tasks that a job runs, one after the other.
        seconds: Duration of all, from the call to the end of the last task.
        serial_seconds: The same tasks one after the other without an engine, divided by `workers`.
    """

    engine: str
    tasks: int
    workers: int
    tasks_per_job: int
    seconds: float
    serial_seconds: float

    @property
    def overhead(self) -> float:
        """Seconds that the engine adds to a task, for each of its workers."""
        return (self.seconds - self.serial_seconds) * self.workers / self.tasks


def commands(tasks: int, seconds: float) -> list[Task]:
    """Tasks that sleep."""
    return [Task.of(f"task-{at:05d}", "python", "-c", f"import time; time.sleep({seconds})") for at in range(tasks)]


def serial(seconds: float) -> float:
    """Mean duration of a task without an engine, in seconds."""
    begun = time.perf_counter()
    for task in commands(SAMPLE, seconds):
        subprocess.run([sys.executable, *task.command[1:]], check=True)
    return (time.perf_counter() - begun) / SAMPLE


def measure(
    engine: str, tasks: int, workers: int, tasks_per_job: int, seconds: float, config: Path | None, alone: float
) -> Figure:
    """Run a number of tasks on an engine.

    Raises:
        MedMNISTError: A task was not done.
    """
    settings = read_settings(config, workers=workers, tasks_per_job=tasks_per_job)
    with tempfile.TemporaryDirectory(prefix=f"bench-{engine}-") as folder:
        begun = time.perf_counter()
        statuses = run_tasks(
            TaskFolder(Path(folder)), commands(tasks, seconds), open_engine(engine, settings), report=lambda line: None
        )
        took = time.perf_counter() - begun
    if any(status.state is not State.DONE for status in statuses.values()):
        raise MedMNISTError(f"{engine}: {count(statuses.values())}")
    return Figure(engine, tasks, workers, tasks_per_job, took, alone * tasks / workers)


@contextlib.contextmanager
def cluster(engine: str, folder: Path) -> Iterator[Path | None]:
    """Start a small cluster for an engine, and return the file of its settings."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    if engine == "slurm":
        fixtures = importlib.import_module("tests.fixtures.engines.slurm")
        with fixtures.SlurmCluster(fixtures.installed(), folder) as slurm, _environment(slurm.environment):
            yield None
    elif engine == "ray":
        fixtures = importlib.import_module("tests.fixtures.engines.ray_cluster")
        with fixtures.RayCluster() as ray, _environment(ray.environment):
            path = folder / "ray.yaml"
            path.write_text(f"ray: {{address: '{ray.address}'}}\n", encoding="utf-8")
            yield path
    else:
        yield None


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def figures(
    engines: Sequence[str], numbers: Sequence[int], per_job: Sequence[int], workers: int, seconds: float, start: bool
) -> Iterator[Figure]:
    """Measure every engine with every number of tasks."""
    alone = serial(seconds)
    for engine in engines:
        with tempfile.TemporaryDirectory(prefix="cluster-") as folder, contextlib.ExitStack() as stack:
            config = stack.enter_context(cluster(engine, Path(folder))) if start else None
            for tasks in numbers:
                for share in per_job if engine != "local" else (1,):
                    if share < tasks or share == 1:
                        yield measure(engine, tasks, workers, share, seconds, config, alone)


@app.command(epilog="Example: python scripts/bench/bench_jobs.py --engine local --tasks 10 --tasks 100")
def main(
    engine: Annotated[list[str] | None, typer.Option(help="local, slurm or ray.", show_default="local")] = None,
    tasks: Annotated[
        list[int] | None, typer.Option(min=1, help="Numbers of tasks.", show_default="10 100 1000")
    ] = None,
    tasks_per_job: Annotated[
        list[int] | None, typer.Option(min=1, help="Tasks of a job of a cluster.", show_default="1 50")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Duration of a task.")] = 0.05,
    workers: Annotated[int, typer.Option(min=1, help="Tasks at a time.")] = 2,
    start: Annotated[
        bool, typer.Option("--cluster", help="Start small clusters on 127.0.0.1 (needs `make .venv/slurm.stamp`).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure what engines add to each task."""
    found = []
    for figure in figures(
        engine or ["local"], tasks or [10, 100, 1000], tasks_per_job or [1, 50], workers, seconds, start
    ):
        found.append(figure)
        console.echo(f"{figure.engine}: {figure.tasks:,} tasks in {figure.seconds:.1f} s", err=True)
    if as_json:
        console.print_json(found)
        return
    table = console.table(
        "engine",
        "tasks",
        "at a time",
        "per job",
        "seconds",
        "without engine",
        "ratio",
        "overhead ms",
        text=("engine",),
    )
    for figure in found:
        table.add_row(
            figure.engine,
            f"{figure.tasks:,}",
            str(figure.workers),
            str(figure.tasks_per_job),
            f"{figure.seconds:.2f}",
            f"{figure.serial_seconds:.2f}",
            f"{figure.seconds / figure.serial_seconds:.2f}",
            f"{1000 * figure.overhead:,.0f}",
        )
    console.terminal().print(table)


if __name__ == "__main__":
    console.run(app)
