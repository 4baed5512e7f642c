"""The command that compares builds with their source: ``medmnist-hf verify``."""

from typing import TYPE_CHECKING, Annotated

import typer

from medmnist_hf import console
from medmnist_hf.catalog import subset
from medmnist_hf.cli.make_data.tasks import (
    JobsFolder,
    ShowTasks,
    config_jobs_folder,
    config_tasks,
    for_tasks,
    look_up,
    result_of,
    run_again,
)
from medmnist_hf.cli.options.data import (
    BuiltData,
    Mirrors,
    PhantomRows,
    PhantomSeed,
    Revision,
    Root,
    Sizes,
    Unverified,
)
from medmnist_hf.cli.options.engine import EngineConfig, EngineName, Workers, choose_engine
from medmnist_hf.console.program import Panel
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.extras import suggest_install

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medmnist_hf.cli.make_data.tasks import ConfigTask
    from medmnist_hf.cli.options.engine import EngineChoice
    from medmnist_hf.conversion.sources.source import Source
    from medmnist_hf.jobs.tasks import Task, TaskFolder
    from medmnist_hf.places.configs import FoundConfig


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(epilog="Example: medmnist-hf verify dist/breastmnist dist/retinamnist --source zenodo")(verify)


@suggest_install("build")
def verify(
    context: typer.Context,
    data: BuiltData,
    *,
    size: Sizes = None,
    root: Root = None,
    revision: Revision = None,
    source: Annotated[
        str | None,
        Panel.SOURCE.option(
            help="NPZ files to compare with: zenodo, phantom or a folder.",
            show_default="compare with the manifest of the build",
        ),
    ] = None,
    mirror: Mirrors = None,
    allow_unverified: Unverified = False,
    phantom_rows: PhantomRows = None,
    seed: PhantomSeed = 0,
    engine: EngineName = None,
    workers: Workers = None,
    engine_config: EngineConfig = None,
    dry_run: ShowTasks = False,
    jobs_folder: JobsFolder = None,
) -> None:
    """Read every row with load_dataset and compare its pixels and labels with the NPZ file or the manifest.

    With --engine, each size of a build is a task.
    """
    from medmnist_hf.conversion.sources.source import open_source
    from medmnist_hf.places.configs import expand

    choice = choose_engine(engine, workers, engine_config, dry_run=dry_run, jobs_folder=jobs_folder)
    origin = (
        open_source(
            source, mirrors=mirror or (), allow_unverified=allow_unverified, phantom_rows=phantom_rows, seed=seed
        )
        if source
        else None
    )
    failed = 0
    names = expand(data)
    found: list[tuple[str, FoundConfig]] = []
    for name in names:
        configs = look_up(name, size or (), root=root, revision=revision)
        if configs is None:
            failed += 1
            continue
        found += [(name, config) for config in configs]
        if choice is not None:
            continue
        for config in configs:
            try:
                line = _verify(config, origin)
                console.echo(line + (_where(config, name) if len(names) > 1 or len(configs) > 1 else ""))
            except MedMNISTError as error:
                failed += 1
                console.print_error(error)
    if choice is not None and found:
        tasks = config_tasks(context, found, source=for_tasks(source, mirror or ()))
        folder = config_jobs_folder(jobs_folder, "verify", tasks)
        equal = _verify_on(choice, folder, tasks, dry_run=dry_run)
        failed += 0 if dry_run else len(tasks) - equal
    if failed:
        raise typer.Exit(1)


def _verify(config: "FoundConfig", origin: "Source | None") -> str:
    """Verify one config, and describe the result in a line."""
    manifest = config.manifest
    rows = sum(record.rows for record in manifest.splits.values())
    with console.progress() as progress:
        task = progress.add_task(f"verifying {manifest.name}", total=rows)
        from medmnist_hf.conversion.checks.verify import verify_config  # slow, so show the bar first

        file = origin.fetch(subset(manifest.subset), manifest.size) if origin else None
        result = verify_config(config.fetch(), file, on_progress=lambda count: progress.advance(task, count))
    return f"ok: {result.subset} {result.size}: {result.rows:,} rows in {result.shards} shards equal {result.against}"


def _verify_on(choice: "EngineChoice", path: "Path", tasks: "Sequence[ConfigTask]", *, dry_run: bool) -> int:
    """Verify configs as tasks of an engine, printing the line of each as it ends; return how many are equal."""
    places = {each.task.name: _where(each.config, each.name) if len(tasks) > 1 else "" for each in tasks}

    def describe(folder: "TaskFolder", task: "Task") -> str:
        console.echo(f"{result_of(folder, task).rstrip()}{places[task.name]}")
        return "done"

    _, equal = run_again(choice, path, [each.task for each in tasks], describe, dry_run=dry_run)
    return len(equal)


def _where(config: "FoundConfig", name: str) -> str:
    return f" ({config.local or name})"
