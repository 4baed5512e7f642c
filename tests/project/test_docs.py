"""The README keeps its word: its table is the catalogue's, its commands exist, its Python runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from medmnist_hf.cards.readme import update_table
from tests.fixtures.pages import PAGES, README, blocks, commands, examples, inline_commands, simple_commands, verbs
from tests.fixtures.paths import ROOT

TEXT = README.read_text(encoding="utf-8")


def test_the_table_of_subsets_is_up_to_date() -> None:
    assert update_table(TEXT) == TEXT, "stale: run python scripts/render_cards.py"


PRINTED = [
    *((str(page.relative_to(ROOT)), line) for page in PAGES for line in commands(page)),
    *(("--help", line) for line in examples()),
]
MENTIONED = [(str(page.relative_to(ROOT)), line) for page in PAGES for line in inline_commands(page)]


def named(lines: list[tuple[str, str]]) -> list[str]:
    return [f"{where}: {line}" for where, line in lines]


@pytest.mark.parametrize(("where", "line"), PRINTED, ids=named(PRINTED))
def test_every_command_exists_and_takes_these_options(where: str, line: str) -> None:
    for words in simple_commands(line):
        parse(words)


@pytest.mark.parametrize(("where", "line"), MENTIONED, ids=named(MENTIONED))
def test_a_command_in_a_text_exists_and_takes_these_options(where: str, line: str) -> None:
    """It may leave out what it is given, such as the data."""
    for words in simple_commands(line):
        try:
            parse(words)
        except Exception as error:
            if type(error).__name__ != "MissingParameter":
                raise


def parse(words: list[str]) -> None:
    """Fail where a program, verb, option or value of a command is not one, as the command itself would."""
    program, *arguments = words
    match program.removeprefix(".venv/bin/"):
        case "make":
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert re.search(rf"^{arguments[0]}:", makefile, flags=re.MULTILINE)
        case "medmnist-hf":
            verb, *rest = arguments
            verbs()[verb].make_context(verb, rest)
        case "python":
            text = (ROOT / arguments[0]).read_text(encoding="utf-8")  # importing one may take ten seconds
            for option in (word.removeprefix("--") for word in arguments if word.startswith("--")):
                assert f'"--{option}"' in text or re.search(
                    rf"^    {option.replace('-', '_')}: Annot", text, re.MULTILINE
                )
        case other:
            assert other == "hf", "a program that no reader has"


NOT_OURS = {
    *("--check", "--disable-pip-version-check"),  # of adapters of engines, and of pip
    *("--porcelain", "--short", "--untracked-files"),  # of git
    "--no",  # begins any that says no
}


def test_messages_name_verbs_and_options_that_there_are() -> None:
    """What the package says of its command line, in messages, help and docstrings, can be typed."""
    options = {
        name for verb in verbs().values() for param in verb.params for name in (*param.opts, *param.secondary_opts)
    }
    for path in (ROOT / "medmnist_hf").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9]*(?:-[a-z0-9]+)*", text):
            assert option in options | NOT_OURS | {"--help", "--version"}, f"{path.name} names {option}"
        for verb in re.findall(r"medmnist-hf ([a-z][a-z-]*)", text):
            assert verb in verbs() or verb == "again", f"{path.name} names medmnist-hf {verb}"


def test_every_verb_has_an_example_of_itself() -> None:
    for name, verb in verbs().items():
        assert str(verb.epilog).startswith(f"Example: medmnist-hf {name} ") or name == "list"


EACH_ALONE = """
import sys

for code in sys.argv[1:]:
    exec(code, {"__name__": "__main__"})
"""
"""Runs each program with names of its own, in one process, which imports torch once."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_pages_name_files_that_there_are() -> None:
    """What stands in backticks and looks like a path of the checkout is one."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:medmnist_hf|scripts|tests|docs|builders)/[\w./-]+)`", text):
            assert "NAME" in name or (ROOT / name).exists(), f"{page.name} names {name}"


@pytest.mark.slow
def test_the_python_runs_on_a_build(real_data: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    build = [sys.executable, str(ROOT / "scripts/build.py"), "breastmnist", "--source", str(real_data)]
    subprocess.run(build, cwd=tmp_path, env=environment, check=True, capture_output=True)
    blocks_in_turn = [sys.executable, "-c", EACH_ALONE, *blocks("python")]
    subprocess.run(blocks_in_turn, cwd=tmp_path, env=environment, check=True, capture_output=True)


def test_git_ignores_what_the_commands_of_the_readme_make() -> None:
    """Whoever tries them in a checkout adds none of it by `git add .`."""
    written = {"dist", "npz"}
    for words in (words for page in PAGES for line in commands(page) for words in simple_commands(line)):
        written |= {
            words[place + 1] for place, word in enumerate(words[:-1]) if word in ("--out", "--local-dir", "--plot")
        }
    for name in written:
        path = name if Path(name).suffix else f"{name}/any"
        subprocess.run(["git", "check-ignore", "--quiet", "--no-index", path], cwd=ROOT, check=True)
