"""``scripts/bench/coverage.py``: 95 % intervals cover the truth in 93 to 97 % of test sets."""

import subprocess
import sys

import numpy as np
import pytest

from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import check
from scripts.bench.coverage import LAWS, NOISE, Law, draw, gap, measure, truths
from tests.fixtures.paths import ROOT

SCRIPT = ROOT / "scripts" / "bench" / "coverage.py"


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_the_truth_equals_the_scores_of_a_large_test_set(law: Law) -> None:
    distance = gap(0.8)
    for index, noise in enumerate((0.0, NOISE)):
        references, *scores = draw(law, 200_000, distance, np.random.default_rng(0))
        large = score(check(references, scores[index], law.task, from_logits=False))
        truth = truths(law, distance, noise)
        assert (large.auc, large.acc) == pytest.approx((truth["auc"], truth["acc"]), abs=0.004)
    assert truths(law, distance)["auc"] == pytest.approx(0.8)


@pytest.mark.parametrize("law", LAWS[:2], ids=lambda law: law.name)
def test_intervals_have_about_their_nominal_coverage(law: Law) -> None:
    for line in measure(law, 100, 0.85, draws=300):
        # With 300 draws at 95 %, the share is outside this range in one case of two thousand.
        assert 0.905 <= line.covered <= 0.99, line
        assert line.method == {"auc": "DeLong", "acc": "Wilson"}[line.measure]


@pytest.mark.slow
@pytest.mark.parametrize("rows", [100, 1000])
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_95_percent_intervals_cover_93_to_97_percent_of_2000_test_sets(law: Law, rows: int) -> None:
    for line in measure(law, rows, 0.85, draws=2000, differences=True):
        assert 0.93 <= line.covered <= 0.97, line


def test_the_command_prints_a_table() -> None:
    command = [sys.executable, str(SCRIPT), "--draws", "4", "--rows", "60", "--others", "--differences"]
    process = subprocess.run([*command, "--resamples", "5"], capture_output=True, text=True, check=True)
    lines = process.stdout.splitlines()
    assert lines[0].startswith("| test sets | rows | measure | method | truth | covered |")
    assert len(lines) == 2 + len(LAWS) * 10
    assert lines[2].startswith("| binary, balanced | 60 | auc | DeLong | 0.850 | ")


def test_help_names_an_example() -> None:
    process = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    assert "python scripts/bench/coverage.py --auc 0.85" in process.stdout
