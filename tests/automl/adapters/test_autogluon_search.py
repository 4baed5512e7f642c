"""AutoGluon's adapter: tests without the engine, and searches in the environment that ``make test-slow`` creates."""

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from medmnist_hf.automl.adapters.job import NOT_INSTALLED, STATE_NAME
from medmnist_hf.automl.engines import engine
from medmnist_hf.automl.environments import check, interpreter
from medmnist_hf.automl.search import Problem, SearchResult, search
from medmnist_hf.catalog import Task
from medmnist_hf.errors import TrainingError
from medmnist_hf.scoring import predictions
from medmnist_hf.scoring.official import score
from tests.fixtures.automl_engine import problem as base_problem

ENGINE = engine("autogluon")


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ENGINE.adapter.parent))
    return importlib.import_module(ENGINE.adapter.stem)


@pytest.fixture(scope="module")
def python() -> Path:
    return interpreter(ENGINE)


def problem_with(task: str, classes: int, *, trials: int = 2, seconds: float = 600.0) -> Problem:
    return replace(base_problem(task, classes, rows=120, seconds=seconds), options={"trials": trials})


def auc(result: SearchResult, problem: Problem) -> float:
    scores = result.scores["validation"]
    return score(predictions.check(problem.y["validation"], scores, Task(problem.task), from_logits=False)).auc


def test_an_interpreter_without_the_engine_is_reported_in_one_line() -> None:
    process = subprocess.run([sys.executable, ENGINE.adapter, "--check"], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (NOT_INSTALLED, "")
    assert process.stderr == "No module named 'autogluon'\n"
    with pytest.raises(TrainingError, match=r"AutoGluon is not installed in .* \(No module named 'autogluon'\)"):
        check(ENGINE, Path(sys.executable))


def test_binary_scores_are_expanded_to_both_classes(adapter: Any) -> None:
    assert adapter._both_classes(np.array([0.25, 1.0])).tolist() == [[0.75, 0.25], [0.0, 1.0]]
    three_classes = np.array([[0.2, 0.3, 0.5]])
    assert adapter._both_classes(three_classes) is three_classes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "classes"), [("binary-class", 2), ("multi-class", 3), ("ordinal-regression", 5), ("multi-label", 2)]
)
def test_each_task_is_learned_and_selected_by_auc(python: Path, tmp_path: Path, task: str, classes: int) -> None:
    problem, lines = problem_with(task, classes), list[str]()
    result = search(ENGINE, python, tmp_path, problem, lines.append)
    assert result.scores["test"].shape == (40, classes) and not result.partial
    assert auc(result, problem) > 0.75
    assert result.facts["engine"].startswith("AutoGluon 1.6")
    members = result.facts["configuration"]
    if task == "multi-label":
        assert result.facts["one_model_per_finding"] and set(members) == {"0", "1"}
        # Findings share the budget: a busy machine may have no time left for the second trial of the last one.
        assert 2 <= result.facts["trials"] <= 4
        assert {"finding-0", "finding-1"} <= set(lines)
    else:
        assert np.allclose(result.scores["test"].sum(1), 1) and result.facts["trials"] == 2
        assert result.facts["validation_score"] == pytest.approx(auc(result, problem), abs=1e-3)
        assert sum(member["weight"] for member in members) == pytest.approx(1)
        assert all(member["seed"] == problem.seed and member["num_boost_round"] > 0 for member in members)
        assert [line.partition(":")[0] for line in lines] == ["LightGBMXT", "LightGBM", "WeightedEnsemble_L2"]
    assert not (tmp_path / STATE_NAME / "autogluon").exists()


@pytest.mark.slow
def test_classes_that_a_split_lacks(python: Path, tmp_path: Path) -> None:
    """Class 1 of four is not in train, class 3 not in validation."""
    problem = problem_with("multi-class", 4)
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
    assert result.facts["metric"] == "log_loss"
    assert result.facts["validation_score"] == pytest.approx(np.log(positive_scores).mean(), abs=1e-3)


@pytest.mark.slow
def test_features_are_not_scaled(python: Path, tmp_path: Path) -> None:
    problem = problem_with("binary-class", 2)
    x = {split: (values / 1000).astype(np.float32) for split, values in problem.x.items()}
    result = search(ENGINE, python, tmp_path, replace(problem, inputs="features", x=x))
    assert auc(result, problem) > 0.75


@pytest.mark.slow
def test_a_killed_search_keeps_its_best_model(python: Path, tmp_path: Path) -> None:
    lines: list[str] = []

    def kill(line: str) -> None:
        lines.append(line)
        for child in psutil.Process().children():
            if line.startswith("LightGBM:") and ENGINE.adapter.name in " ".join(child.cmdline()):
                child.kill()

    problem = problem_with("multi-class", 3, trials=6)
    result = search(ENGINE, python, tmp_path, problem, kill)
    assert result.partial.startswith("killed by SIGKILL after") and 1 <= result.facts["trials"] < 6
    assert auc(result, problem) > 0.6


@pytest.mark.slow
def test_too_little_time_is_reported_in_one_line(python: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"^AutoGluon: a time budget of 0.5 s is too small for one .* 36 columns \("
    ):
        search(ENGINE, python, tmp_path, problem_with("binary-class", 2, seconds=0.5))


@pytest.mark.slow
def test_a_single_class_is_reported_in_one_line(python: Path, tmp_path: Path) -> None:
    problem = problem_with("binary-class", 2)
    one_class = replace(problem, y={**problem.y, "train": np.ones_like(problem.y["train"])})
    with pytest.raises(TrainingError, match=r"^AutoGluon: train has only class 1: a search needs two or more$"):
        search(ENGINE, python, tmp_path, one_class)
