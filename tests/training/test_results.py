"""`medmnist_hf.training.results`: what a seed scored equals the metric, and means are those of the seeds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.scoring.bootstrap import bootstrap
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.published import published_results
from medmnist_hf.training.recipe import make_recipe
from medmnist_hf.training.results import (
    OUTCOME_NAME,
    Outcome,
    check_whole,
    hardware,
    outcome_of,
    read_outcome,
    releases,
    summary,
    to_json,
    write_outcome,
)

RNG = np.random.default_rng(0)


def scored(flag: str, rows: int = 60) -> dict[str, tuple[Any, Any]]:
    """Labels and scores of both splits, with every class in each."""
    labels = len(make_recipe({"dataset": flag}).subset.labels)
    found = {}
    for split in ("validation", "test"):
        scores = RNG.dirichlet(np.ones(labels), rows)
        if flag == "chestmnist":
            found[split] = (np.arange(rows * labels).reshape(rows, labels) % 3 == 0).astype(np.float32), scores
        else:
            found[split] = np.arange(rows) % labels, scores
    return found


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "chestmnist", "organmnist3d"])
def test_a_seed_is_scored_by_the_metric(flag: str) -> None:
    recipe, parts = make_recipe({"dataset": flag}), scored(flag)
    found = outcome_of(recipe, 3, parts, facts={"epochs": 2})
    labels, scores = parts["test"]
    exact = score(labels, scores, recipe.subset.task, from_logits=False)
    assert (found.test["auc"], found.test["acc"]) == (exact.auc, exact.acc)
    spans = bootstrap(labels, scores, recipe.subset.task, ["auc", "acc"], from_logits=False)
    assert (found.test["auc_low"], found.test["acc_high"]) == (spans["auc"].low, spans["acc"].high)
    assert found.validation["auc"] == score(*parts["validation"], recipe.subset.task, from_logits=False).auc
    names = recipe.subset.labels[1:] if flag == "breastmnist" else recipe.subset.labels
    assert tuple(found.per_class) == tuple(names)
    assert np.mean([one["auc"] for one in found.per_class.values()]) == pytest.approx(exact.auc)
    assert found.facts == {"epochs": 2, "hardware": hardware(), "releases": releases()}


def test_rows_that_cannot_be_resampled_cost_the_intervals_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, parts = make_recipe({"dataset": "retinamnist"}), scored("retinamnist")
    parts["test"] = np.arange(5), parts["test"][1][:5]
    found = outcome_of(recipe, 0, parts, facts={})
    assert np.isfinite(found.test["auc"]) and np.isnan(found.test["auc_low"]) and np.isnan(found.test["acc_high"])
    assert "no intervals: 5 row(s) of as many classes" in caplog.text
    write_outcome(tmp_path, found)
    kept = read_outcome(tmp_path)
    assert kept is not None and kept.test["auc_low"] is None
    told = summary(recipe, [kept, kept])["test"]
    assert told["auc"]["mean"] == found.test["auc"] and np.isnan(told["auc_low"]["mean"])


def test_an_outcome_reads_back_and_a_damaged_one_is_one_line(tmp_path: Path) -> None:
    found = outcome_of(make_recipe({"dataset": "breastmnist"}), 0, scored("breastmnist"), facts={})
    assert read_outcome(tmp_path) is None
    write_outcome(tmp_path, found)
    assert read_outcome(tmp_path) == found
    for text in ("{", '{"seed": 1}', "[]", '{"other": 1}'):
        (tmp_path / OUTCOME_NAME).write_text(text)
        with pytest.raises(TrainingError, match="is damaged") as caught:
            read_outcome(tmp_path)
        assert "\n" not in str(caught.value)


def test_numbers_that_do_not_exist_are_null() -> None:
    assert json.loads(to_json({"a": [float("nan"), 1.5], "b": (float("inf"),)})) == {"a": [None, 1.5], "b": [None]}


def test_a_run_is_the_mean_of_its_seeds() -> None:
    recipe = make_recipe({"dataset": "breastmnist", "seeds": (0, 1)})

    def seed(number: int, auc: float) -> Outcome:
        test = {"auc": auc, "acc": 0.8, "auc_low": auc - 0.1, "auc_high": auc + 0.1, "acc_low": 0.7, "acc_high": 0.9}
        return Outcome(number, {"auc": auc, "acc": 0.5}, test, {}, {})

    found = summary(recipe, [seed(0, 0.80), seed(1, 0.90)])
    assert found["test"]["auc"] == {"mean": pytest.approx(0.85), "std": pytest.approx(0.1 / 2**0.5)}
    assert found["test"]["acc"] == {"mean": 0.8, "std": 0.0}
    better = sum(row.auc > 0.85 for row in published_results("breastmnist"))
    assert found["rank"]["auc"] == better + 1
    assert summary(recipe, [seed(0, 0.8)])["test"]["auc"]["std"] == 0.0
    assert found["releases"]["torch"] and found["hardware"]["cores"] >= 1


def test_hardware_and_releases_are_those_that_a_seed_ran_on() -> None:
    """The same command on another machine, to push what is done, does not change what the results say."""
    recipe, facts = make_recipe({"dataset": "breastmnist"}), {"hardware": {"gpus": ["T"]}, "releases": {"torch": "9"}}
    found = summary(recipe, [Outcome(0, {"auc": 0.5, "acc": 0.5}, {}, {}, facts)])
    assert {name: found[name] for name in facts} == facts


def test_a_seed_that_was_broken_off_is_told_in_one_line() -> None:
    recipe = make_recipe(
        {"dataset": "breastmnist", "model": "pixels", "method": "flaml", "seeds": (0, 1), "test": False}
    )
    whole, broken = (Outcome(seed, {"auc": 0.5, "acc": 0.5}, {}, {}, {}) for seed in (0, 1))
    assert whole.partial == ""
    check_whole(summary(recipe, [whole]))
    broken.facts["partial"] = "killed by SIGKILL after 34 s"
    assert broken.partial == "killed by SIGKILL after 34 s"
    with pytest.raises(TrainingError) as caught:
        check_whole(summary(recipe, [whole, broken]))
    assert str(caught.value) == (
        "results are partial (seed 1 killed by SIGKILL after 34 s): run the same command again to go on"
    )
