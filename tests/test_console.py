import subprocess
import sys

import pytest

PROGRAM = """
import typer
from medmnist_hf import console
from medmnist_hf.errors import BuildError

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)

@app.command()
def command(end: str) -> None:
    if end == "fault":
        raise BuildError("dist/x is damaged: pass --force")
    if end == "interrupt":
        raise KeyboardInterrupt
    if end == "exit":
        raise typer.Exit(3)
    print("done")

console.run(app)
"""


@pytest.mark.parametrize(
    ("end", "code", "out", "error"),
    [
        ("well", 0, "done\n", ""),
        ("fault", 1, "", "error: dist/x is damaged: pass --force\n"),
        ("interrupt", 130, "", "stopped: run the same command again to go on\n"),
        ("exit", 3, "", ""),
    ],
)
def test_how_a_command_ends(end: str, code: int, out: str, error: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, end], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, error)
