"""The command that runs a matrix of trainings: ``medmnist-hf benchmark``."""

import sys
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from medmnist_hf import console
from medmnist_hf.errors import TrainingError
from medmnist_hf.extras import explained

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


@explained("train")
def benchmark(
    matrix: Annotated[
        Path | None,
        typer.Argument(metavar="MATRIX.YAML", help="The matrix; --example prints one.", show_default=False),
    ] = None,
    *,
    example: Annotated[bool, typer.Option("--example", help="Print a matrix to begin with, and run nothing.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the cells and the report.")] = Path("bench"),
    jobs: Annotated[int, typer.Option(min=1, help="Cells run at a time, each in a process of its own.")] = 1,
    only: Annotated[str, typer.Option(metavar="PATTERN", help="Run cells so named, e.g. 'breastmnist-*'.")] = "*",
    keep_going: Annotated[
        bool, typer.Option("--keep-going/--fail-fast", help="Start further cells after one failed, or none.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the cells and how far they are.")] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="Run none, report what is done.")] = False,
) -> None:
    """Run the cells of a matrix, then write report.md, report.csv and report.html of all results in the folder.

    Run it again to go on: what is done is not run again, what failed is. Several of these may work on one folder, on
    one machine or on several with a shared disk: each takes cells that no other has. So can several GPUs, one for each
    by CUDA_VISIBLE_DEVICES. What the run of a cell says is in the cell's log.txt.
    """
    from medmnist_hf.training.benchmark.matrix import MODEL, read_matrix

    if example:
        console.echo(MODEL.read_text(encoding="utf-8"), end="")
        return
    from medmnist_hf.training.benchmark.boards import gather, protocol
    from medmnist_hf.training.benchmark.report import write_report
    from medmnist_hf.training.benchmark.runner import run_cells
    from medmnist_hf.training.benchmark.status import State, is_stale, status_of

    if matrix is None:
        raise TrainingError("no matrix named: medmnist-hf benchmark --example prints one to begin with")
    cells = read_matrix(matrix)
    wanted = [cell for cell in cells if fnmatch(cell.name, only)]
    if not wanted:
        raise TrainingError(f"no cell of {matrix} is called {only}: --dry-run shows their names")
    if not (dry_run or report_only):
        run_cells(wanted, out, _command, jobs=jobs, keep_going=keep_going, tell=say)
    states = {cell.name: status_of(cell, out) for cell in cells}
    for cell in cells:
        if states[cell.name].state is State.DONE and is_stale(cell, out / cell.name):
            say(
                f"{cell.name}: done on other data than {cell.recipe.root} holds now: remove its folder to run it again"
            )
    if dry_run:
        for cell in wanted:
            told = states[cell.name].note or protocol(cell.recipe)
            say(f"{states[cell.name].state:8} {cell.name}: {told}")
        return
    left = [(name, str(one.state), one.note) for name, one in states.items() if one.state is not State.DONE]
    out.mkdir(parents=True, exist_ok=True)
    for path in write_report(gather(out), left, out):
        say(f"wrote {path}")
    for name, state, note in left:
        say(f"{state}: {name}" + (f": {note}" if note else ""))
    here = {cell.name for cell in wanted}
    if not report_only and any(name in here and state != State.RUNNING for name, state, _ in left):
        raise TrainingError(f"not all cells are done: run the same command again, or see log.txt of each in {out}")


def _command(cell: "BenchmarkRun", folder: Path) -> list[str]:
    from medmnist_hf.training.benchmark.status import CONFIG_NAME

    config = str(folder / CONFIG_NAME)
    return [sys.executable, "-m", "medmnist_hf", "finetune", "--config", config, "--out", str(folder), "--quiet"]
