"""The command line of every command: options given twice, wrong usage in one line, help in panels with an example."""

import contextlib
import os
import pty
import subprocess
import sys
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from medmnist_hf import console
from medmnist_hf.cli.main import app as command_line
from medmnist_hf.console.program import Program, Row

app = Program(add_completion=False)


EXAMPLE = "Example: program first --size 28 --size 64 --out some/folder/with/a/long/name --title 'a name' --no-loud"


@app.command(epilog=EXAMPLE)
def first(
    names: Annotated[list[str], typer.Argument(help="Names.")],
    size: Annotated[list[int] | None, typer.Option(help="Repeatable.")] = None,
    title: Annotated[str, typer.Option(help="[of] all", rich_help_panel="Data")] = "a name",
    loud: Annotated[bool, typer.Option("--loud/--no-loud", help="Shout.")] = True,
) -> None:
    """Say names. A second sentence."""
    console.echo(f"{names} {size} {title} {loud}")


app.panel = "Others"


@app.command()
def second() -> None:
    """Do nothing."""


def exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    with pytest.raises(SystemExit) as end:
        console.run(app)
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("twice", "option"),
    [
        (["--title", "a", "--title", "b"], "--title"),
        (["--title=a", "--title=a"], "--title"),
        (["--loud", "--no-loud"], "--loud/--no-loud"),
    ],
)
def test_an_option_of_one_value_cannot_be_given_twice(
    twice: list[str], option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exit_code(monkeypatch, "first", "x", *twice) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {option} was given twice") and err.count("\n") == 1


def test_a_repeatable_option_can_be_repeated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exit_code(monkeypatch, "first", "x", "y", "--size", "1", "--size", "2", "--no-loud") == 0
    assert capsys.readouterr().out == "['x', 'y'] [1, 2] a name False\n"


@pytest.mark.parametrize(
    "arguments", [["first"], ["first", "x", "--sizes", "1"], ["first", "x", "--size", "a\x1b[31m"], ["third"]]
)
def test_wrong_usage_is_one_printable_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exit_code(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and "\x1b" not in err
    assert "--help)" in err


def test_help_of_an_argument_is_shown_where_click_has_cleared_it() -> None:
    verb: Any = typer.main.get_command(app).get_command(None, "first")  # type: ignore[attr-defined]
    verb.params[0].help = None
    panels = dict(verb.panels(typer.Context(verb)))
    assert panels["Arguments"] == [Row("NAMES", "Names.", required=True)]


def test_help_in_a_pipe_is_plain_and_its_example_one_line() -> None:
    output = CliRunner().invoke(app, ["first", "--help"], prog_name="program").output
    assert output.startswith("Usage: program first [OPTIONS] NAMES...\n")
    assert not set(output) & set("\x1b│╭")
    assert "\nData:\n" in output and "[of] all" in output and "[default: a name]" in output
    assert output.index("Arguments:") < output.index("Data:") < output.index("Options:")
    assert output.rstrip().endswith("--title 'a name' --no-loud")


def test_the_list_of_commands_has_panels() -> None:
    output = CliRunner().invoke(app, ["--help"], prog_name="program").output
    assert output.index("Commands:") < output.index("first  Say names.") < output.index("Others:")
    assert output.index("Others:") < output.index("second  Do nothing")


def test_help_on_a_terminal_is_framed() -> None:
    controller, terminal = pty.openpty()
    code = "import tests.console.test_program as t; from medmnist_hf import console; console.run(t.app)"
    environment = os.environ | {"COLUMNS": "100", "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.run(
        [sys.executable, "-c", code, "first", "--help"], stdout=terminal, env=environment, check=True
    )
    os.close(terminal)
    output = b""
    with contextlib.suppress(OSError):  # reading a closed terminal raises
        while piece := os.read(controller, 65536):
            output += piece
    text = output.decode()
    assert process.returncode == 0
    assert "Data" in text and "╭" in text and "[of] all" in text
    assert EXAMPLE in text


def test_all_commands_have_a_panel_and_an_example() -> None:
    panels = {command.rich_help_panel for command in command_line.registered_commands}
    assert panels == {"Use the data", "Make the data", "Train and compare", "Score"}
    assert isinstance(command_line, Program)
    for command in command_line.registered_commands:
        assert str(command.epilog).startswith("Example: medmnist-hf "), command.name
