"""How every command is asked: an option is given once, wrong usage is one line, help has panels and an example."""

import contextlib
import os
import pty
import subprocess
import sys
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from medmnist_hf import console
from medmnist_hf.cli.main import app as command_line
from medmnist_hf.console.program import Program

app = Program(add_completion=False)


EXAMPLE = "Example: program first --size 28 --size 64 --out some/folder/with/a/long/name --title 'a name' --no-loud"


@app.command(epilog=EXAMPLE)
def first(
    names: Annotated[list[str], typer.Argument(help="Names.")],
    size: Annotated[list[int] | None, typer.Option(help="Repeatable.")] = None,
    title: Annotated[str, typer.Option(help="[of] all", rich_help_panel="Words")] = "a name",
    loud: Annotated[bool, typer.Option("--loud/--no-loud", help="Shout.")] = True,
) -> None:
    """Say names. A second sentence."""
    console.echo(f"{names} {size} {title} {loud}")


app.panel = "Others"


@app.command()
def second() -> None:
    """Do nothing."""


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    with pytest.raises(SystemExit) as end:
        console.run(app)
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("twice", "named"),
    [
        (["--title", "a", "--title", "b"], "--title"),
        (["--title=a", "--title=a"], "--title"),
        (["--loud", "--no-loud"], "--loud/--no-loud"),
    ],
)
def test_an_option_that_takes_one_value_is_given_once(
    twice: list[str], named: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ended(monkeypatch, "first", "x", *twice) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {named} was given twice") and err.count("\n") == 1


def test_what_may_be_repeated_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(monkeypatch, "first", "x", "y", "--size", "1", "--size", "2", "--no-loud") == 0
    assert capsys.readouterr().out == "['x', 'y'] [1, 2] a name False\n"


@pytest.mark.parametrize(
    "arguments", [["first"], ["first", "x", "--sizes", "1"], ["first", "x", "--size", "a\x1b[31m"], ["third"]]
)
def test_wrong_usage_is_one_printable_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ended(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and "\x1b" not in err
    assert "--help)" in err


def test_help_in_a_pipe_is_plain_and_its_example_one_line() -> None:
    shown = CliRunner().invoke(app, ["first", "--help"], prog_name="program").output
    assert not set(shown) & set("\x1b│╭")
    assert "\nWords:\n" in shown and "[of] all" in shown and "[default: a name]" in shown
    assert shown.index("Arguments:") < shown.index("Words:") < shown.index("Options:")
    assert shown.rstrip().endswith("--title 'a name' --no-loud")


def test_the_list_of_commands_has_panels() -> None:
    shown = CliRunner().invoke(app, ["--help"], prog_name="program").output
    assert shown.index("Commands:") < shown.index("first  Say names.") < shown.index("Others:")
    assert shown.index("Others:") < shown.index("second  Do nothing")


def test_help_on_a_terminal_is_framed() -> None:
    ours, theirs = pty.openpty()
    code = "import tests.console.test_program as t; from medmnist_hf import console; console.run(t.app)"
    environment = os.environ | {"COLUMNS": "100", "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", code, "first", "--help"], stdout=theirs, env=environment, check=True)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal ends that is closed
        while piece := os.read(ours, 65536):
            shown += piece
    text = shown.decode()
    assert done.returncode == 0
    assert "Words" in text and "╭" in text and "[of] all" in text
    assert EXAMPLE in text


def test_all_verbs_stand_in_a_panel_and_refuse_what_is_given_twice() -> None:
    panels = {one.rich_help_panel for one in command_line.registered_commands}
    assert panels == {"Use the data", "Make the data", "Train and compare", "Score"}
    assert isinstance(command_line, Program)
    for one in command_line.registered_commands:
        assert str(one.epilog).startswith("Example: medmnist-hf "), one.name
