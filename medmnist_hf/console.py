"""How every command of this project ends: one line for an expected fault, a word on Ctrl-C, an exit code."""

import logging
import sys
from typing import Final, NoReturn

import typer

from medmnist_hf.errors import MedMNISTError

_STOPPED: Final = 130
"""What typer makes of Ctrl-C, as shells do."""


def run(app: typer.Typer) -> NoReturn:
    """Run a typer app as a program.

    Exit codes: 0 done, 1 an expected fault (its line is on standard error), 2 wrong usage, 130 stopped by Ctrl-C.
    A file or folder that the system refuses is an expected fault, wherever it was met.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        app(standalone_mode=True)
    except MedMNISTError as error:
        fail(error)
    except OSError as error:
        if error.filename is None:
            raise
        fail(MedMNISTError(f"{error.filename}: {error.strerror or error}: check the path and its permissions"))
    except SystemExit as end:
        if end.code == _STOPPED:
            print("stopped: run the same command again to go on", file=sys.stderr)  # noqa: T201
        raise
    sys.exit(0)


def fail(error: MedMNISTError) -> NoReturn:
    """Print an expected fault as one line and end with exit code 1."""
    print(f"error: {error}", file=sys.stderr)  # noqa: T201
    sys.exit(1)
