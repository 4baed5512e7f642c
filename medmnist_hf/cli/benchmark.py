"""The command that runs a matrix of trainings: ``medmnist-hf benchmark``."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from medmnist_hf import console
from medmnist_hf.cli.options.engine import EngineChoice, EngineConfig, GpusPerTask, Wait
from medmnist_hf.console.program import Panel
from medmnist_hf.errors import TrainingError, counted
from medmnist_hf.extras import suggest_install

if TYPE_CHECKING:
    from medmnist_hf.jobs.engine import Engine
    from medmnist_hf.jobs.tasks import Status, TaskFolder
    from medmnist_hf.training.benchmark.matrix import BenchmarkRun

EXAMPLE: Final = (
    "Example: medmnist-hf benchmark --example > benchmark.yaml && "
    "medmnist-hf benchmark benchmark.yaml --out bench --workers 2"
)

say = partial(print, flush=True)


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(epilog=EXAMPLE)(benchmark)


@suggest_install("train")
def benchmark(
    matrix: Annotated[
        Path | None,
        typer.Argument(
            metavar="MATRIX.YAML",
            help="The matrix of runs; --example prints one. Optional with --report-only.",
            show_default=False,
        ),
    ] = None,
    *,
    only: Annotated[
        str,
        Panel.TRAINING.option(
            metavar="PATTERN",
            help="Run cells whose name or protocol, as shown by --dry-run, matches, e.g. 'breastmnist-*'.",
        ),
    ] = "*",
    keep_going: Annotated[
        bool,
        Panel.TRAINING.option(
            "--keep-going/--fail-fast", help="Run further cells after one failed, or stop; stopped cells resume later."
        ),
    ] = True,
    dry_run: Annotated[
        bool,
        Panel.TRAINING.option(
            "--dry-run",
            help="Run nothing; show the state of each cell, missing data and models, and what the engine would use.",
        ),
    ] = False,
    engine: Annotated[
        str,
        Panel.COMPUTE.option("--engine", metavar="ENGINE", help="Where cells run: local, slurm, ray or hf-jobs."),
    ] = "local",
    workers: Annotated[
        int | None,
        Panel.COMPUTE.option(
            "--workers",
            min=1,
            help="Cells at a time; local runs one, or as many as the GPUs have room for.",
            show_default="as the engine allows",
        ),
    ] = None,
    gpus_per_task: GpusPerTask = None,
    engine_config: EngineConfig = None,
    wait: Wait = True,
    out: Annotated[Path, Panel.OUTPUT.option(help="Folder of the cells and the report.")] = Path("bench"),
    report_only: Annotated[
        bool, Panel.OUTPUT.option("--report-only", help="Run nothing; report all runs in --out, e.g. of finetune.")
    ] = False,
    example: Annotated[
        bool, Panel.OUTPUT.option("--example", help="Run nothing; print an example of a matrix.")
    ] = False,
) -> None:
    """Train the cells of a matrix, then write report.md, report.csv and report.html for all results in the folder.

    Keys of a matrix are the options of medmnist-hf finetune with _ in place of -, e.g. image_size; DATA is dataset.

    Run the same command again to resume, on the same engine or on another: completed cells are skipped, interrupted
    ones continue from their last checkpoint, failed ones run again. Ctrl-C stops the running cells and reports the
    completed ones. Each cell is a task of the engine. The output of a cell is in its log.txt.
    """
    from medmnist_hf.training.benchmark.matrix import EXAMPLE_FILE, read_matrix

    if example:
        console.echo(EXAMPLE_FILE.read_text(encoding="utf-8"), end="")
        return
    from medmnist_hf.training.benchmark.boards import protocol
    from medmnist_hf.training.benchmark.status import cells_in, statuses_in
    from medmnist_hf.training.benchmark.tasks import run_cells, task_folder

    opened = EngineChoice(engine, workers, engine_config, gpus_per_task, wait).open()
    here = opened.place(out)
    _check_places(matrix, here, report_only=report_only)
    cells = read_matrix(matrix) if matrix else cells_in(here) if dry_run else ()
    selected = [cell for cell in cells if fnmatch(cell.name, only) or fnmatch(protocol(cell.recipe), only)]
    names = {cell.name for cell in selected}
    if matrix is not None and not selected:
        raise TrainingError(f"no cell of {matrix} matches --only {only}: --dry-run shows their names and protocols")
    if dry_run:
        statuses = statuses_in(here, cells)
        _warn_of_stale(statuses, here)
        _show(selected, statuses, opened, task_folder(here, matrix or here))
        return
    if matrix is not None and not report_only:
        try:
            run_cells(
                cells,
                matrix,
                out.absolute(),
                opened,
                is_selected=names.__contains__,
                keep_going=keep_going,
                wait=wait,
                report=say,
            )
        except KeyboardInterrupt:
            _report(statuses_in(here), here)
            raise
        if not wait:
            say(f"{engine} has the cells: --dry-run shows their states, --report-only reports those that are done")
            return
    statuses = statuses_in(here, cells if report_only else ())
    _warn_of_stale(statuses, here)
    unfinished = _report(statuses, here)
    if not report_only and any(name in names for name, _, _ in unfinished):
        raise TrainingError(
            f"some cells are not complete: run the same command again, or read their log.txt in {here}"
        )


def _check_places(matrix: Path | None, out: Path, *, report_only: bool) -> None:
    if matrix is None and not report_only:
        raise TrainingError(
            f"no matrix given: medmnist-hf benchmark --example prints one; --report-only reports the runs in {out}"
        )
    if matrix is None and not out.is_dir():
        raise TrainingError(f"{out}: no such folder of runs: give it with --out")
    if matrix is not None and matrix.is_dir():
        raise TrainingError(f"{matrix} is a folder: give a YAML file; --report-only --out {matrix} reports its runs")


def _show(
    cells: "Sequence[BenchmarkRun]", statuses: "Mapping[str, Status]", engine: "Engine", folder: "TaskFolder"
) -> None:
    """Print each cell with its state and, if it cannot run, the reason; raise an error if any cannot run."""
    from medmnist_hf.jobs.tasks import State
    from medmnist_hf.training.benchmark.boards import protocol
    from medmnist_hf.training.benchmark.preflight import problems

    cell_problems: Iterator[str] = repeat("")  # data on distant machines cannot be checked here
    if engine.sees_results:
        console.echo(f"checking data and models of {counted(len(cells), 'cell')} ...", err=True)
        cell_problems = problems([cell for cell in cells if statuses[cell.name].state is not State.DONE])
    blocked = 0
    for cell in cells:
        status = statuses[cell.name]
        problem = "" if status.state is State.DONE else next(cell_problems)
        details = f"cannot run: {problem}" if problem else status.note or protocol(cell.recipe)
        say(f"{status.state:11} {cell.name}: {details}")
        blocked += bool(problem)
    finished = sum(statuses[cell.name].state is State.DONE for cell in cells)
    say(f"cells: {len(cells) - finished - blocked} can run, {finished} done, {blocked} cannot run")
    engine.check()
    for line in engine.resources(len(cells) - finished, folder):
        say(line)
    if blocked:
        raise TrainingError(f"{blocked} of {counted(len(cells), 'cell')} cannot run: fix the problems above")


def _report(statuses: "Mapping[str, Status]", out: Path) -> list[tuple[str, str, str]]:
    """Write the report, then print its files and the cells without results.

    Args:
        statuses: Status of each cell, by name.
        out: Folder of the benchmark.

    Returns:
        Name, state and reason of each cell or other run without results.
    """
    from medmnist_hf.jobs.tasks import State
    from medmnist_hf.training.benchmark.boards import gather
    from medmnist_hf.training.benchmark.report import write_report
    from medmnist_hf.training.benchmark.status import runs_without_results

    others = {name: status for name, status in runs_without_results(out).items() if name not in statuses}
    unfinished = [
        (name, str(status.state), status.note)
        for name, status in (*statuses.items(), *others.items())
        if status.state is not State.DONE
    ]
    out.mkdir(parents=True, exist_ok=True)
    boards = gather(out)
    runs = sum(len(row.links) for board in boards for row in board.own)
    say(f"{counted(runs, 'run')} with results in {out}")
    for path in write_report(boards, unfinished, out):
        say(f"wrote {path}")
    for name, state, note in unfinished:
        say(f"{state}: {name}" + (f": {note}" if note else ""))
    return unfinished


def _warn_of_stale(statuses: "Mapping[str, Status]", out: Path) -> None:
    from medmnist_hf.jobs.tasks import State
    from medmnist_hf.training.benchmark.status import stale_runs

    names = [name for name, status in statuses.items() if status.state is State.DONE]
    for name, root in stale_runs(out, names):
        say(f"{name}: completed, but the data in {root} has changed since: remove its folder to run it again")
