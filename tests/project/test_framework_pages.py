"""The examples of ``docs/frameworks`` run as printed, each in an environment with what its page installs."""

import json
import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from medmnist_hf.cards.render import write_card
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.commands import invoke
from tests.fixtures.pages import blocks
from tests.fixtures.paths import ROOT

pytestmark = pytest.mark.slow

PAGES: Final = [page for page in sorted((ROOT / "docs" / "frameworks").glob("*.md")) if page.stem != "index"]

RUNNER: Final = """
import doctest, json, sys

names = {"__name__": "__main__"}
for where, language, text in json.load(sys.stdin):
    if language == "python":
        exec(compile(text, where, "exec"), names)
    else:
        test = doctest.DocTestParser().get_doctest(text, names, where, where, 0)
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        if doctest.DocTestRunner(optionflags=flags).run(test, clear_globs=False).failed:
            sys.exit("an output differs")
        names = test.globs
"""
"""Runs the blocks of a page like the cells of a notebook."""


@pytest.fixture(scope="module")
def folder(real_data: Path, phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds in ``dist``: official files, and a small phantom of volumes."""
    path = tmp_path_factory.mktemp("reader")
    invoke("build", "breastmnist", "--source", real_data, "--root", path / "dist")
    write_card(build(phantoms, path / "dist", "adrenalmnist3d", 28, rows=32))
    return path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_example_of_a_page_runs(page: Path, folder: Path) -> None:
    python = ROOT / ".venv" / "frameworks" / page.stem / "bin" / "python"
    assert python.exists(), f"no environment: make .venv/frameworks/{page.stem}.stamp"
    code = [(block.where, block.language, block.text) for block in blocks(page) if block.language.startswith("py")]
    assert code
    done = subprocess.run(
        [python, "-c", RUNNER],
        input=json.dumps(code),
        cwd=folder,
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "KERAS_HOME": str(folder / "keras")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
