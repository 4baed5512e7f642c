"""The examples of ``docs/frameworks`` run as printed, each in an environment with what its page installs."""

import json
import os
import subprocess
from pathlib import Path
from typing import Final

import numpy as np
import pytest

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import subset
from medmnist_hf.conversion.added_columns import AddedFiles
from medmnist_hf.conversion.build import BuildOptions, build_config
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.commands import invoke
from tests.fixtures.pages import blocks
from tests.fixtures.paths import ROOT
from tests.fixtures.source_ids import IDS, organ_ids, write_csv

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
    """Builds of official files, and of small phantoms of volumes and of slices with their scans; prediction files."""
    path = tmp_path_factory.mktemp("reader")
    invoke("build", "breastmnist", "--source", real_data, "--root", path / "dist")
    write_card(build(phantoms, path / "dist", "adrenalmnist3d", 28, rows=32))
    organs, slices = subset("organamnist"), phantoms("organamnist", 28, 64)
    write_csv(path / "ids" / "organamnist.csv", IDS, organ_ids(organs, slices, scans=4))
    options = BuildOptions(added=AddedFiles(path / "ids"))
    write_card(build_config(organs, 28, slices, path / "dist", options=options).config_dir.parent)
    test = medmnist_hf.load_arrays("breastmnist", 28, "test", root=path / "dist").labels
    for seed, scores in enumerate(np.random.default_rng(0).dirichlet([1, 1], (2, len(test)))):
        medmnist_hf.write_predictions(path / "predictions", "breastmnist", 28, "test", scores, test, run=f"seed{seed}")
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
