"""``scripts/record_statistics.py``: records what manifests of official files hold, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

from medmnist_hf.catalog import subset
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.sources.source import Folder
from medmnist_hf.statistics.recorded import RECORD_NAME
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.paths import ROOT

SCRIPT = ROOT / "scripts" / "record_statistics.py"


def record(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_committed_record_is_reproduced(real_data: Path, tmp_path: Path) -> None:
    for flag in ("breastmnist", "retinamnist", "adrenalmnist3d"):
        entry = subset(flag)
        build_config(entry, 28, Folder(real_data).fetch(entry, 28), tmp_path / "dist")
    process = record(tmp_path / "dist", "--file", tmp_path / "record.json")
    assert (process.returncode, process.stderr) == (0, "")
    committed = json.loads((ROOT / "medmnist_hf" / "statistics" / RECORD_NAME).read_text(encoding="utf-8"))
    written = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert written["files"].items() <= committed["files"].items()
    assert len(written["files"]) == 3


def test_phantoms_are_refused(phantoms: Phantoms, tmp_path: Path) -> None:
    folder = build(phantoms, tmp_path, "breastmnist", 28)
    process = record(folder, "--file", tmp_path / "record.json")
    assert process.returncode != 0
    assert "breastmnist at size 28 was not built from the official file" in process.stderr
    assert not (tmp_path / "record.json").exists()
