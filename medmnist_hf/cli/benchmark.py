"""The command that runs a matrix of trainings: ``medmnist-hf benchmark``."""

import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from medmnist_hf import console
from medmnist_hf.errors import TrainingError
from medmnist_hf.extras import suggest_install

if TYPE_CHECKING:
    from medmnist_hf.training.benchmark.matrix import BenchmarkRun

EXAMPLE: Final = (
    "Example: medmnist-hf benchmark --example > benchmark.yaml && "
    "medmnist-hf benchmark benchmark.yaml --out bench --jobs 2"
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
            help="The matrix; --example prints one. With --report-only it may be left out.",
            show_default=False,
        ),
    ] = None,
    *,
    example: Annotated[bool, typer.Option("--example", help="Print a matrix to begin with, and run nothing.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the cells and the report.")] = Path("bench"),
    jobs: Annotated[int, typer.Option(min=1, help="Cells run at a time, each in a process of its own.")] = 1,
    only: Annotated[str, typer.Option(metavar="PATTERN", help="Run cells so named, e.g. 'breastmnist-*'.")] = "*",
    keep_going: Annotated[
        bool, typer.Option("--keep-going/--fail-fast", help="Start further cells after one failed, or none.")
    ] = True,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show the cells, how far they are, and whether data and models are there."),
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Run nothing; report all runs below --out, e.g. of finetune.")
    ] = False,
) -> None:
    """Run the cells of a matrix, then write report.md, report.csv and report.html of all results in the folder.

    Run it again to resume: what is done is not run again, what failed is. Ctrl-C ends the cells that run, and the
    report is of what is done. Several of these may work on one folder, on one machine or on several with a shared
    disk: each takes cells that no other has. So can several GPUs, one for each by CUDA_VISIBLE_DEVICES. What the run
    of a cell says is in the cell's log.txt.
    """
    from medmnist_hf.training.benchmark.matrix import MODEL, read_matrix

    if example:
        console.echo(MODEL.read_text(encoding="utf-8"), end="")
        return
    from medmnist_hf.training.benchmark.runner import run_cells
    from medmnist_hf.training.benchmark.status import cells_in, note_cells, pending_in

    _check_places(matrix, out, report_only=report_only)
    cells = cells_in(out) if matrix is None else read_matrix(matrix)
    pending = pending_in(out) if matrix is None else ()
    wanted = [cell for cell in cells if fnmatch(cell.name, only)]
    if matrix is not None and not wanted:
        raise TrainingError(f"no cell of {matrix} is called {only}: --dry-run shows their names")
    if dry_run:
        _warn_of_stale(cells, out)
        _show(wanted, out)
        return
    if matrix is not None and not report_only:
        note_cells(cells, matrix, out)
        try:
            run_cells(wanted, out, _command, jobs=jobs, keep_going=keep_going, tell=say)
        except KeyboardInterrupt:
            _report(cells, out)
            raise
    _warn_of_stale(cells, out)
    unfinished = _report(cells, out, pending)
    here = {cell.name for cell in wanted}
    if not report_only and any(name in here and state != "running" for name, state, _ in unfinished):
        raise TrainingError(f"not all cells are done: run the same command again, or see log.txt of each in {out}")


def _check_places(matrix: Path | None, out: Path, *, report_only: bool) -> None:
    if matrix is None and not report_only:
        raise TrainingError(
            f"no matrix named: medmnist-hf benchmark --example prints one to begin with; --report-only reports {out}"
        )
    if matrix is None and not out.is_dir():
        raise TrainingError(f"{out}: no such folder of runs: name it with --out")
    if matrix is not None and matrix.is_dir():
        raise TrainingError(f"{matrix} is a folder: give a YAML file; --report-only --out {matrix} reports its runs")


def _show(cells: "Sequence[BenchmarkRun]", out: Path) -> None:
    """Name each cell with its state and, unless it is done, why it cannot run; raise an error if one cannot."""
    from medmnist_hf.training.benchmark.boards import protocol
    from medmnist_hf.training.benchmark.preflight import problems
    from medmnist_hf.training.benchmark.status import State, status_of

    console.echo(f"checking data and models of {len(cells)} cells ...", err=True)
    states = {cell.name: status_of(cell, out) for cell in cells}
    found = problems([cell for cell in cells if states[cell.name].state is not State.DONE])
    wrong = 0
    for cell in cells:
        status = states[cell.name]
        problem = "" if status.state is State.DONE else next(found)
        told = f"cannot run: {problem}" if problem else status.note or protocol(cell.recipe)
        say(f"{status.state:8} {cell.name}: {told}")
        wrong += bool(problem)
    if wrong:
        raise TrainingError(f"{wrong} of {len(cells)} cells cannot run: fix what the lines above name")


def _report(cells: "Sequence[BenchmarkRun]", out: Path, pending: "Sequence[str]" = ()) -> list[tuple[str, str, str]]:
    """Write the report, and name its files and the cells without results, with state and reason.

    Args:
        cells: The cells of which the recipe is known.
        out: The benchmark's folder.
        pending: Names of further cells, which were not started.
    """
    from medmnist_hf.training.benchmark.boards import gather
    from medmnist_hf.training.benchmark.report import write_report
    from medmnist_hf.training.benchmark.status import State, runs_without_results, status_of

    states = {cell.name: status_of(cell, out) for cell in cells}
    states |= runs_without_results(out)
    unfinished = [(name, str(one.state), one.note) for name, one in states.items() if one.state is not State.DONE]
    unfinished += [(name, str(State.PENDING), "") for name in pending]
    out.mkdir(parents=True, exist_ok=True)
    boards = gather(out)
    runs = sum(len(row.links) for board in boards for row in board.own)
    say(f"{runs} run{'' if runs == 1 else 's'} with results in {out}")
    for path in write_report(boards, unfinished, out):
        say(f"wrote {path}")
    for name, state, note in unfinished:
        say(f"{state}: {name}" + (f": {note}" if note else ""))
    return unfinished


def _warn_of_stale(cells: "Sequence[BenchmarkRun]", out: Path) -> None:
    from medmnist_hf.training.benchmark.status import State, is_stale, status_of

    for cell in cells:
        if status_of(cell, out).state is State.DONE and is_stale(cell, out / cell.name):
            say(
                f"{cell.name}: done on other data than {cell.recipe.root} holds now: remove its folder to run it again"
            )


def _command(cell: "BenchmarkRun", folder: Path) -> list[str]:
    from medmnist_hf.training.benchmark.status import CONFIG_NAME

    config = str(folder / CONFIG_NAME)
    return [sys.executable, "-m", "medmnist_hf", "finetune", "--config", config, "--out", str(folder), "--quiet"]
