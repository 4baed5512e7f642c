"""Builds as tasks of an engine, one per config; their states and logs are in ``ROOT/.jobs/build``."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from medmnist_hf.cli.make_data.tasks import check_seen, command_of, for_tasks, unless_continued
from medmnist_hf.cli.options.engine import EngineChoice, run_on
from medmnist_hf.conversion.scratch import AUTO, SCRATCH_VARIABLE
from medmnist_hf.errors import BuildError, JobError
from medmnist_hf.files import Slots
from medmnist_hf.jobs.tasks import JOBS_DIR, Task, TaskFolder
from medmnist_hf.manifest import read_manifest

if TYPE_CHECKING:
    from medmnist_hf.conversion.batch import Planned

DOWNLOADS: Final = 8
"""Downloads at a time by default: Zenodo limits the speed of each, and asks not to open many."""

_VERB: Final = "build"


def download_slots(out: Path, downloads: int | None) -> Slots | None:
    """Lock files that limit downloads of all processes that build in a folder; None for no limit."""
    return None if downloads is None else Slots(out / JOBS_DIR / "downloads", downloads)


def run_builds(
    context: typer.Context, choice: EngineChoice, plan: "Sequence[Planned]", out: Path, *, dry_run: bool
) -> None:
    """Build configs as tasks of an engine.

    A task is done if it was completed and its config exists with all shards. With ``--force``, a list of tasks that
    was completed is run again.

    Args:
        context: Context of the command, whose options the tasks get.
        choice: The engine.
        plan: The configs.
        out: Folder of all builds.
        dry_run: Start nothing; print the tasks and what they would use.

    Raises:
        SourceError: A task would need a password on its command line.
        JobError: The engine cannot run the tasks or does not see the NPZ files, or the tasks are running already.
        Exit: A task failed or was not run.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - also resolves ".."
    changed = _changed(context, out)
    named = {f"{planned.subset.base}-{planned.config_name}": planned for planned in plan}
    tasks = [
        Task.of(
            name,
            *command_of(
                context,
                planned.subset.base,
                "--size",
                planned.config_name,
                leave_out={"subsets", "size"},
                **changed,
            ),
        )
        for name, planned in named.items()
    ]
    engine = choice.open()
    if isinstance(changed["source"], Path) and not engine.sees_results:
        raise JobError(
            f"the machines of {engine.name} do not see --source {context.params['source']} of this one: use --source "
            "zenodo"
        )
    check_seen(choice, context.params["source_ids"], context.params["metadata"])
    here = engine.place(out)

    def config_dir(task: Task) -> Path:
        return named[task.name].folder(here)

    force = bool(context.params["force"])
    decide = unless_continued(TaskFolder(here / JOBS_DIR / _VERB), tasks) if force else lambda task: None
    run_on(
        choice,
        out / JOBS_DIR / _VERB,
        tasks,
        is_done=lambda task: decide(task) if _is_complete(config_dir(task)) else False,
        describe=lambda folder, task: _describe(config_dir(task)),
        dry_run=dry_run,
        repeat=force,
    )


def _changed(context: typer.Context, out: Path) -> dict[str, object]:
    """Options that differ for the tasks, which run in another folder and perhaps on another machine."""
    given = context.params
    scratch = given["scratch"] or os.environ.get(SCRATCH_VARIABLE)
    changed: dict[str, object] = {"out": out, "source": for_tasks(given["source"], given["mirror"] or ())}
    if given["source"] == "zenodo":
        changed["downloads"] = given["downloads"] or DOWNLOADS
    if scratch:
        changed["scratch"] = scratch if scratch == AUTO else Path(scratch)
    return changed


def _is_complete(config_dir: Path) -> bool:
    """Whether a config exists with all of its shards, by their sizes."""
    try:
        return all(
            (config_dir / shard.name).stat().st_size == shard.bytes for shard in read_manifest(config_dir).shards
        )
    except (BuildError, OSError):
        return False


def _describe(config_dir: Path) -> str:
    try:
        shards = read_manifest(config_dir).shards
    except BuildError:  # on a disk that this machine does not see at once
        return "built"
    size = sum(shard.bytes for shard in shards) / 1e6
    return f"{sum(shard.rows for shard in shards):,} rows in {len(shards)} shards, {size:,.2f} MB"
