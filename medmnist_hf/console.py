"""How every command prints and ends: one width, one form of table, one line for a fault, an exit code."""

import json
import logging
import sys
import traceback
from collections.abc import Collection
from typing import Any, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.table import Table

from medmnist_hf.errors import MedMNISTError, cannot_write, first_line, is_full, one_line
from medmnist_hf.redaction import redact, redact_logs
from medmnist_hf.typed_json import encode

_STOPPED: Final = 130
"""What typer makes of Ctrl-C, as shells do."""

PIPE_WIDTH: Final = 160
"""Columns of what is printed where that is no terminal: room for the widest table, and the same for every command."""


def terminal() -> Console:
    """Standard output, without markup: as wide as the terminal, or `PIPE_WIDTH` where it is a pipe or a file."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, markup=False)


def table(*columns: str, text: Collection[str], wrap: str | None = None) -> Table:
    """A plain table, to be printed on `terminal`.

    Args:
        columns: Their heads.
        text: Those that are aligned to the left; all others hold numbers.
        wrap: The one that is broken into lines where the terminal is narrow; the last by default.
    """
    plain = Table(box=None, pad_edge=False)
    for column in columns:
        wraps = column == (columns[-1] if wrap is None else wrap)
        plain.add_column(column, justify="left" if column in text else "right", no_wrap=not wraps, overflow="fold")
    return plain


def print_json(value: Any) -> None:
    """Print a value, which may hold dataclasses, as indented JSON, in which nan is null."""
    typer.echo(json.dumps(encode(value), indent=2, ensure_ascii=False, allow_nan=False))


def progress(*columns: str | ProgressColumn) -> Progress:
    """Progress bars on standard error, gone when they are done; nothing is shown where that is no terminal."""
    bars = Console(stderr=True)
    return Progress(*columns, console=bars, transient=True, disable=not sys.stderr.isatty())


def run(app: typer.Typer) -> NoReturn:
    """Run a typer app as a program.

    Exit codes: 0 done, 1 an expected fault (its line is on standard error), 2 wrong usage, 130 stopped by Ctrl-C.
    A file or folder that the system refuses is an expected fault, wherever it was met. Whatever else is raised keeps
    its traceback. Neither that nor what libraries log holds secrets.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    redact_logs()
    try:
        app(standalone_mode=True)
    except MedMNISTError as error:
        fail(error)
    except OSError as error:
        if error.errno is None and error.filename is None:
            _fail_with_traceback()
        fail(MedMNISTError(_refusal(error)))
    except SystemExit as end:
        if end.code == _STOPPED:
            print("stopped: run the same command again to go on", file=sys.stderr)  # noqa: T201
        raise
    except Exception:
        _fail_with_traceback()
    sys.exit(0)


def _refusal(error: OSError) -> str:
    """The line for what the system has refused, where nobody could say more."""
    if error.filename is None:
        return f"{error.strerror}: check TMPDIR, the space that is left and the limits of this system, then run again"
    if is_full(error):
        return cannot_write(error.filename, error, "")
    return f"{error.filename}: {first_line(error)}: check the path and its permissions"


def _fail_with_traceback() -> NoReturn:
    """End with the traceback of the exception that is being handled: a defect."""
    print(redact(traceback.format_exc()), end="", file=sys.stderr)  # noqa: T201
    sys.exit(1)


def fail(error: MedMNISTError) -> NoReturn:
    """Print an expected fault as one line and end with exit code 1."""
    print_error(error)
    sys.exit(1)


def print_error(message: object) -> None:
    """Print a line that begins with ``error:`` on standard error."""
    print(f"error: {one_line(message)}", file=sys.stderr)  # noqa: T201
