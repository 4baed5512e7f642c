"""How long each command takes to show its first output: its help, and what it says in use.

Uses run on a phantom, offline, and are stopped once they have said something. Each figure is a median; the time of a
process that begins and ends (`python -c pass`) is printed for comparison.

Example: python scripts/bench/bench_start.py --repeats 5
"""

import contextlib
import os
import pty
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from medmnist_hf import console
from medmnist_hf.cli import main as command_line
from medmnist_hf.console.program import Program
from medmnist_hf.errors import MedMNISTError

LIMIT: Final = 2.0
"""Seconds within which a person sees something."""

_SIGNS: Final = re.compile(rb"\x1b\[[?0-9;]*[A-Za-z]")
"""What moves a terminal's cursor or colors it, and shows nothing yet."""

SUBSET: Final = "breastmnist"
BUILD: Final = ("build", SUBSET, "--source", "phantom", "--phantom-rows", "64", "--out")

USES: Final[Mapping[str, tuple[str, ...]]] = {
    "list": (),
    "info": (SUBSET,),
    "cache": (),
    "build": (*BUILD[1:], "again", "--force"),
    "verify": (f"dist/{SUBSET}",),
    "audit": (f"dist/{SUBSET}",),
    "export": (SUBSET, "--root", "dist", "--out", "exported", "--force"),
    "montage": (SUBSET, "--root", "dist", "--length", "4", "--out", "montage.png", "--force"),
    "push": (f"dist/{SUBSET}", "--repo-id", "you", "--allow-synthetic"),
    "finetune": (SUBSET, "--root", "dist", "--model", "timm/test_efficientnet", "--no-pretrained"),
    "automl": (SUBSET, "--root", "dist", "--engine", "flaml", "--time-budget", "1m"),
    "benchmark": ("matrix.yaml",),
    "evaluate": ("scores.csv", "--subset", SUBSET, "--root", "dist"),
    "compare": ("scores.csv", "scores.csv", "--subset", SUBSET, "--root", "dist"),
    "leaderboard": (SUBSET,),
}
"""Command -> what it is given; the others need the Hub or install an engine, and are asked for help."""

MATRIX: Final = f"""
defaults: {{root: dist, pretrained: false, epochs: 1}}
matrix: {{dataset: {SUBSET}, model: timm/test_efficientnet}}
"""

SCORES: Final = f"""
import medmnist_hf
labels = medmnist_hf.load_arrays("{SUBSET}", split="test", root="dist", cache=False).labels
with open("scores.csv", "w") as file:
    file.writelines(f"{{row}},{{label}}\\n" for row, label in enumerate(labels))
"""

app = Program(add_completion=False)


def verbs() -> list[str]:
    """Names of all commands, in the order of the help."""
    named = ((one.name, one.callback) for one in command_line.app.registered_commands)
    return [name or (callback.__name__.replace("_", "-") if callback else "") for name, callback in named]


def first_output(arguments: tuple[str, ...], folder: Path) -> float:
    """Seconds from the start of a process to the first byte that it shows on a terminal.

    Raises:
        MedMNISTError: It ended without any, or with an error.
    """
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "PYTHONUNBUFFERED": "1"}
    ours, theirs = pty.openpty()
    start = time.perf_counter()
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        first = b""
        with contextlib.suppress(OSError):  # how a terminal ends that nothing was written to
            while not _SIGNS.sub(b"", first).strip() and (piece := os.read(ours, 4096)):
                first += piece
        taken = time.perf_counter() - start
        process.kill()
    os.close(ours)
    said = _SIGNS.sub(b"", first).decode(errors="replace").strip()
    if not said or said.startswith(("error", "Traceback")):
        raise MedMNISTError(f"{' '.join(arguments)}: {said or 'says nothing'}")
    return taken


def measure(arguments: tuple[str, ...], folder: Path, repeats: int) -> tuple[float, float]:
    """Median and largest seconds of several starts, behind one that warms the caches of the system."""
    first_output(arguments, folder)
    taken = [first_output(arguments, folder) for _ in range(repeats)]
    return statistics.median(taken), max(taken)


def rows(folder: Path, repeats: int, only: str | None) -> Iterator[tuple[str, str, float, float]]:
    """Command, help or use, median and largest seconds."""
    program = ("-m", "medmnist_hf")
    for verb in verbs():
        if only in (None, verb):
            yield verb, "help", *measure((*program, verb, "--help"), folder, repeats)
            if verb in USES:
                yield verb, "use", *measure((*program, verb, *USES[verb]), folder, repeats)


@app.command(epilog="Example: python scripts/bench/bench_start.py --repeats 5")
def main(
    repeats: Annotated[int, typer.Option(min=1, help="Timed starts of each.")] = 5,
    only: Annotated[str | None, typer.Option(help="This command alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure the time to the first output of every command."""
    if only not in (None, *verbs()):
        raise MedMNISTError(f"no command {only}: choose from {', '.join(verbs())}")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        subprocess.run(
            [sys.executable, "-m", "medmnist_hf", *BUILD, "dist"], cwd=folder, check=True, capture_output=True
        )
        subprocess.run([sys.executable, "-c", SCORES], cwd=folder, check=True)
        (folder / "matrix.yaml").write_text(MATRIX, encoding="utf-8")
        found = list(rows(folder, repeats, only))
    if as_json:
        console.print_json([dict(zip(("command", "what", "median", "largest"), row, strict=True)) for row in found])
        return
    table = console.table("command", "what", "median s", "largest s", text=("command", "what"))
    for verb, what, median, largest in found:
        table.add_row(verb, what, f"{median:.2f}", f"{largest:.2f}{' !' if median > LIMIT else ''}")
    console.terminal().print(table)


if __name__ == "__main__":
    console.run(app)
