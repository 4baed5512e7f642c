"""Standard errors of published scores, compared with those of real predictions and of simulated test sets."""

import math
from pathlib import Path

import numpy as np
import pytest

from medmnist_hf.evaluation.evaluate import evaluate_file
from medmnist_hf.leaderboard.uncertainty import acc_standard_error, auc_standard_error, with_seeds
from medmnist_hf.scoring.auc import auc


def test_the_error_of_an_auc_is_near_that_of_delong_on_real_predictions(real_data: Path) -> None:
    (path,) = (real_data.parent / "predictions").glob("*.csv")
    evaluation = evaluate_file(path, real_data, ci=True)
    delong = evaluation.intervals["auc"].standard_error
    assert auc_standard_error(evaluation.score.auc, evaluation.score.rows, 2) == pytest.approx(delong, rel=0.35)


def test_the_error_of_an_auc_is_that_of_many_test_sets() -> None:
    """Exponential scores, for which the formula of Hanley and McNeil is exact."""
    rng, rows = np.random.default_rng(0), 200
    truth = np.arange(rows) < rows // 2
    aucs = [auc(rng.exponential(np.where(truth, 4.0, 1.0)), truth) for _ in range(4000)]
    assert np.mean(aucs) == pytest.approx(0.8, abs=0.002)
    assert auc_standard_error(0.8, rows, 2) == pytest.approx(np.std(aucs), rel=0.05)


def test_the_error_of_a_share() -> None:
    assert acc_standard_error(0.9, 156) == pytest.approx(0.02402, abs=1e-5)
    assert math.isnan(acc_standard_error(math.nan, 156)) and math.isnan(auc_standard_error(math.nan, 156, 2))
    assert auc_standard_error(1.0, 156, 2) == acc_standard_error(1.0, 156) == 0


def test_the_error_of_a_mean_over_seeds() -> None:
    assert with_seeds(0.03, 0.04, 4) == pytest.approx(math.hypot(0.03, 0.02))
    assert with_seeds(0.03, math.nan, 4) == with_seeds(0.03, 0.04, 1) == 0.03
