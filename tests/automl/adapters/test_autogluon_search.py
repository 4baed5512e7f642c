"""AutoGluon's adapter: what of it needs no engine, and searches in the environment that ``make test-slow`` makes."""

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
from medmnist_hf.automl.search import Found, Problem, search
from medmnist_hf.catalog import Task
from medmnist_hf.errors import TrainingError
from medmnist_hf.scoring import predictions
from medmnist_hf.scoring.official import score
from tests.fixtures.engines import problem

ENGINE = engine("autogluon")


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ENGINE.adapter.parent))
    return importlib.import_module(ENGINE.adapter.stem)


@pytest.fixture(scope="module")
def python() -> Path:
    return interpreter(ENGINE)


def wanted(task: str, classes: int, *, trials: int = 2, seconds: float = 600.0) -> Problem:
    return replace(problem(task, classes, rows=120, seconds=seconds), options={"trials": trials})


def auc(found: Found, some: Problem) -> float:
    return score(
        predictions.check(some.y["validation"], found.scores["validation"], Task(some.task), from_logits=False)
    ).auc


def test_an_interpreter_without_the_engine_says_so_in_one_line() -> None:
    done = subprocess.run([sys.executable, ENGINE.adapter, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (NOT_INSTALLED, "")
    assert done.stderr == "No module named 'autogluon'\n"
    with pytest.raises(TrainingError, match=r"AutoGluon is not installed in .* \(No module named 'autogluon'\)"):
        check(ENGINE, Path(sys.executable))


def test_scores_of_a_second_class_are_those_of_both(adapter: Any) -> None:
    assert adapter._both(np.array([0.25, 1.0])).tolist() == [[0.75, 0.25], [0.0, 1.0]]
    several = np.array([[0.2, 0.3, 0.5]])
    assert adapter._both(several) is several


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "classes"), [("binary-class", 2), ("multi-class", 3), ("ordinal-regression", 5), ("multi-label", 2)]
)
def test_each_task_is_learned_and_selected_by_auc(python: Path, tmp_path: Path, task: str, classes: int) -> None:
    some, told = wanted(task, classes), list[str]()
    found = search(ENGINE, python, tmp_path, some, told.append)
    assert found.scores["test"].shape == (40, classes) and not found.partial
    assert auc(found, some) > 0.75
    assert found.facts["engine"].startswith("AutoGluon 1.6")
    members = found.facts["configuration"]
    if task == "multi-label":
        assert found.facts["one_model_a_finding"] and set(members) == {"0", "1"}
        # Findings share the budget: a busy machine may have no time left for the second trial of the last one.
        assert 2 <= found.facts["trials"] <= 4
        assert {"finding-0", "finding-1"} <= set(told)
    else:
        assert np.allclose(found.scores["test"].sum(1), 1) and found.facts["trials"] == 2
        assert found.facts["validation_score"] == pytest.approx(auc(found, some), abs=1e-3)
        assert sum(member["weight"] for member in members) == pytest.approx(1)
        assert all(member["seed"] == some.seed and member["num_boost_round"] > 0 for member in members)
        assert [line.partition(":")[0] for line in told] == ["LightGBMXT", "LightGBM", "WeightedEnsemble_L2"]
    assert not (tmp_path / STATE_NAME / "autogluon").exists()


@pytest.mark.slow
def test_classes_that_a_split_lacks(python: Path, tmp_path: Path) -> None:
    """Class 1 of four is not in train, class 3 not in validation."""
    some = wanted("multi-class", 4)
    keep = {"train": some.y["train"] != 1, "validation": some.y["validation"] != 3}
    x = {split: some.x[split][keep[split]] if split in keep else some.x[split] for split in some.x}
    lacking = replace(some, x=x, y={split: some.y[split][keep[split]] for split in keep})
    found = search(ENGINE, python, tmp_path, lacking)
    assert np.all(found.scores["test"][:, 1] == 0) and np.all(found.scores["test"][:, 3] > 0)


@pytest.mark.slow
def test_where_validation_can_rank_nothing_the_log_loss_selects(python: Path, tmp_path: Path) -> None:
    some = wanted("binary-class", 2)
    alone = replace(some, y={**some.y, "validation": np.ones_like(some.y["validation"])})
    found = search(ENGINE, python, tmp_path, alone)
    known = found.scores["validation"][:, 1]
    assert found.facts["metric"] == "log_loss"
    assert found.facts["validation_score"] == pytest.approx(np.log(known).mean(), abs=1e-3)


@pytest.mark.slow
def test_features_are_taken_as_they_are(python: Path, tmp_path: Path) -> None:
    some = wanted("binary-class", 2)
    x = {split: (values / 1000).astype(np.float32) for split, values in some.x.items()}
    found = search(ENGINE, python, tmp_path, replace(some, inputs="features", x=x))
    assert auc(found, some) > 0.75


@pytest.mark.slow
def test_a_killed_search_leaves_the_best_that_it_had(python: Path, tmp_path: Path) -> None:
    lines: list[str] = []

    def kill(line: str) -> None:
        lines.append(line)
        for child in psutil.Process().children():
            if line.startswith("LightGBM:") and ENGINE.adapter.name in " ".join(child.cmdline()):
                child.kill()

    some = wanted("multi-class", 3, trials=6)
    found = search(ENGINE, python, tmp_path, some, kill)
    assert found.partial.startswith("killed by SIGKILL after") and 1 <= found.facts["trials"] < 6
    assert auc(found, some) > 0.6


@pytest.mark.slow
def test_too_little_time_is_one_line(python: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"^AutoGluon: a time budget of 0.5 s is too small for one .* 36 columns \("
    ):
        search(ENGINE, python, tmp_path, wanted("binary-class", 2, seconds=0.5))


@pytest.mark.slow
def test_one_class_alone_is_one_line(python: Path, tmp_path: Path) -> None:
    some = wanted("binary-class", 2)
    alone = replace(some, y={**some.y, "train": np.ones_like(some.y["train"])})
    with pytest.raises(TrainingError, match=r"^AutoGluon: train has class 1 alone: a search needs two or more$"):
        search(ENGINE, python, tmp_path, alone)
