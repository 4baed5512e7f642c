"""`medmnist_hf.training.scoring`: measures of a seed equal the official metric, and a run averages its seeds."""

import math

import numpy as np
import pytest

from medmnist_hf.leaderboard.board import leaderboard
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.intervals import intervals
from medmnist_hf.scoring.official import ScoreWarning, score
from medmnist_hf.scoring.predictions import Predictions
from medmnist_hf.training.recipe import Recipe, make_recipe
from medmnist_hf.training.results import Facts, Hardware, Measures, Rank, SeedResult, Spread
from medmnist_hf.training.scoring import check_scores, hardware, releases, score_seed, summarize
from medmnist_hf.training.standing import own_mean
from tests.fixtures.benchmarks import data_of

RNG = np.random.default_rng(0)


def scored(recipe: Recipe, rows: int = 60) -> dict[str, Predictions]:
    """Predictions for validation and test that contain every class."""
    count, predictions = len(recipe.subset.labels), {}
    for split in ("validation", "test"):
        labels = np.arange(rows) % count
        if recipe.dataset == "chestmnist":
            labels = (np.arange(rows * count).reshape(rows, count) % 3 == 0).astype(np.float32)
        predictions[split] = check_scores(recipe, labels, RNG.dirichlet(np.ones(count), rows))
    return predictions


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "chestmnist", "organmnist3d"])
def test_a_seed_is_scored_by_the_metric(flag: str) -> None:
    recipe = make_recipe({"dataset": flag})
    parts = scored(recipe)
    result = score_seed(recipe, 3, parts, facts={"epochs": 2}, data=data_of(recipe))
    exact = score(parts["test"])
    assert (result.test.auc, result.test.acc) == (exact.auc, exact.acc)
    spans = intervals(parts["test"], ["auc", "acc"])
    assert (result.test["auc_low"], result.test["acc_high"]) == (spans["auc"].low, spans["acc"].high)
    assert result.intervals == {"auc": "DeLong", "acc": "Wilson"}
    assert result.validation.auc == score(parts["validation"]).auc
    assert tuple(result.per_class) == recipe.subset.labels, "including class 0 of the binary task"
    assert np.mean([measures["auc"] for measures in result.per_class.values()]) == pytest.approx(exact.auc)
    assert result.facts.to_json_value() == {"epochs": 2, "hardware": hardware(), "releases": releases()}


def test_too_few_rows_for_an_interval_make_only_that_interval_nan() -> None:
    recipe = make_recipe({"dataset": "retinamnist"})
    parts = scored(recipe) | {"test": scored(recipe, rows=5)["test"]}
    with pytest.warns(ScoreWarning, match="no interval, because the metric is undefined or the rows are too few: auc"):
        result = score_seed(recipe, 0, parts, facts={}, data=data_of(recipe))
    assert np.isfinite(result.test.auc) and np.isnan(result.test["auc_low"])
    assert result.test["acc_low"] < result.test.acc < result.test["acc_high"]
    means = summarize(recipe, [result, result]).test
    assert means.auc.mean == result.test.auc and np.isnan(means["auc_low"].mean)


def test_a_run_is_the_mean_of_its_seeds() -> None:
    recipe = make_recipe({"dataset": "breastmnist", "seeds": (0, 1)})

    data = data_of(recipe)

    def seed(number: int, auc: float) -> SeedResult:
        test = {"auc": auc, "acc": 0.8, "auc_low": auc - 0.1, "auc_high": auc + 0.1, "acc_low": 0.7, "acc_high": 0.9}
        return SeedResult(number, Measures(auc=auc, acc=0.5), Measures(test), {}, Facts(), data)

    result = summarize(recipe, [seed(0, 0.80), seed(1, 0.90)])
    assert (result.test.auc.mean, result.test.auc.std) == pytest.approx((0.85, 0.1 / 2**0.5))
    assert result.test.acc == Spread(0.8, 0.0)
    own = own_mean("mine", result)
    assert own.auc_error == pytest.approx(math.hypot(0.1 / 1.959964, 0.1 / 2**0.5 / 2**0.5))
    board = leaderboard("breastmnist", "official", [own])
    (line,) = (line for line in board.ranked if line.result is None)
    assert result.rank == Rank(line.auc_rank or 0, line.acc_rank or 0, 8, "official") == Rank(1, 1, 8, "official")
    assert summarize(recipe, [seed(0, 0.8)]).test.auc == Spread(0.8, None), "one seed has no standard deviation"
    assert result.releases["torch"] and (result.hardware.cores or 0) >= 1


def test_hardware_and_releases_are_those_that_a_seed_ran_on() -> None:
    """Repeating the command on another machine, e.g. to push a finished run, does not change the results."""
    recipe, machine = make_recipe({"dataset": "breastmnist"}), Hardware("none such", 3, ("T",))
    facts = Facts.from_json_value({"hardware": machine, "releases": {"torch": "9"}})
    seed = SeedResult(0, Measures(auc=0.5, acc=0.5), Measures(), {}, facts, data_of(recipe))
    result = summarize(recipe, [seed])
    assert (result.hardware, result.releases) == (machine, {"torch": "9"})


def ranked(recipe: Recipe, provenance: Provenance = Provenance.VERIFIED, **facts: str) -> Rank | None:
    """The rank of a run of one seed."""
    scores, report = Measures(auc=0.99, acc=0.99), Facts.from_json_value(facts)
    seed = SeedResult(0, scores, scores if recipe.test else Measures(), {}, report, data_of(recipe, provenance))
    return summarize(recipe, [seed]).rank


def test_without_published_results_there_is_no_rank(unpublished: str) -> None:
    assert ranked(make_recipe({"dataset": unpublished})) is None


@pytest.mark.parametrize("provenance", Provenance)
def test_only_scores_on_verified_data_have_a_rank(provenance: Provenance) -> None:
    expected = Rank(1, 1, 8, "official") if provenance is Provenance.VERIFIED else None
    assert ranked(make_recipe({"dataset": "breastmnist"}), provenance) == expected


def test_a_run_on_few_labels_has_no_rank() -> None:
    assert ranked(make_recipe({"dataset": "pneumoniamnist", "fraction": 1.0})) is not None
    for few in ({"fraction": 0.5}, {"shots": 100}):
        assert ranked(make_recipe({"dataset": "pneumoniamnist", **few})) is None


def test_only_a_complete_run_with_test_scores_has_a_rank() -> None:
    assert ranked(make_recipe({"dataset": "breastmnist"}), partial="stopped after 3 s") is None
    assert ranked(make_recipe({"dataset": "breastmnist", "seeds": (0, 1)})) is None
    assert ranked(make_recipe({"dataset": "breastmnist", "test": False})) is None


def test_seeds_on_different_data_are_refused() -> None:
    recipe = make_recipe({"dataset": "breastmnist", "seeds": (0, 1)})
    scores = Measures(auc=0.9, acc=0.9)
    with pytest.raises(ValueError, match="seeds were run on different data"):
        summarize(
            recipe,
            [
                SeedResult(seed, scores, scores, {}, Facts(), data_of(recipe, provenance))
                for seed, provenance in enumerate((Provenance.VERIFIED, Provenance.SYNTHETIC))
            ],
        )
