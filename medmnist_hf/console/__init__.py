"""Output and exit codes of all commands: one width, one table style, one line per error.

Names of files, models and Hub repositories pass through `escape_unprintable` before they are printed, so they cannot
move the cursor, change colors or start a new line. Characters that the output encoding lacks are escaped, too, instead
of ending the command.
"""

import gc
import io
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import typer
from rich.console import Console, RenderableType
from rich.progress import Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from medmnist_hf.errors import MedMNISTError, cannot_write, escape_unprintable, first_line, is_full, one_line
from medmnist_hf.extras import suggest_install
from medmnist_hf.redaction import redact, redact_logs
from medmnist_hf.typed_json import encode

_STOPPED: Final = 130
"""Exit code of typer after Ctrl-C, as in shells."""

_GARBAGE: Final = 50_000
"""Allocations between garbage collections; Python's default of 700 slows the imports of a training by a sixth."""

_NO_DOCSTRINGS: Final = "transformers and evaluate need docstrings, so run without -OO and PYTHONOPTIMIZE=2"


FIRST_PAUSE: Final = 2.0
"""Seconds before the first progress line, if standard error is not a terminal; each further pause doubles."""

LONGEST_PAUSE: Final = 60.0
"""Longest pause between progress lines in seconds, so a log has at most about one line per minute."""

PIPE_WIDTH: Final = 160
"""Width in columns of output to a pipe or file, for all commands: wide enough for the widest table."""


class _Terminal(Console):
    """A console that escapes control characters of a text, except line ends."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(_printable_lines(text), **options)


class _PlainTable(Table):
    """A table with one line per cell."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        super().add_row(*(one_line(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def terminal() -> Console:
    """Standard output without markup, as wide as the terminal, or `PIPE_WIDTH` for a pipe or file."""
    return _Terminal(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False, markup=False)


def table(*columns: str, text: Collection[str], wrap: str | None = None) -> Table:
    """A plain table, to be printed on `terminal`.

    Args:
        columns: The column headers.
        text: Headers of the left-aligned columns; all others hold numbers.
        wrap: Header of the column that wraps on a narrow terminal; the last by default.
    """
    plain = _PlainTable(box=None, pad_edge=False)
    for column in columns:
        wraps = column == (columns[-1] if wrap is None else wrap)
        plain.add_column(column, justify="left" if column in text else "right", no_wrap=not wraps, overflow="fold")
    return plain


def print_json(value: Any) -> None:
    """Print a value, which may contain dataclasses, as indented JSON with null for nan."""
    unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    print(json.dumps(encode(value), indent=2, ensure_ascii=not unicode, allow_nan=False))  # noqa: T201


def echo(text: object, *, err: bool = False, end: str = "\n") -> None:
    """Print text on standard output, or on standard error; control characters except line ends are escaped."""
    # typer.echo would write UTF-8 even to an ASCII output.
    print(_printable_lines(str(text)), file=sys.stderr if err else sys.stdout, end=end)


def _printable_lines(text: str) -> str:
    return "\n".join(map(escape_unprintable, text.split("\n")))


class _ProgressLines(Progress):
    """Progress as an occasional line of text instead of bars, if standard error is a pipe or file."""

    def __init__(self, *columns: str | ProgressColumn) -> None:
        super().__init__(*columns, disable=True)
        self._ended = threading.Event()
        self._printer: threading.Thread | None = None

    def start(self) -> None:
        self._ended.clear()
        self._printer = threading.Thread(target=self._print, daemon=True)
        self._printer.start()

    def stop(self) -> None:
        self._ended.set()
        if self._printer is not None:
            self._printer.join()

    def _print(self) -> None:
        pause = FIRST_PAUSE
        while not self._ended.wait(pause):
            pause = min(2 * pause, LONGEST_PAUSE)
            for task in self.tasks:
                if task.visible and not task.finished:
                    echo(self._line(task), err=True)

    def _line(self, task: Task) -> str:
        parts = []
        for column in self.columns:
            text = column.format(task=task) if isinstance(column, str) else column(task)
            plain = str(text).strip() if isinstance(text, str | Text) else ""
            if isinstance(column, TimeRemainingColumn):
                plain = f"{plain} left" if task.time_remaining is not None else ""
            parts.append(plain)
        return "  ".join(filter(None, parts))


def progress(*columns: str | ProgressColumn) -> Progress:
    """Progress bars on standard error, removed at the end; occasional lines if that is not a terminal."""
    if not sys.stderr.isatty():
        return _ProgressLines(*columns)
    return Progress(*columns, console=Console(stderr=True), transient=True)


def run(app: typer.Typer, arguments: Sequence[str] = (), name: str | None = None) -> NoReturn:
    """Run a typer app as a program.

    Args:
        app: The app.
        arguments: Arguments to insert before those of the command line.
        name: Name of the program in the usage line; the started file if None.

    Exit codes: 0 for success, 1 for an expected error, 2 for wrong usage, 130 after Ctrl-C. Expected errors and wrong
    usage print one line on standard error. A file or folder that the system refuses is an expected error everywhere.
    Other exceptions print their traceback. Secrets are removed from tracebacks and from the logs of libraries.
    """
    gc.set_threshold(_GARBAGE)
    _prepare_streams()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    redact_logs()
    if not sys.stderr.isatty():
        # In a log, each step of a bar is a line. The Hub's client, not imported yet, reads this when it is imported.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # The Hub's client logs each retry; the final error says the same.
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
    try:
        with suggest_install():
            code = app([*arguments, *sys.argv[1:]], standalone_mode=False, prog_name=name)
    except MedMNISTError as error:
        fail(error)
    except BrokenPipeError:
        # The reader is gone, as in `| head`; Python would report at exit what it cannot flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        if error.errno is None and error.filename is None:
            _fail_with_traceback()
        fail(MedMNISTError(_refusal(error)))
    except (KeyboardInterrupt, typer.Abort):
        code = _STOPPED
    except Exception as error:
        if (code := getattr(error, "exit_code", None)) is not None:
            _fail_by_usage(error, code)
        if sys.flags.optimize > 1:
            reason = f"{type(error).__name__}: {first_line(error)}"
            fail(MedMNISTError(f"{reason}: {_NO_DOCSTRINGS}"))
        _fail_with_traceback()
    if code == _STOPPED:
        print("stopped: run the same command again to resume", file=sys.stderr)  # noqa: T201
    sys.exit(code or 0)


def _prepare_streams() -> None:
    """Keep unprintable characters and closed streams, as by ``2>&-``, from ending a command."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open until exit
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail_by_usage(error: Any, code: int) -> NoReturn:
    """End with an error of the command-line parser; duck-typed, since typer moves its error classes."""
    context = getattr(error, "ctx", None)
    if context is not None and type(error).__name__ == "NoArgsIsHelpError":
        print(context.get_help(), file=sys.stderr)  # noqa: T201
    else:
        message = error.format_message().strip().removesuffix(".")
        print_error(f"{message} (see {context.command_path} --help)" if context else message)
    sys.exit(code)


class _OneLine(logging.Formatter):
    """Formats the message of a record as one printable line, followed by any traceback."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the name is logging's)
        record.message = one_line(record.message)
        return super().formatMessage(record)


def _refusal(error: OSError) -> str:
    """The message for a system error that no caller has handled."""
    if error.filename is None:
        return f"{error.strerror}: check TMPDIR, the free space and the limits of this system, then run again"
    if is_full(error):
        return cannot_write(error.filename, error, "")
    return f"{error.filename}: {first_line(error)}: check the path and its permissions"


def _fail_with_traceback() -> NoReturn:
    """End with the traceback of the current exception, which is a defect."""
    print(redact(traceback.format_exc()), end="", file=sys.stderr)  # noqa: T201
    sys.exit(1)


def fail(error: MedMNISTError) -> NoReturn:
    """Print an expected error as one line and end with exit code 1."""
    print_error(error)
    sys.exit(1)


def print_error(message: object) -> None:
    """Print one line on standard error, starting with ``error:``."""
    print(f"error: {one_line(message)}", file=sys.stderr)  # noqa: T201
