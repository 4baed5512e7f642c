"""`medmnist_hf.training.report.predictions`: the prediction file that represents a run, and runs without one."""

import json
from pathlib import Path

import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.report.predictions import is_run, predictions_of_run
from tests.fixtures.benchmarks import leave_run


def name(split: str = "test") -> str:
    return f"breastmnist_{split}_[AUC]0.500_[ACC]0.500@seed.csv"


def test_the_file_is_the_test_split_of_the_best_seed_on_validation(tmp_path: Path) -> None:
    leave_run(tmp_path / "run", test=[0.9, 0.8, 0.7], validation=[0.5, 0.7, 0.7], dataset="breastmnist")
    for seed in range(3):
        folder = tmp_path / "run" / f"seed-{seed}"
        folder.mkdir()
        for file in (name(), name("val"), "notes.csv"):
            (folder / file).write_text("0,0.5\n")
    predictions = predictions_of_run(tmp_path / "run")
    assert predictions.path == tmp_path / "run" / "seed-1" / name()
    assert predictions.why == "seed 1 of 3, the best on validation"


def test_an_unfinished_or_untested_run_gives_a_one_line_error(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert not is_run(run) and not is_run(tmp_path / "missing")
    (run / "recipe.yaml").write_text("{}")
    assert is_run(run)
    with pytest.raises(TrainingError, match="this run is not finished, it has no results"):
        predictions_of_run(run)
    leave_run(tmp_path / "untested", test=[], validation=[0.5], dataset="breastmnist")
    with pytest.raises(TrainingError, match="has not scored test: run it again without --no-test"):
        predictions_of_run(tmp_path / "untested")
    leave_run(tmp_path / "emptied", test=[0.5], validation=[0.5], dataset="breastmnist")
    with pytest.raises(TrainingError, match="seed-0 has 0 prediction files of test"):
        predictions_of_run(tmp_path / "emptied")


def test_a_damaged_run_gives_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"dataset": 1}))
    with pytest.raises(TrainingError, match="is damaged"):
        predictions_of_run(tmp_path)
