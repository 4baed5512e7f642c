"""The command that builds data sets: ``medmnist-hf build``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from medmnist_hf import console
from medmnist_hf.catalog import DEFAULT_SIZE, SPLITS
from medmnist_hf.cli.make_data import build_tasks as tasks
from medmnist_hf.cli.options.data import Metadata, Mirrors, PhantomRows, PhantomSeed, SourceIds, Unverified
from medmnist_hf.cli.options.engine import EngineConfig, EngineName, Wait, Workers, choose_engine
from medmnist_hf.console.program import Panel
from medmnist_hf.conversion.scratch import SCRATCH_VARIABLE
from medmnist_hf.errors import SourceError, counted
from medmnist_hf.extras import suggest_install
from medmnist_hf.places.resolver import DEFAULT_ROOT

if TYPE_CHECKING:
    from medmnist_hf.cli.options.engine import EngineChoice
    from medmnist_hf.conversion.batch import BuildOutcome, Planned
    from medmnist_hf.conversion.build import BuildOptions
    from medmnist_hf.conversion.sources.source import Source


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(epilog="Example: medmnist-hf build breastmnist retinamnist --size 28 --root dist")(build)


def _plan_table(plan: "list[Planned]") -> Table:
    table = console.table("subset", "size", *SPLITS, "raw MB", "shards", text=("subset",))
    for planned in plan:
        counts = [f"{planned.counts[split]:,}" for split in SPLITS]
        table.add_row(
            planned.subset.base, planned.config_name, *counts, f"{planned.raw_bytes / 1e6:,.1f}", str(planned.shards)
        )
    return table


def _outcome_table(outcomes: "list[BuildOutcome]") -> Table:
    columns = ("subset", "size", "rows", "shards", "MB", "of raw", "seconds", "raw MB/s", "outcome")
    table = console.table(*columns, text=("subset", "outcome"))
    for outcome in outcomes:
        name = [outcome.planned.subset.base, outcome.planned.config_name]
        if outcome.result is None or outcome.error is not None:
            table.add_row(*name, *[""] * 6, "failed")
            continue
        shards = outcome.result.manifest.shards
        size = sum(shard.bytes for shard in shards)
        table.add_row(
            *name,
            f"{sum(shard.rows for shard in shards):,}",
            str(len(shards)),
            f"{size / 1e6:,.2f}",
            f"{size / outcome.raw_bytes:.3f}",
            f"{outcome.seconds:.1f}",
            f"{outcome.raw_bytes / 1e6 / outcome.seconds:,.0f}",
            "was complete" if outcome.result.reused else "built",
        )
    return table


def _origin(plan: "list[Planned]", source: "Source", name: str) -> str:
    """Where the NPZ files come from: for a download, the folder of those that are there already."""
    from medmnist_hf.conversion.sources.source import Zenodo

    if not isinstance(source, Zenodo):
        return name
    cached = [source.expected_file(each.subset, each.size).path.is_file() for each in plan]
    names = ([] if all(cached) else [name]) + ([str(source.cache_dir)] if any(cached) else [])
    return " and ".join(names)


class _Amount(ProgressColumn):
    """Megabytes for a download, rows for a build."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes, self._rows = DownloadColumn(), MofNCompleteColumn()

    def render(self, task: Task) -> Text:
        return (self._bytes if task.fields.get("download") else self._rows).render(task)


class _Bars:
    """Progress bars of the current build only, since a terminal may have too few lines for all."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._rows: TaskID | None = None
        self._download: TaskID | None = None

    def start(self, planned: "Planned") -> None:
        """Replace the bars of the previous build."""
        for task in (self._rows, self._download):
            if task is not None:
                self._progress.remove_task(task)
        self._rows, self._download = self._progress.add_task(planned.name, total=planned.counts.total), None

    def on_bytes(self, planned: "Planned", done: int, total: int | None) -> None:
        """Show the progress of a download."""
        if self._download is None:
            name = f"downloading {planned.subset.file(planned.size).name}"
            self._download = self._progress.add_task(name, total=total, download=True)
        self._progress.update(self._download, completed=done, total=total)

    def on_rows(self, planned: "Planned", rows: int) -> None:
        """Show the progress of a build; called from several threads."""
        if self._rows is not None:
            self._progress.advance(self._rows, rows)
        if self._download is not None:
            self._progress.update(self._download, visible=False)


@suggest_install("build")
def build(
    context: typer.Context,
    subsets: Annotated[list[str], typer.Argument(metavar="SUBSET", help="Names of subsets, or all.")],
    *,
    size: Annotated[
        list[str] | None,
        Panel.DATA.option(help="28, 64, 128, 224, all, or e.g. 28-corrected.", show_default=str(DEFAULT_SIZE)),
    ] = None,
    source: Annotated[
        str, Panel.SOURCE.option(help="zenodo, a folder of NPZ files, or phantom (synthetic images).")
    ] = "zenodo",
    mirror: Mirrors = None,
    allow_unverified: Unverified = False,
    phantom_rows: PhantomRows = None,
    seed: PhantomSeed = 0,
    source_ids: SourceIds = None,
    metadata: Metadata = None,
    downloads: Annotated[
        int | None,
        Panel.SOURCE.option(
            min=1,
            help="Downloads at a time, over all tasks and commands that share ROOT.",
            show_default=f"{tasks.DOWNLOADS} with --engine, otherwise no limit",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        Panel.COMPUTE.option(
            min=1, help="Encoding threads of a build.", show_default="OMP_NUM_THREADS, or number of usable cores"
        ),
    ] = None,
    engine: EngineName = None,
    workers: Workers = None,
    engine_config: EngineConfig = None,
    wait: Wait = True,
    dry_run: Annotated[
        bool,
        Panel.COMPUTE.option(
            "--dry-run", help="Build nothing; show the plan, what exists, and the tasks of --engine with their states."
        ),
    ] = False,
    scratch: Annotated[
        str | None,
        Panel.COMPUTE.option(
            metavar="PATH",
            help="Folder on a disk of the machine for downloads and unfinished shards; auto takes SLURM_TMPDIR or "
            "TMPDIR.",
            show_default=f"{SCRATCH_VARIABLE}, or the download cache and ROOT",
        ),
    ] = None,
    out: Annotated[
        Path, Panel.OUTPUT.option("--root", "--out", help="Folder of builds; each is in SUBSET/SIZE.")
    ] = Path(DEFAULT_ROOT),
    codec: Annotated[
        str, Panel.OUTPUT.option(help="png, or webp for RGB subsets; volumes are stored as arrays.")
    ] = "png",
    max_shard_size: Annotated[
        str, Panel.OUTPUT.option(help="Maximum size of a Parquet file, e.g. 500MB or 1GiB.")
    ] = "500MB",
    force: Annotated[bool, Panel.OUTPUT.option("--force", help="Replace existing builds of these sizes.")] = False,
) -> None:
    """Download subsets and convert them to Parquet, in ROOT/SUBSET/SIZE.

    Builds that are complete are kept, and interrupted ones are resumed. With --engine, each build is a task.
    """
    from medmnist_hf.cards.render import write_card
    from medmnist_hf.conversion.added_columns import AddedFiles
    from medmnist_hf.conversion.batch import describe_existing, plan_run, usable_cores
    from medmnist_hf.conversion.build import BuildOptions
    from medmnist_hf.conversion.scratch import scratch_folder
    from medmnist_hf.conversion.sharding import parse_size
    from medmnist_hf.conversion.sources.source import open_source
    from medmnist_hf.places.local_paths import check_loadable

    choice = choose_engine(engine, workers, engine_config, wait=wait)
    check_loadable(out)
    added = AddedFiles.of(source_ids, metadata)
    options = BuildOptions(codec, parse_size(max_shard_size), threads or usable_cores(), force, added)
    origin = open_source(
        source,
        mirrors=mirror or (),
        allow_unverified=allow_unverified,
        phantom_rows=phantom_rows,
        seed=seed,
        slots=tasks.download_slots(out, downloads),
    )
    if downloads is not None and source != "zenodo":
        raise SourceError(f"--downloads requires --source zenodo, not {source!r}: omit one of them")
    plan = plan_run(subsets, size or (), origin, options)
    terminal = console.terminal()
    terminal.print(_plan_table(plan))
    total = sum(planned.raw_bytes for planned in plan)
    terminal.print(
        f"{counted(len(plan), 'build')}, {total / 1e6:,.1f} MB of raw pixels "
        f"from {_origin(plan, origin, source)} to {out}{_free(out, choice)}\n"
    )
    if dry_run:
        for planned in plan:
            if existing := describe_existing(planned, origin, out, options):
                console.echo(f"{planned.name}: {existing}")
    if choice is not None:
        tasks.run_builds(context, choice, plan, out, dry_run=dry_run)
    elif not dry_run:
        _build_here(plan, origin, out, options, write_card=write_card, scratch=scratch_folder(scratch))


def _free(out: Path, choice: "EngineChoice | None") -> str:
    """Free space at the builds, in brackets; empty if their disk is not on this machine."""
    from medmnist_hf.conversion.batch import free_bytes

    if choice is not None and choice.open().place(out) != out:
        return ""
    return f" ({free_bytes(out) / 1e9:,.1f} GB free)"


def _build_here(
    plan: "list[Planned]",
    origin: "Source",
    out: Path,
    options: "BuildOptions",
    *,
    write_card: Callable[[Path], object],
    scratch: Path | None,
) -> None:
    """Build in this process; arguments are those of `build_all`."""
    from medmnist_hf.conversion.batch import build_all
    from medmnist_hf.places.local_paths import is_pattern

    columns = (TextColumn("{task.description}"), BarColumn(), _Amount(), TimeRemainingColumn())
    with console.progress(*columns) as progress:
        bars = _Bars(progress)
        outcomes = build_all(
            plan,
            origin,
            out,
            options,
            write_card=write_card,
            scratch=scratch,
            on_start=bars.start,
            on_bytes=bars.on_bytes,
            on_progress=bars.on_rows,
        )
    terminal = console.terminal()
    terminal.print(_outcome_table(outcomes))
    if is_pattern(out):
        terminal.print(f"load_dataset reads the path {out} as a pattern: use medmnist_hf.load, or rename the folder")
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in failed:
        name = f"{outcome.planned.name}: " if len(outcomes) > 1 else ""
        console.print_error(f"{name}{outcome.error}")
    if failed:
        if len(outcomes) > 1:
            console.print_error(f"{len(failed)} of {len(outcomes)} builds failed")
        raise typer.Exit(1)
