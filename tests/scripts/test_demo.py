"""``scripts/demo.py``: five subsets are built, verified and loaded, and a model learns but is not ranked."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from medmnist_hf.errors import MedMNISTError
from medmnist_hf.scoring.published import published_results
from scripts.demo import LEARNED, SUBSETS, check_learned
from tests.fixtures.paths import ROOT


@pytest.mark.slow
def test_the_demo_shows_learning_and_ranks_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/demo.py"), "--out", str(tmp_path / "demo")]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    for flag in SUBSETS:
        assert re.search(rf"verified {flag}: \d+ rows in \d+ shards equal the NPZ file", process.stdout)
        assert (tmp_path / "demo" / flag / "README.md").is_file()
    (auc,) = re.findall(r"^learned: validation AUC ([\d.]+)", process.stdout, re.MULTILINE)
    assert float(auc) > 0.95 == LEARNED
    assert not any(row.method in process.stdout for row in published_results(SUBSETS[0]))


@pytest.mark.parametrize("auc", [0.5, 0.95, float("nan")])
def test_a_model_that_learned_too_little_is_an_error(auc: float) -> None:
    with pytest.raises(MedMNISTError, match="learned too little"):
        check_learned(auc)
