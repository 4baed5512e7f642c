"""``scripts/bench/bench_near_duplicates.py`` prints the figures of a data set and of textures."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.paths import ROOT

SCRIPT = ROOT / "scripts" / "bench" / "bench_near_duplicates.py"


def test_it_prints_pairs_and_shares(phantoms: Phantoms, tmp_path: Path) -> None:
    folder = build(phantoms, tmp_path, "bloodmnist", 28)
    command = [sys.executable, str(SCRIPT), str(folder), "--copies", "5", "--rows", "60"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "  mirrored: " in process.stdout and "60 textures: 1 pair" in process.stdout
