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
    if end == "system":
        open("/no/such/file")
    if end == "defect":
        raise OSError("without a file")
    print("done")

console.run(app)
"""


@pytest.mark.parametrize(
    ("end", "code", "out", "error"),
    [
        ("well", 0, "done\n", ""),
        ("fault", 1, "", "error: dist/x is damaged: pass --force\n"),
        ("system", 1, "", "error: /no/such/file: No such file or directory: check the path and its permissions\n"),
        ("interrupt", 130, "", "stopped: run the same command again to go on\n"),
        ("exit", 3, "", ""),
    ],
)
def test_how_a_command_ends(end: str, code: int, out: str, error: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, end], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, error)


def test_a_defect_keeps_its_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, "defect"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
