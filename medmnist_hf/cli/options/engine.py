"""Options of commands whose work can run on several machines, and the one way in which they hand it to an engine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from medmnist_hf import console
from medmnist_hf.console.program import Panel
from medmnist_hf.errors import JobError, counted

if TYPE_CHECKING:
    from medmnist_hf.jobs.engine import Engine
    from medmnist_hf.jobs.tasks import Status, Task, TaskFolder

EngineName = Annotated[
    str | None,
    Panel.COMPUTE.option(
        "--engine",
        metavar="ENGINE",
        help="Run the work as separate tasks, on local, slurm, ray or hf-jobs.",
        show_default="in this process",
    ),
]
Workers = Annotated[
    int | None,
    Panel.COMPUTE.option(
        "--workers", min=1, help="Tasks at a time, with --engine.", show_default="as the engine allows"
    ),
]
EngineConfig = Annotated[
    Path | None,
    Panel.COMPUTE.option(
        "--engine-config",
        metavar="FILE.YAML",
        help="What a task needs and where the engine is: cores, memory, time, partition, address.",
        show_default=False,
    ),
]
GpusPerTask = Annotated[
    float | None,
    Panel.COMPUTE.option("--gpus-per-task", min=0, help="GPUs of a task; with 0.25, four tasks share one."),
]
Wait = Annotated[
    bool, Panel.COMPUTE.option("--wait/--no-wait", help="Wait for the tasks, or return once Slurm has them.")
]

_MOST_LINES: Final = 50
"""Tasks without success that are named at the end."""

say = partial(print, flush=True)


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine that a command line names, with its settings.

    Attributes:
        name: Name of the engine.
        workers: Tasks at a time; None for the file or the default.
        config: YAML file of settings; None for the defaults.
        gpus_per_task: GPUs of a task; None for the file or the default.
        wait: Wait for the tasks.
    """

    name: str
    workers: int | None = None
    config: Path | None = None
    gpus_per_task: float | None = None
    wait: bool = True

    def open(self) -> "Engine":
        """Open the engine.

        Raises:
            JobError: It is unknown, or its settings are not valid.
            MissingModuleError: Its packages are not installed.
        """
        from medmnist_hf.jobs.settings import read_settings
        from medmnist_hf.jobs.submit import open_engine

        if self.name == "hf-jobs":
            from medmnist_hf.hub.client import apply_hub_limits

            apply_hub_limits()
        return open_engine(
            self.name, read_settings(self.config, workers=self.workers, gpus_per_task=self.gpus_per_task)
        )


def choose_engine(
    name: str | None,
    workers: int | None,
    config: Path | None,
    *,
    gpus_per_task: float | None = None,
    wait: bool = True,
    **given: object,
) -> EngineChoice | None:
    """The engine of a command that by default works in its own process; None for that.

    Args:
        name: Name of the engine.
        workers: Tasks at a time.
        config: YAML file of settings.
        gpus_per_task: GPUs of a task.
        wait: Wait for the tasks.
        **given: Values of further options that need an engine, by the names of their parameters.

    Raises:
        JobError: An option needs an engine, but there is none; or as `EngineChoice.open`.
        MissingModuleError: Its packages are not installed.
    """
    if name is not None:
        choice = EngineChoice(name, workers, config, gpus_per_task, wait)
        choice.open()  # so that a mistake is reported before any work
        return choice
    own = {"workers": workers, "engine_config": config, "gpus_per_task": gpus_per_task, "no_wait": not wait}
    for option, value in {**own, **given}.items():
        if value not in (None, False):
            raise JobError(f"--{option.replace('_', '-')} needs an engine: add --engine, e.g. --engine local")
    return None


def _unknown(task: "Task") -> None:
    """Only its marker says whether a task is done."""


def show_tasks(
    path: Path,
    tasks: "Sequence[Task]",
    engine: "Engine",
    is_done: "Callable[[Task], bool | None]",
    *,
    repeat: bool = False,
) -> None:
    """Print the state and the command of each task, and what the tasks to run would use; nothing is started.

    Args:
        path: Folder of the tasks; it may not exist.
        tasks: The tasks.
        engine: Engine that would run them.
        is_done: As in `medmnist_hf.jobs.submit.run_tasks`.
        repeat: As in `medmnist_hf.jobs.submit.run_tasks`.
    """
    import shlex

    from medmnist_hf.jobs.tasks import State, TaskFolder, count

    folder = TaskFolder(engine.place(path))
    if not engine.sees_results:
        is_done = _unknown
    statuses = folder.expected(tasks, is_done, repeat=repeat)
    for task in tasks:
        status = statuses[task.name]
        say(f"{status.state:11} {task.name}: {status.note or shlex.join(task.command)}")
        if status.state in {State.FAILED, State.INTERRUPTED, State.RUNNING}:
            say(f"{'':11} its output is in {folder.log_of(task)}")
    say(f"tasks: {count(statuses.values())}")
    engine.check()
    for line in engine.resources(
        sum(status.state not in {State.DONE, State.RUNNING} for status in statuses.values()), folder
    ):
        say(line)


def run_on(
    choice: EngineChoice,
    path: Path,
    tasks: "Sequence[Task]",
    *,
    is_done: "Callable[[Task], bool | None]" = lambda task: None,
    describe: "Callable[[TaskFolder, Task], str]" = lambda folder, task: "done",
    repeat: bool = False,
    dry_run: bool = False,
    report: Callable[[str], None] = say,
) -> "dict[str, Status]":
    """Run tasks on an engine, printing what ends; those that did not succeed are named at the end.

    Args:
        choice: The engine.
        path: Folder of the tasks.
        tasks: The tasks.
        is_done: As in `medmnist_hf.jobs.submit.run_tasks`.
        describe: Describes the result of a task that was just done, from its folder.
        repeat: As in `medmnist_hf.jobs.submit.run_tasks`.
        dry_run: Start nothing; print the tasks and what they would use.
        report: Called with each line about the progress.

    Returns:
        Status of each task, by name; empty for a dry run.

    Raises:
        JobError: The engine cannot run the tasks, or they are running already.
        Exit: A task failed or was not run.
    """
    from medmnist_hf.jobs.submit import run_tasks, unfinished
    from medmnist_hf.jobs.tasks import TaskFolder

    engine = choice.open()
    if dry_run:
        show_tasks(path, tasks, engine, is_done, repeat=repeat)
        return {}
    folder = TaskFolder(engine.place(path))
    statuses = run_tasks(
        folder,
        tasks,
        engine,
        is_done=is_done,
        repeat=repeat,
        wait=choice.wait,
        describe=partial(describe, folder),
        report=report,
    )
    if not choice.wait:
        from medmnist_hf.jobs.tasks import State

        left = sum(status.state is not State.DONE for status in statuses.values())
        report(
            f"{choice.name} has the tasks: --dry-run shows their state, and the same command ends what is left"
            if left
            else f"done: {counted(len(tasks), 'task')}"
        )
        return statuses
    lines = unfinished(statuses, folder)
    for line in lines[:_MOST_LINES]:
        console.print_error(line)
    if len(lines) > _MOST_LINES:
        console.print_error(f"and {len(lines) - _MOST_LINES:,} more: --dry-run lists them all")
    if lines:
        counts = f"not done: {len(lines)} of {counted(len(tasks), 'task')}"
        console.print_error(f"{counts}; fix what is named above, then run the same command again")
        raise typer.Exit(1)
    return statuses
