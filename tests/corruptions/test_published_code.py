"""Corruptions against the published code, as released, on the same images with the same libraries."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medmnist_hf.corruptions.apply import FUNCTIONS
from tests.fixtures.paths import ROOT

PACKAGE = ROOT / ".venv" / "medmnistc"
"""Where ``make test-slow`` has put the package."""

NEEDS_MAGICK = {"motion_blur"}
ROUNDED = {"gaussian_blur", "motion_blur"}
"""Of torchvision and ImageMagick, which add up in another order: some values differ by 1."""


@pytest.mark.slow
def test_pixels_or_distributions_are_equal(tmp_path: Path) -> None:
    assert PACKAGE.is_dir(), f"no {PACKAGE}: run `make test-slow`, which installs the package there"
    out = tmp_path / "all.json"
    command = [sys.executable, "scripts/bench/bench_corruptions.py", "--images", "12", "--rounds", "1"]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE)}
    subprocess.run([*command, "--json", str(out)], cwd=ROOT, env=environment, check=True)
    rows = json.loads(out.read_text())["rows"]
    assert set(rows) == set(FUNCTIONS)
    assert {name for name, row in rows.items() if not row["peer_images"]} <= NEEDS_MAGICK
    for name, row in rows.items():
        assert min(row["p_values"], default=1) > 1e-4, name
        assert row["largest"] <= (name in ROUNDED) and row["different"] <= 1e-4 * row["values"], name
        assert row["random"] or row["values"], name
