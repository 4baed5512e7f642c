"""Measure how long each command takes to show its first output, for its help and for an example use.

Example uses run offline on a phantom, and are stopped at their first output. Each figure is a median.

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
"""Seconds within which a command should show its first output."""

_SIGNS: Final = re.compile(rb"\x1b\[[?0-9;]*[A-Za-z]")
"""Escape sequences that move the cursor or set a color, without visible output."""

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
"""Command -> arguments of its example use; the other commands need the Hub or install an engine."""

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
    """Names of all commands, those of a group with its name in front."""
    apps: list[tuple[str, typer.Typer | None]] = [("", command_line.app)]
    apps += [(f"{group.name} ", group.typer_instance) for group in command_line.app.registered_groups]
    commands = [
        (prefix, command.name, command.callback) for prefix, app in apps if app for command in app.registered_commands
    ]
    return [
        prefix + (name or (callback.__name__.replace("_", "-") if callback else ""))
        for prefix, name, callback in commands
    ]


def first_output(arguments: tuple[str, ...], folder: Path) -> float:
    """Seconds from the start of a process to its first visible byte on a terminal.

    Raises:
        MedMNISTError: The process ended without output, or with an error.
    """
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "PYTHONUNBUFFERED": "1"}
    terminal, process_end = pty.openpty()
    start = time.perf_counter()
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=process_end, stderr=process_end) as process:
        os.close(process_end)
        output = b""
        with contextlib.suppress(OSError):  # reading fails if the process ends without output
            while not _SIGNS.sub(b"", output).strip() and (piece := os.read(terminal, 4096)):
                output += piece
        seconds = time.perf_counter() - start
        process.kill()
    os.close(terminal)
    text = _SIGNS.sub(b"", output).decode(errors="replace").strip()
    if not text or text.startswith(("error", "Traceback")):
        raise MedMNISTError(f"{' '.join(arguments)}: {text or 'no output'}")
    return seconds


def measure(arguments: tuple[str, ...], folder: Path, repeats: int) -> tuple[float, float]:
    """Median and maximum in seconds of several starts, after one that warms the system's caches."""
    first_output(arguments, folder)
    seconds = [first_output(arguments, folder) for _ in range(repeats)]
    return statistics.median(seconds), max(seconds)


def rows(folder: Path, repeats: int, only: str | None) -> Iterator[tuple[str, str, float, float]]:
    """Yield the command, ``help`` or ``use``, and the median and maximum in seconds."""
    program = ("-m", "medmnist_hf")
    for verb in verbs():
        if only in (None, verb):
            yield verb, "help", *measure((*program, *verb.split(), "--help"), folder, repeats)
            if verb in USES:
                yield verb, "use", *measure((*program, *verb.split(), *USES[verb]), folder, repeats)


@app.command(epilog="Example: python scripts/bench/bench_start.py --repeats 5")
def main(
    repeats: Annotated[int, typer.Option(min=1, help="Timed starts per command.")] = 5,
    only: Annotated[str | None, typer.Option(help="Measure only this command.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure the time to the first output of every command."""
    if only not in (None, *verbs()):
        raise MedMNISTError(f"unknown command {only}: choose from {', '.join(verbs())}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run(
            [sys.executable, "-m", "medmnist_hf", *BUILD, "dist"], cwd=folder, check=True, capture_output=True
        )
        subprocess.run([sys.executable, "-c", SCORES], cwd=folder, check=True)
        (folder / "matrix.yaml").write_text(MATRIX, encoding="utf-8")
        figures = list(rows(folder, repeats, only))
    if as_json:
        console.print_json([dict(zip(("command", "what", "median", "largest"), row, strict=True)) for row in figures])
        return
    table = console.table("command", "what", "median s", "largest s", text=("command", "what"))
    for verb, what, median, largest in figures:
        table.add_row(verb, what, f"{median:.2f}", f"{largest:.2f}{' !' if median > LIMIT else ''}")
    console.terminal().print(table)


if __name__ == "__main__":
    console.run(app)
