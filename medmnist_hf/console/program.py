"""Typer apps of this project: help in panels with an example, and a repeated single-value option is an error.

On a terminal, help is drawn in frames; elsewhere it is plain text. Both show the same.
"""

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Any, Final, TypeVar, get_args, get_origin

import typer
from rich.console import Console
from rich.panel import Panel as Frame
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from medmnist_hf.console import terminal

_LONGEST: Final = 200
"""Characters of the first sentence of a command's help, which the list of commands shows."""

_NAME_WIDTH: Final = 28
"""Least width of the column of names, for ``--learning-rate, --lr FLOAT``; longer pairs of flags are wrapped."""

_KINDS: Final = {int: "INT", float: "FLOAT", Path: "PATH"}
"""Type of an option's value -> how help names it; any other type is TEXT."""

Command = TypeVar("Command", bound=Callable[..., Any])


class Panel(StrEnum):
    """Titles of the groups of options in the help of a command, in the order in which they are shown."""

    ARGUMENTS = "Arguments"
    RECIPE = "Recipe"
    DATA = "Data"
    SOURCE = "Source"
    MODEL = "Model"
    INPUT = "Input"
    METHOD = "Method"
    TRAINING = "Training"
    AUGMENTATION = "Augmentation"
    EVALUATION = "Evaluation"
    COMPUTE = "Compute"
    OUTPUT = "Output"
    HUB = "Hub"
    OPTIONS = "Options"

    def option(self, *names: str, **options: Any) -> Any:
        """An option in this panel; arguments are those of `typer.Option`."""
        return typer.Option(*names, rich_help_panel=self, **options)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a panel.

    Attributes:
        name: An argument, an option as it is typed (``--seed INT``), or a command.
        about: Its help.
        default: Its default, as typed or in words; empty where help shows none.
        required: It must be given.
        repeatable: It may be given several times.
    """

    name: str
    about: str
    default: str = ""
    required: bool = False
    repeatable: bool = False

    @property
    def text(self) -> str:
        """The help, followed by whether it is required or repeatable and by the default."""
        notes = ["required"] * self.required + ["repeatable"] * self.repeatable
        notes += [f"default: {self.default}"] if self.default else []
        return f"{self.about} [{'; '.join(notes)}]".strip() if notes else self.about


class Program(typer.Typer):
    """A typer app whose commands share their way of showing help and refusing wrong usage.

    Attributes:
        panel: Title under which commands that are added from now on are listed.
    """

    def __init__(self, **options: Any) -> None:
        """Make an app without commands.

        Args:
            **options: Those of `typer.Typer`.
        """
        super().__init__(cls=_Group, rich_markup_mode=None, pretty_exceptions_enable=False, **options)
        self.panel: str | None = None

    def command(self, name: str | None = None, **options: Any) -> Callable[[Command], Command]:
        """Add a command; options are those of `typer.Typer.command`."""
        return super().command(name, **{"cls": _Verb, "rich_help_panel": self.panel} | options)


class _Help:
    """Shared by a command and a group of commands: panels of help, and an error for an option that is repeated."""

    callback: Any
    get_params: Any
    get_usage: Any
    make_parser: Any
    help: str | None
    epilog: str | None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            for param, times in Counter(order).items():
                if times > 1 and not (getattr(param, "multiple", False) or param.is_eager):
                    name = "/".join((*param.opts, *param.secondary_opts))
                    ctx.fail(f"{name} was given twice, and takes effect once: leave one out")
        rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """``[OPTIONS]`` and the arguments, optional ones in brackets; releases of typer write them differently."""
        pieces = ["[OPTIONS]"]
        for param in self.get_params(ctx):
            if param.param_type_name == "argument":
                name = _argument_name(param)
                pieces.append((name if param.required else f"[{name}]") + "..." * (param.nargs != 1))
        return pieces

    def panels(self, ctx: Any) -> Iterator[tuple[str, list[Row]]]:
        """Titles of the panels with their rows, in the order of `Panel`."""
        declared = {} if self.callback is None else inspect.signature(self.callback).parameters
        rows: dict[Panel, list[Row]] = {panel: [] for panel in Panel}
        for param in self.get_params(ctx):
            if getattr(param, "hidden", False):
                continue
            usual = Panel.ARGUMENTS if param.param_type_name == "argument" else Panel.OPTIONS
            title = Panel(getattr(param, "rich_help_panel", None) or usual)
            rows[title].append(_row(param, declared.get(param.name)))
        yield from ((title, listed) for title, listed in rows.items() if listed)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        # The formatter would break an option or a method's name at its hyphens.
        out = Console(width=formatter.width - 2, color_system=None, highlight=False)
        for title, rows in self.panels(ctx):
            with out.capture() as captured:
                out.print(_table(rows, out.width))
            formatter.write(f"\n{title}:\n")
            formatter.write("".join(f"  {line.rstrip()}\n" for line in captured.get().splitlines()))

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the example on one line: a command that is wrapped cannot be copied and run."""
        if self.epilog:
            formatter.write(f"\n{self.epilog}\n")

    def format_help(self, ctx: Any, formatter: Any) -> None:
        if not sys.stdout.isatty():
            super().format_help(ctx, formatter)  # type: ignore[misc]
            return
        out = terminal()
        with out.capture() as captured:
            _draw(out, self.get_usage(ctx), self.help or "", self.panels(ctx), self.epilog or "")
        formatter.write(captured.get())


class _Verb(_Help, TyperCommand):
    """A single command."""


class _Group(_Help, TyperGroup):
    """Several commands, listed in panels before the options that they share; those of a group within it one by one."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "COMMAND [ARGS]..."]

    def panels(self, ctx: Any) -> Iterator[tuple[str, list[Row]]]:
        rows: dict[str, list[Row]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is None or command.hidden:
                continue
            title = getattr(command, "rich_help_panel", None) or "Commands"
            members = getattr(command, "commands", None)
            found = {name: command} if members is None else {f"{name} {each}": members[each] for each in members}
            rows.setdefault(title, []).extend(
                Row(each, member.get_short_help_str(limit=_LONGEST)) for each, member in found.items()
            )
        yield from rows.items()
        yield from super().panels(ctx)


def _row(param: Any, declared: inspect.Parameter | None) -> Row:
    """The row of an argument or an option.

    Types and defaults are those of the function, since typer releases keep them in different places.

    Args:
        param: The argument or option of typer.
        declared: The function's parameter; None for options that typer adds, such as ``--help``.
    """
    if param.param_type_name == "argument":
        name, is_flag, is_list = _argument_name(param), False, False
    else:
        name = " / ".join(", ".join(names) for names in (param.opts, param.secondary_opts) if names)
        is_flag, is_list = param.is_flag, param.multiple
        if not is_flag:
            name = f"{name} {param.metavar or _kind(declared)}"
    default = None if declared is None else declared.default
    if isinstance(param.show_default, str):
        default = param.show_default
    elif param.show_default is False or (is_flag and not param.secondary_opts):
        default = None
    elif isinstance(default, bool):
        is_opposite = param.secondary_opts[0].startswith("--no-")
        default = ("off", "on")[default] if is_opposite else (param.secondary_opts, param.opts)[default][0]
    shown = "" if default in (None, inspect.Parameter.empty) else str(default)
    return Row(name, _help_text(param, declared), shown, param.required, is_list)


def _help_text(param: Any, declared: inspect.Parameter | None) -> str:
    """The help of an argument or an option; click 8.5 clears that of an argument which typer before 0.26 makes."""
    declarations = getattr(getattr(declared, "annotation", None), "__metadata__", ())
    return str(param.help or next((each.help for each in declarations), None) or "")


def _argument_name(param: Any) -> str:
    return str(param.metavar or param.name.upper())


def _kind(declared: inspect.Parameter | None) -> str:
    """How help names the type of a value; that of each item for a list."""
    kind: Any = None if declared is None else declared.annotation
    while get_origin(kind) is not None:
        kind = next((part for part in get_args(kind) if part is not NoneType), None)
    return _KINDS.get(kind, "TEXT")


def _table(rows: Iterable[Row], width: int) -> Table:
    """The rows of a panel in two columns: names, and texts that are wrapped."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(max_width=max(_NAME_WIDTH, width // 3), overflow="fold")
    grid.add_column(ratio=1)
    for row in rows:
        grid.add_row(Text(row.name, style="cyan"), Text(row.text))
    return grid


def _draw(out: Console, usage: str, about: str, panels: Iterable[tuple[str, list[Row]]], example: str) -> None:
    """Print help for a terminal."""
    out.print(Text(usage, style="bold"))
    out.print()
    for paragraph in about.strip().split("\n\n"):
        out.print(Text(" ".join(paragraph.split())))
        out.print()
    for title, rows in panels:
        out.print(Frame(_table(rows, out.width), title=Text(title), title_align="left", border_style="dim"))
    if example:
        out.print()
        out.print(Text(example), soft_wrap=True)
