"""Tasks of the commands that make, check and publish builds: one per config or repository, each a command line."""

import contextlib
import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from medmnist_hf import console
from medmnist_hf.cli.options.engine import EngineChoice, run_on
from medmnist_hf.console.program import Panel
from medmnist_hf.errors import JobError, MedMNISTError, SourceError, cannot_read
from medmnist_hf.files import read_document
from medmnist_hf.jobs.tasks import JOBS_DIR, State, Task, TaskFolder, unique_names
from medmnist_hf.redaction import redact_url

if TYPE_CHECKING:
    from medmnist_hf.places.configs import FoundConfig

JobsFolder = Annotated[
    Path | None,
    Panel.COMPUTE.option(
        "--jobs-folder",
        help="Folder for the states and logs of the tasks, on a disk that all machines share.",
        show_default=f"{JOBS_DIR} in the folder of builds, or here if there are several or none",
    ),
]

ShowTasks = Annotated[
    bool, Panel.COMPUTE.option("--dry-run", help="With --engine, run nothing; show the tasks with their states.")
]

OF_THE_ENGINE: Final = frozenset(
    {"engine", "workers", "engine_config", "gpus_per_task", "wait", "dry_run", "jobs_folder"}
)
"""Parameters that say where tasks run; all others are passed on to the tasks."""

_say_progress = partial(console.echo, err=True)
"""Reports the progress of tasks whose results are printed on standard output."""


def command_of(
    context: typer.Context, *arguments: str, leave_out: Collection[str] = (), **changed: object
) -> tuple[str, ...]:
    """The command line of a task: the verb that runs now, other arguments, and the options that were given.

    Args:
        context: Context of the command that runs now.
        arguments: Arguments of the task.
        leave_out: Names of parameters that are not passed on, in addition to `OF_THE_ENGINE`.
        **changed: Values of parameters that differ for the tasks; None leaves the parameter out.

    Returns:
        Program and arguments; values of type `Path` are absolute.
    """
    command = ["python", "-m", "medmnist_hf", str(context.info_name), *arguments]
    params: Sequence[Any] = context.command.params
    for param in params:
        name = str(param.name)
        source = context.get_parameter_source(name)
        given = source is not None and source.name == "COMMANDLINE"
        if param.param_type_name != "option" or name in leave_out or name in OF_THE_ENGINE:
            continue
        value = changed[name] if name in changed else context.params[name] if given else None
        if isinstance(value, bool):
            command.append((param.opts if value else param.secondary_opts)[0])
        elif value is not None:
            for each in value if isinstance(value, list | tuple) else [value]:
                command += [param.opts[0], absolute(each) if isinstance(each, Path) else str(each)]
    return tuple(command)


def absolute(path: str | Path) -> str:
    """A path that holds in any working folder; the machine that uses it expands ``~``."""
    return str(path) if str(path).startswith("~") else os.path.abspath(path)  # noqa: PTH100 - also resolves ".."


def folder_of_jobs(given: Path | None, verb: str, roots: Iterable[Path | None]) -> Path:
    """The folder of the tasks of a verb.

    Args:
        given: Value of `JobsFolder`.
        verb: Name of the command.
        roots: Folder of builds of each task; None for data on the Hub.
    """
    if given is not None:
        return given.absolute()
    different = {None if root is None else Path(absolute(root)) for root in roots}
    only = different.pop() if len(different) == 1 else None
    return (only or Path.cwd()) / JOBS_DIR / verb


@dataclass(frozen=True, slots=True)
class ConfigTask:
    """The check of one config.

    Attributes:
        config: The config.
        name: Name of the data set on the command line.
        task: The command that checks it.
    """

    config: "FoundConfig"
    name: str
    task: Task


def config_tasks(
    context: typer.Context, found: "Sequence[tuple[str, FoundConfig]]", *extra: str, **changed: object
) -> list[ConfigTask]:
    """One task per config, whose standard output is its result.

    Args:
        context: Context of the command that runs now.
        found: Names on the command line, each with a config that it means.
        extra: Further arguments of the tasks.
        **changed: As in `command_of`.
    """
    names = unique_names([f"{each.manifest.entry.base}-{each.manifest.config_name}" for _, each in found])
    left_out = {"data", "size", "root", "revision"}
    return [
        ConfigTask(
            config,
            name,
            Task.with_result(
                task_name, *command_of(context, *_arguments_of(config), *extra, leave_out=left_out, **changed)
            ),
        )
        for task_name, (name, config) in zip(names, found, strict=True)
    ]


def look_up(name: str, sizes: Collection[str], **where: Any) -> "list[FoundConfig] | None":
    """Find the configs of a name; None after printing why there are none. Arguments are those of `find_configs`."""
    from medmnist_hf.places.configs import find_configs

    try:
        return find_configs(name, sizes, **where)
    except MedMNISTError as error:
        console.print_error(error)
        return None


def config_jobs_folder(given: Path | None, verb: str, tasks: Sequence[ConfigTask]) -> Path:
    """The folder of tasks that check configs; arguments as in `folder_of_jobs`."""
    local = [task.config.local for task in tasks]
    return folder_of_jobs(given, verb, [path and Path(absolute(path)).parent.parent for path in local])


def _arguments_of(config: "FoundConfig") -> tuple[str, ...]:
    """Arguments that name a config for any machine, at any time."""
    if config.local:
        return (absolute(config.local),)
    return (config.remote, "--size", config.manifest.config_name)


def for_tasks(source: str | None, mirrors: Collection[str]) -> str | Path | None:
    """The value of ``--source`` for tasks, which run in another folder.

    Raises:
        SourceError: A task would need a password on its command line.
    """
    for mirror in mirrors:
        if redact_url(mirror) != mirror:
            raise SourceError(
                f"--mirror {redact_url(mirror)} has a password or a query, which the files of tasks would hold: copy "
                "the NPZ files to a folder and pass --source FOLDER"
            )
    return source if source in {None, "zenodo", "phantom"} else Path(str(source))


def check_seen(choice: EngineChoice, *paths: Path | None) -> None:
    """Check that tasks can read files of this machine.

    Raises:
        JobError: They run on machines that do not see its disks.
    """
    engine = choice.open()
    for path in paths:
        if path is not None and not engine.sees_results:
            raise JobError(f"the machines of {engine.name} do not see {path} of this one: run here, without --engine")


def unless_continued(folder: TaskFolder, tasks: Sequence[Task]) -> Callable[[Task], bool | None]:
    """Whether tasks that must run again are done: only an unfinished run of the same tasks is continued."""
    same = folder.read() == tuple(tasks)
    return lambda task: None if same else False


def run_again(
    choice: EngineChoice,
    path: Path,
    tasks: Sequence[Task],
    describe: Callable[[TaskFolder, Task], str] = lambda folder, task: "done",
    *,
    dry_run: bool = False,
) -> tuple[TaskFolder, list[Task]]:
    """Run all tasks again, or continue an unfinished run; those that do not succeed are named.

    Args:
        choice: The engine.
        path: Folder of the tasks.
        tasks: The tasks.
        describe: As in `run_on`.
        dry_run: As in `run_on`.

    Returns:
        Their folder, and the tasks that are done.
    """
    folder = TaskFolder(choice.open().place(path))

    def describe_at_once(folder: TaskFolder, task: Task) -> str:
        text = describe(folder, task)
        sys.stdout.flush()  # what it printed, also into a pipe
        return text

    with contextlib.suppress(typer.Exit):
        run_on(
            choice,
            path,
            tasks,
            is_done=unless_continued(folder, tasks),
            describe=describe_at_once,
            dry_run=dry_run,
            repeat=True,
            report=_say_progress,
        )
    statuses = folder.statuses()
    return folder, [task for task in tasks if task.name in statuses and statuses[task.name].state is State.DONE]


def result_of(folder: TaskFolder, task: Task) -> str:
    """What a task printed as its result.

    Raises:
        JobError: It cannot be read.
    """
    path = folder.result_of(task)
    assert path is not None  # made by `with_result`
    try:
        return read_document(path).decode("utf-8", "replace")
    except OSError as error:
        raise JobError(cannot_read(path, error, "run the same command again")) from None
