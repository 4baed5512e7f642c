"""The notebooks of the documentation run on the official files and print what they show."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.render_notebooks import NOTEBOOKS, is_same, text_of
from tests.fixtures.paths import ROOT


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("AUC 0.84 (0.74 to 0.90)\n", "AUC 0.85 (0.73 to 0.91)", True),
        ("AUC 0.84", "AUC 0.95", False),
        ("rows 546", "rows 547", False),
        ("(156, 2) True", "(156, 2) False", False),
        ("0.84 0.90", "0.84", False),
    ],
)
def test_only_decimals_may_differ_and_only_a_little(old: str, new: str, same: bool) -> None:
    assert is_same(old, new) is same


def test_of_a_picture_no_text_is_compared() -> None:
    picture = {"output_type": "execute_result", "data": {"image/png": "...", "text/plain": "<Image at 0x7f>"}}
    cell: dict[str, Any] = {"outputs": [{"output_type": "stream", "name": "stdout", "text": "a\n"}, picture]}
    assert text_of(cell) == "a\n"


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_prints_what_it_shows(notebook: Path, real_data: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    script = [sys.executable, str(ROOT / "scripts/imagenet_weights.py"), "--out", str(weights)]
    subprocess.run(script, check=True, capture_output=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MEDMNIST_ROOT": str(real_data),
        "HF_HOME": str(tmp_path / "hf"),
        "CHECKPOINT": str(weights),
    }
    check = [sys.executable, str(ROOT / "scripts/render_notebooks.py"), "--check", str(notebook)]
    checked = subprocess.run(check, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
