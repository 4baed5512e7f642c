"""FLAML's adapter, with FLAML itself in a process of its own: every task, going on, and too little time."""

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
from medmnist_hf.automl.search import Found, Problem, search
from medmnist_hf.catalog import Task
from medmnist_hf.errors import TrainingError
from medmnist_hf.scoring import predictions
from medmnist_hf.scoring.official import score
from tests.fixtures.engines import problem

ENGINE = engine("flaml")


@pytest.fixture(scope="module")
def python() -> Path:
    return interpreter(ENGINE)


def wanted(task: str, classes: int, *, rows: int = 90, trials: int | None = 4, seconds: float = 120.0) -> Problem:
    return replace(problem(task, classes, rows=rows, seconds=seconds), options={"trials": trials})


def auc(found: Found, some: Problem) -> float:
    return score(
        predictions.check(some.y["validation"], found.scores["validation"], Task(some.task), from_logits=False)
    ).auc


def test_it_tells_its_version(python: Path) -> None:
    assert check(ENGINE, python).startswith("FLAML 2.")


@pytest.mark.parametrize(
    ("task", "classes"),
    [
        ("binary-class", 2),
        pytest.param("multi-class", 3, marks=pytest.mark.slow),
        pytest.param("ordinal-regression", 5, marks=pytest.mark.slow),
        ("multi-label", 2),
    ],
)
def test_each_task_is_learned_and_selected_by_auc(python: Path, tmp_path: Path, task: str, classes: int) -> None:
    some, told = wanted(task, classes), list[str]()
    found = search(ENGINE, python, tmp_path, some, told.append)
    assert found.scores["test"].shape == (30, classes) and not found.partial
    assert auc(found, some) > 0.75
    assert found.facts["engine"].startswith("FLAML 2.")
    if task == "multi-label":
        assert found.facts["one_model_a_finding"] and set(found.facts["configuration"]) == {"0", "1"}
        assert found.facts["trials"] == 8 and "finding-1" in told
    else:
        assert np.allclose(found.scores["test"].sum(1), 1)
        assert found.facts["trials"] == 4 and found.facts["configuration"]["learner"]
        assert found.facts["validation_loss"] == pytest.approx(1 - auc(found, some))
        assert any(line.startswith("trial 1: LGBMEstimator, validation loss 0.") for line in told)


def test_classes_that_a_split_lacks(python: Path, tmp_path: Path) -> None:
    """Class 1 of four is not in train, class 3 not in validation."""
    some = wanted("multi-class", 4, rows=120)
    keep = {"train": some.y["train"] != 1, "validation": some.y["validation"] != 3}
    x = {split: some.x[split][keep[split]] if split in keep else some.x[split] for split in some.x}
    lacking = replace(some, x=x, y={split: some.y[split][keep[split]] for split in keep})
    found = search(ENGINE, python, tmp_path, lacking)
    assert np.all(found.scores["test"][:, 1] == 0) and np.all(found.scores["test"][:, 3] > 0)


def test_where_validation_can_rank_nothing_the_log_loss_selects(python: Path, tmp_path: Path) -> None:
    some = wanted("binary-class", 2)
    alone = replace(some, y={**some.y, "validation": np.ones_like(some.y["validation"])})
    found = search(ENGINE, python, tmp_path, alone)
    known = found.scores["validation"][:, 1]
    assert found.facts["validation_loss"] == pytest.approx(-np.log(known).mean())


def test_features_are_taken_as_they_are(python: Path, tmp_path: Path) -> None:
    some = wanted("binary-class", 2)
    x = {split: (values / 1000).astype(np.float32) for split, values in some.x.items()}
    found = search(ENGINE, python, tmp_path, replace(some, inputs="features", x=x))
    assert auc(found, some) > 0.75


@pytest.mark.slow
def test_a_killed_search_leaves_its_best_and_goes_on(python: Path, tmp_path: Path) -> None:
    some = wanted("multi-class", 3, trials=None)

    def kill(line: str) -> None:
        for child in psutil.Process().children():
            if line.startswith("trial") and ENGINE.adapter.name in " ".join(child.cmdline()):
                child.kill()

    first = search(ENGINE, python, tmp_path, some, kill)
    assert first.partial.startswith("killed by SIGKILL after") and auc(first, some) > 0.5
    log = tmp_path / STATE_NAME / "trials.jsonl"
    log.write_text(log.read_text() + '{"record_id": 9, "learner": "lgbm", "val')  # as a kill may leave it
    spent = first.facts["search_seconds"]
    second = search(ENGINE, python, tmp_path, replace(some, seconds=spent + 5))
    assert not second.partial and second.facts["trials"] > first.facts["trials"]
    assert second.facts["validation_loss"] <= first.facts["validation_loss"]
    assert spent < second.facts["search_seconds"]
    *records, _ = map(json.loads, log.read_text().splitlines())  # and which was the best
    assert second.facts["trials"] == len(records)


@pytest.mark.parametrize(("task", "classes"), [("binary-class", 2), ("multi-label", 2)])
def test_too_little_time_is_one_line(python: Path, tmp_path: Path, task: str, classes: int) -> None:
    with pytest.raises(
        TrainingError, match=r"^FLAML: a time budget of 0\.01 s is too small for one trial: give more$"
    ):
        search(ENGINE, python, tmp_path, wanted(task, classes, seconds=0.01))


def test_one_class_alone_is_one_line(python: Path, tmp_path: Path) -> None:
    some = wanted("binary-class", 2)
    alone = replace(some, y={**some.y, "train": np.ones_like(some.y["train"])})
    with pytest.raises(TrainingError, match=r"^FLAML: train has class 1 alone: a search needs two or more$"):
        search(ENGINE, python, tmp_path, alone)


@pytest.mark.slow
def test_the_budget_is_kept(python: Path, tmp_path: Path) -> None:
    some = wanted("binary-class", 2, trials=None, seconds=4.0)
    begun = time.monotonic()
    found = search(ENGINE, python, tmp_path, some)
    assert not found.partial and 3.5 < time.monotonic() - begun < 30
