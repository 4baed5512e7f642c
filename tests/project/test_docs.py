"""The README keeps its word: its table is the catalogue's, its commands exist, its Python runs."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medmnist_hf.cards.readme import with_table
from medmnist_hf.cli.main import app
from tests.fixtures.paths import ROOT

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def commands() -> list[list[str]]:
    return [
        shlex.split(line, comments=True) for block in blocks("bash") for line in block.splitlines() if line.strip()
    ]


def test_the_table_of_subsets_is_up_to_date() -> None:
    assert with_table(TEXT) == TEXT, "stale: run python scripts/render_cards.py"


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_exists_and_takes_these_options(command: list[str]) -> None:
    if command[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{command[1]}:", makefile, flags=re.MULTILINE)
        return
    program, verb, *arguments = command
    assert program == ".venv/bin/medmnist-hf"
    helped = CliRunner().invoke(app, [verb, "--help"])
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert option in helped.stdout
    assert helped.exit_code == 0 and "Example: medmnist-hf " in helped.stdout


EACH_ALONE = """
import sys

for code in sys.argv[1:]:
    exec(code, {"__name__": "__main__"})
"""
"""Runs each program with names of its own, in one process, which imports torch once."""

PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]


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


def test_the_python_runs_on_a_build(real_data: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    build = [sys.executable, str(ROOT / "scripts/build.py"), "breastmnist", "--source", str(real_data)]
    subprocess.run(build, cwd=tmp_path, env=environment, check=True, capture_output=True)
    blocks_in_turn = [sys.executable, "-c", EACH_ALONE, *blocks("python")]
    subprocess.run(blocks_in_turn, cwd=tmp_path, env=environment, check=True, capture_output=True)


def test_git_ignores_what_the_commands_of_the_readme_make() -> None:
    """Whoever tries them in a checkout adds none of it by `git add .`."""
    written = {"dist", "npz"}
    for _, *words in commands():
        written |= {
            words[place + 1] for place, word in enumerate(words[:-1]) if word in ("--out", "--local-dir", "--plot")
        }
    for name in written:
        path = name if Path(name).suffix else f"{name}/any"
        subprocess.run(["git", "check-ignore", "--quiet", "--no-index", path], cwd=ROOT, check=True)
