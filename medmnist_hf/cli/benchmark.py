"""The command that runs a matrix of trainings: ``medmnist-hf benchmark``."""

import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from medmnist_hf import console
from medmnist_hf.console.program import Panel
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
    jobs: Annotated[
        int, Panel.TRAINING.option(min=1, help="Cells to run at the same time, each in its own process.")
    ] = 1,
    keep_going: Annotated[
        bool, Panel.TRAINING.option("--keep-going/--fail-fast", help="Start further cells after one failed, or stop.")
    ] = True,
    dry_run: Annotated[
        bool,
        Panel.TRAINING.option(
            "--dry-run", help="Run nothing; show the state of each cell, and missing data and models."
        ),
    ] = False,
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

    Run the same command again to resume: completed cells are skipped, failed cells run again. Ctrl-C stops the running
    cells and reports the completed ones. Several processes may share the folder, on one machine or on several with a
    shared disk: each cell runs once. To use several GPUs, start one process per GPU with CUDA_VISIBLE_DEVICES. The
    output of a cell is in its log.txt.
    """
    from medmnist_hf.training.benchmark.matrix import EXAMPLE_FILE, read_matrix

    if example:
        console.echo(EXAMPLE_FILE.read_text(encoding="utf-8"), end="")
        return
    from medmnist_hf.training.benchmark.boards import protocol
    from medmnist_hf.training.benchmark.runner import run_cells
    from medmnist_hf.training.benchmark.status import cells_in, note_cells, pending_in

    _check_places(matrix, out, report_only=report_only)
    cells = cells_in(out) if matrix is None else read_matrix(matrix)
    pending = pending_in(out) if matrix is None else ()
    selected = [cell for cell in cells if fnmatch(cell.name, only) or fnmatch(protocol(cell.recipe), only)]
    if matrix is not None and not selected:
        raise TrainingError(f"no cell of {matrix} matches --only {only}: --dry-run shows their names and protocols")
    if dry_run:
        _warn_of_stale(cells, out)
        _show(selected, out)
        return
    if matrix is not None and not report_only:
        note_cells(cells, matrix, out)
        try:
            run_cells(selected, out, _command, jobs=jobs, keep_going=keep_going, report=say)
        except KeyboardInterrupt:
            _report(cells, out)
            raise
    _warn_of_stale(cells, out)
    unfinished = _report(cells, out, pending)
    names = {cell.name for cell in selected}
    if not report_only and any(name in names and state != "running" for name, state, _ in unfinished):
        raise TrainingError(f"some cells are not complete: run the same command again, or read their log.txt in {out}")


def _check_places(matrix: Path | None, out: Path, *, report_only: bool) -> None:
    if matrix is None and not report_only:
        raise TrainingError(
            f"no matrix given: medmnist-hf benchmark --example prints one; --report-only reports the runs in {out}"
        )
    if matrix is None and not out.is_dir():
        raise TrainingError(f"{out}: no such folder of runs: give it with --out")
    if matrix is not None and matrix.is_dir():
        raise TrainingError(f"{matrix} is a folder: give a YAML file; --report-only --out {matrix} reports its runs")


def _show(cells: "Sequence[BenchmarkRun]", out: Path) -> None:
    """Print each cell with its state and, if it cannot run, the reason; raise an error if any cannot run."""
    from medmnist_hf.training.benchmark.boards import protocol
    from medmnist_hf.training.benchmark.preflight import problems
    from medmnist_hf.training.benchmark.status import State, status_of

    console.echo(f"checking data and models of {len(cells)} cells ...", err=True)
    states = {cell.name: status_of(cell, out) for cell in cells}
    cell_problems = problems([cell for cell in cells if states[cell.name].state is not State.DONE])
    blocked = 0
    for cell in cells:
        status = states[cell.name]
        problem = "" if status.state is State.DONE else next(cell_problems)
        details = f"cannot run: {problem}" if problem else status.note or protocol(cell.recipe)
        say(f"{status.state:8} {cell.name}: {details}")
        blocked += bool(problem)
    finished = sum(states[cell.name].state is State.DONE for cell in cells)
    say(f"cells: {len(cells) - finished - blocked} can run, {finished} done, {blocked} cannot run")
    if blocked:
        raise TrainingError(f"{blocked} of {len(cells)} cells cannot run: fix the problems above")


def _report(cells: "Sequence[BenchmarkRun]", out: Path, pending: "Sequence[str]" = ()) -> list[tuple[str, str, str]]:
    """Write the report, then print its files and the cells without results.

    Args:
        cells: Cells with a known recipe.
        out: Folder of the benchmark.
        pending: Names of further cells, which were not started.

    Returns:
        Name, state and reason of each cell without results.
    """
    from medmnist_hf.training.benchmark.boards import gather
    from medmnist_hf.training.benchmark.report import write_report
    from medmnist_hf.training.benchmark.status import State, runs_without_results, status_of

    states = {cell.name: status_of(cell, out) for cell in cells}
    states |= runs_without_results(out)
    unfinished = [(name, str(each.state), each.note) for name, each in states.items() if each.state is not State.DONE]
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
                f"{cell.name}: completed, but the data in {cell.recipe.root} has changed since: remove its folder to "
                "run it again"
            )


def _command(cell: "BenchmarkRun", folder: Path) -> list[str]:
    from medmnist_hf.training.benchmark.status import CONFIG_NAME

    config = str(folder / CONFIG_NAME)
    return [sys.executable, "-m", "medmnist_hf", "finetune", "--config", config, "--out", str(folder), "--quiet"]
