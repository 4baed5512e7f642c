"""How every command is asked: help in panels, an option that takes one value is given once, an example to copy.

Help is drawn in frames on a terminal and is plain text where standard output is none; both show the same.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from medmnist_hf.console import terminal

_ARGUMENTS: Final = "Arguments"
_OPTIONS: Final = "Options"
_COMMANDS: Final = "Commands"

_LONGEST: Final = 200
"""Characters of the first sentence of a command's help, which the list of commands shows."""

Command = TypeVar("Command", bound=Callable[..., Any])

Records = list[tuple[str, str]]
"""What stands in a panel: a name and its help, one for each option or command."""


class Program(typer.Typer):
    """A typer app whose commands are all asked alike.

    Attributes:
        panel: Title under which the commands that are added from now on are listed.
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


class _Asked:
    """What a command and a group of them share: what is given twice is refused, and help has panels."""

    get_params: Any
    get_usage: Any
    make_parser: Any
    help: str | None
    epilog: str | None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            _, _, given = self.make_parser(ctx).parse_args(args=list(args))
            for param, times in Counter(given).items():
                if times > 1 and not (getattr(param, "multiple", False) or param.is_eager):
                    name = "/".join((*param.opts, *param.secondary_opts))
                    ctx.fail(f"{name} was given twice, and takes effect once: leave one out")
        rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        return rest

    def panels(self, ctx: Any) -> Iterator[tuple[str, Records]]:
        """Titles of the panels and what stands in them: arguments first, options of no panel last."""
        found: dict[str, Records] = {_ARGUMENTS: []}
        for param in self.get_params(ctx):
            is_argument = param.param_type_name == "argument"
            title = getattr(param, "rich_help_panel", None) or (_ARGUMENTS if is_argument else _OPTIONS)
            if record := param.get_help_record(ctx):
                found.setdefault(title, []).append(record)
        found[_OPTIONS] = found.pop(_OPTIONS, [])
        yield from ((title, records) for title, records in found.items() if records)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for title, records in self.panels(ctx):
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The example in one line: what is broken into lines cannot be copied and run."""
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


class _Verb(_Asked, TyperCommand):
    """A command of its own, or one of several."""


class _Group(_Asked, TyperGroup):
    """Several commands, listed in panels after the options of all."""

    def panels(self, ctx: Any) -> Iterator[tuple[str, Records]]:
        found: dict[str, Records] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                title = getattr(command, "rich_help_panel", None) or _COMMANDS
                found.setdefault(title, []).append((name, command.get_short_help_str(limit=_LONGEST)))
        yield from found.items()
        yield from super().panels(ctx)


def _draw(out: Console, usage: str, about: str, panels: Iterable[tuple[str, Records]], example: str) -> None:
    """Print help for a terminal."""
    out.print(Text(usage, style="bold"))
    out.print()
    for paragraph in about.strip().split("\n\n"):
        out.print(Text(" ".join(paragraph.split())))
        out.print()
    for title, records in panels:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(max_width=out.width // 2, overflow="fold")
        grid.add_column(ratio=1)
        for name, told in records:
            grid.add_row(Text(name, style="cyan"), Text(told))
        out.print(Panel(grid, title=Text(title), title_align="left", border_style="dim"))
    if example:
        out.print()
        out.print(Text(example), soft_wrap=True)
