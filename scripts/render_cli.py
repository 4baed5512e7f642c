"""Render the CLI reference, ``docs/cli.md``, from the commands of ``medmnist-hf``, or check that it is up to date.

Example:
    python scripts/render_cli.py --check
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import typer.main

from medmnist_hf import console
from medmnist_hf.cli.main import app as command_line
from medmnist_hf.console.program import Program, Row
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.files import write_atomically

PAGE: Final = Path(__file__).parents[1] / "docs" / "cli.md"
PROGRAM: Final = "medmnist-hf"
EXAMPLE: Final = "Example: "

HEAD: Final = """\
# Command line

<!-- Generated from the commands by scripts/render_cli.py: do not edit. -->
"""

app = Program(add_completion=False)


def render() -> str:
    """Render the page: a section per panel of verbs, with a subsection per verb."""
    group: Any = typer.main.get_command(command_line)
    context = typer.Context(group, info_name=PROGRAM)
    verbs: dict[str, list[Row]] = {}
    options: dict[str, list[Row]] = {}
    for title, rows in group.panels(context):
        (options if rows[0].name.startswith("--") else verbs)[title] = rows
    lines = [HEAD, f"{_prose(group.help)}\n"]
    lines += [f"Every command has `--help`, and `{PROGRAM} --help` lists all of them.\n"]
    lines += ["| command | what it does |", "| --- | --- |"]
    for row in (row for rows in verbs.values() for row in rows):
        anchor = f"{PROGRAM}-{row.name}".replace(" ", "-")
        lines.append(f"| [`{row.name}`](#{anchor}) | {_escape(row.about)} |")
    lines += ["", "Options of the program itself:", "", *_table(row for rows in options.values() for row in rows)]
    for title, rows in verbs.items():
        lines += ["", f"## {title}"]
        for row in rows:
            command, parent = group, context
            for name in row.name.split():
                command = command.get_command(parent, name)
                parent = typer.Context(command, info_name=name, parent=parent)
            lines += ["", *_section(command, parent)]
    return "\n".join(lines) + "\n"


def _section(command: Any, context: Any) -> Iterator[str]:
    """Lines of a verb: usage, description, a table per panel, an example."""
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    yield from (f"### `{context.command_path}`", "", "```text", usage, "```", "", _prose(command.help))
    for title, rows in command.panels(context):
        if rows := [row for row in rows if row.name != "--help"]:
            yield from ("", f"**{title}**", "", *_table(rows))
    yield from ("", "Example:", "", "```bash", command.epilog.removeprefix(EXAMPLE), "```")


def _table(rows: Iterable[Row]) -> Iterator[str]:
    yield from ("| name | description | default |", "| --- | --- | --- |")
    for row in rows:
        default = "required" if row.required else _default(row.default)
        yield f"| `{row.name}` | {_escape(row.about)}{' Repeatable.' * row.repeatable} | {default} |"


def _default(text: str) -> str:
    """Format a default as code if it can be typed, else as prose."""
    return f"`{text}`" if text and (" " not in text or text.startswith("'")) else _escape(text)


def _prose(text: str) -> str:
    """Paragraphs of a docstring, each on one line."""
    return "\n\n".join(_escape(" ".join(paragraph.split())) for paragraph in text.strip().split("\n\n"))


def _escape(text: str) -> str:
    """Escape Markdown, except for the backticks of code."""
    return re.sub(r"([\\*<>\[\]|~$])", r"\\\1", text)


@app.command(epilog="Example: python scripts/render_cli.py --check")
def cli(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if the page is stale.")] = False,
) -> None:
    """Render the CLI reference from the commands and their help."""
    page = render()
    if not check:
        write_atomically(PAGE, page)
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page:
        raise MedMNISTError("docs/cli.md is stale: run python scripts/render_cli.py")
    console.echo("docs/cli.md is up to date" if check else PAGE)


if __name__ == "__main__":
    console.run(app)
