"""FLAML's adapter, with the real FLAML in a separate process: every task, resuming, and too little time."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from medmnist_hf.automl.adapters.job import STATE_NAME
from medmnist_hf.automl.engines import engine
from medmnist_hf.automl.environments import check, interpreter
from medmnist_hf.automl.search import Problem, SearchResult, search
from medmnist_hf.catalog import Task
from medmnist_hf.errors import TrainingError
from medmnist_hf.scoring import predictions
from medmnist_hf.scoring.official import score
from tests.fixtures.automl_engine import problem as base_problem

ENGINE = engine("flaml")


@pytest.fixture(scope="module")
def python() -> Path:
    return interpreter(ENGINE)


def problem_with(
    task: str, classes: int, *, rows: int = 90, trials: int | None = 4, seconds: float = 120.0
) -> Problem:
    return replace(base_problem(task, classes, rows=rows, seconds=seconds), options={"trials": trials})


def auc(result: SearchResult, problem: Problem) -> float:
    scores = result.scores["validation"]
    return score(predictions.check(problem.y["validation"], scores, Task(problem.task), from_logits=False)).auc


def test_it_reports_its_version(python: Path) -> None:
    assert check(ENGINE, python).startswith("FLAML 2.")


@pytest.mark.parametrize(
    ("task", "classes"),
    [
        ("binary-class", 2),
        pytest.param("multi-class", 3, marks=pytest.mark.slow),
        pytest.param("ordinal-regression", 5, marks=pytest.mark.slow),
        pytest.param("multi-label", 2, marks=pytest.mark.slow),
    ],
)
def test_each_task_is_learned_and_selected_by_auc(python: Path, tmp_path: Path, task: str, classes: int) -> None:
    problem, lines = problem_with(task, classes), list[str]()
    result = search(ENGINE, python, tmp_path, problem, lines.append)
    assert result.scores["test"].shape == (30, classes) and not result.partial
    assert auc(result, problem) > 0.75
    assert result.facts["engine"].startswith("FLAML 2.")
    if task == "multi-label":
        assert result.facts["one_model_per_finding"] and set(result.facts["configuration"]) == {"0", "1"}
        assert result.facts["trials"] == 8 and "finding-1" in lines
    else:
        assert np.allclose(result.scores["test"].sum(1), 1)
        assert result.facts["trials"] == 4 and result.facts["configuration"]["learner"]
        assert result.facts["validation_loss"] == pytest.approx(1 - auc(result, problem))
        assert any(line.startswith("trial 1: LGBMEstimator, validation loss 0.") for line in lines)


@pytest.mark.slow
def test_classes_that_a_split_lacks(python: Path, tmp_path: Path) -> None:
    """Class 1 of four is not in train, class 3 not in validation."""
    problem = problem_with("multi-class", 4, rows=120)
    keep = {"train": problem.y["train"] != 1, "validation": problem.y["validation"] != 3}
    x = {split: problem.x[split][keep[split]] if split in keep else problem.x[split] for split in problem.x}
    reduced = replace(problem, x=x, y={split: problem.y[split][keep[split]] for split in keep})
    result = search(ENGINE, python, tmp_path, reduced)
    assert np.all(result.scores["test"][:, 1] == 0) and np.all(result.scores["test"][:, 3] > 0)


@pytest.mark.slow
def test_without_an_auc_on_validation_the_log_loss_selects(python: Path, tmp_path: Path) -> None:
    problem = problem_with("binary-class", 2)
    one_class = replace(problem, y={**problem.y, "validation": np.ones_like(problem.y["validation"])})
    result = search(ENGINE, python, tmp_path, one_class)
    positive_scores = result.scores["validation"][:, 1]
    assert result.facts["validation_loss"] == pytest.approx(-np.log(positive_scores).mean())


def test_features_are_not_scaled(python: Path, tmp_path: Path) -> None:
    problem = problem_with("binary-class", 2)
    x = {split: (values / 1000).astype(np.float32) for split, values in problem.x.items()}
    result = search(ENGINE, python, tmp_path, replace(problem, inputs="features", x=x))
    assert auc(result, problem) > 0.75


@pytest.mark.slow
def test_a_killed_search_keeps_its_best_model_and_resumes(python: Path, tmp_path: Path) -> None:
    problem = problem_with("multi-class", 3, trials=None)

    def kill(line: str) -> None:
        for child in psutil.Process().children():
            if line.startswith("trial") and ENGINE.adapter.name in " ".join(child.cmdline()):
                child.kill()

    first = search(ENGINE, python, tmp_path, problem, kill)
    assert first.partial.startswith("killed by SIGKILL after") and auc(first, problem) > 0.5
    log = tmp_path / STATE_NAME / "trials.jsonl"
    log.write_text(log.read_text() + '{"record_id": 9, "learner": "lgbm", "val')  # an incomplete line, as after a kill
    spent = first.facts["search_seconds"]
    second = search(ENGINE, python, tmp_path, replace(problem, seconds=spent + 15))
    assert not second.partial and second.facts["trials"] > first.facts["trials"]
    assert second.facts["validation_loss"] <= first.facts["validation_loss"]
    assert spent < second.facts["search_seconds"]
    *records, _ = map(json.loads, log.read_text().splitlines())  # the last line names the best trial
    assert second.facts["trials"] == len(records)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "classes"), [("binary-class", 2), ("multi-label", 2)])
def test_too_little_time_is_reported_in_one_line(python: Path, tmp_path: Path, task: str, classes: int) -> None:
    with pytest.raises(
        TrainingError, match=r"^FLAML: a time budget of 0\.01 s is too small for one trial: give more$"
    ):
        search(ENGINE, python, tmp_path, problem_with(task, classes, seconds=0.01))


@pytest.mark.slow
def test_a_single_class_is_reported_in_one_line(python: Path, tmp_path: Path) -> None:
    problem = problem_with("binary-class", 2)
    one_class = replace(problem, y={**problem.y, "train": np.ones_like(problem.y["train"])})
    with pytest.raises(TrainingError, match=r"^FLAML: train has only class 1: a search needs two or more$"):
        search(ENGINE, python, tmp_path, one_class)


@pytest.mark.slow
def test_the_budget_is_kept(python: Path, tmp_path: Path) -> None:
    problem = problem_with("binary-class", 2, trials=None, seconds=12.0)
    start = time.monotonic()
    result = search(ENGINE, python, tmp_path, problem)
    assert not result.partial and 11.5 < time.monotonic() - start < 60
