"""`medmnist_hf.scoring.intervals`: the method of every metric, widths, and worked examples."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel

from medmnist_hf.catalog import Task
from medmnist_hf.errors import ScoreError
from medmnist_hf.scoring.bootstrap import bootstrap, bootstrap_compare
from medmnist_hf.scoring.delong import delong, delong_compare
from medmnist_hf.scoring.intervals import compare, intervals, row_values
from medmnist_hf.scoring.metrics import CLASSWISE, available, metrics
from medmnist_hf.scoring.official import ScoreWarning
from medmnist_hf.scoring.predictions import Predictions, check
from tests.fixtures.predictions import pair

WILSON = {"acc", "brier", "mae"}
RNG_ROWS = 120


def random_predictions(task: Task, classes: int = 3, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    if task is Task.MULTI_LABEL:
        return check(rng.random((RNG_ROWS, classes)) < 0.3, rng.random((RNG_ROWS, classes)), task)
    labels = rng.integers(0, 2 if task is Task.BINARY else classes, RNG_ROWS)
    scores = rng.random(RNG_ROWS) if task is Task.BINARY else rng.dirichlet(np.ones(classes), RNG_ROWS)
    return check(labels, scores, task)


@pytest.mark.parametrize("task", list(Task))
def test_every_metric_has_its_method_and_a_width(task: Task) -> None:
    predictions = random_predictions(task)
    names = [*available(task), *(f"{name}:*" for name in CLASSWISE)]
    found = intervals(predictions, names, resamples=100)
    values = metrics(predictions, names)
    assert list(found) == list(values)
    for name, interval in found.items():
        base, _, label = name.partition(":")
        shares = base in {"sensitivity", "specificity"} and (label or task is Task.BINARY)
        expected = "DeLong" if base == "auc" else "Wilson" if base in WILSON or shares else "bootstrap"
        assert (interval.method, interval.level) == (expected, 0.95), name
        assert interval.estimate == values[name] and interval.low < interval.estimate < interval.high, name
        assert interval.resamples == (100 if expected == "bootstrap" else 0)
    rest = [name for name in found if found[name].method == "bootstrap"]
    assert {name: found[name] for name in rest} == bootstrap(predictions, rest, resamples=100)
    assert found["auc"] == delong(predictions)["auc"]


def test_a_constant_prediction_has_an_uncertain_accuracy() -> None:
    """181 of 400 rows have grade 0, similar to RetinaMNIST (174): the accuracy of predicting 0 depends on the rows."""
    grades = np.repeat(np.arange(5), [181, 60, 60, 60, 39])
    constant = check(grades, np.eye(5)[np.zeros(400, int)], Task.ORDINAL)
    with pytest.warns(ScoreWarning, match="no interval, .*: balanced_accuracy"):
        found = intervals(constant, ["acc", "auc", "mae", "brier", "balanced_accuracy", "sensitivity:0"])
    acc = found["acc"]
    assert f"{acc.estimate:.4f} [{acc.low:.3f}, {acc.high:.3f}] {acc.method}" == "0.4525 [0.404, 0.501] Wilson"
    widths = {name: interval.high - interval.low for name, interval in found.items()}
    assert math.isnan(widths.pop("balanced_accuracy"))
    assert min(widths.values()) > 0.01, "no interval of a constant prediction has width 0"


@pytest.mark.parametrize("task", list(Task))
def test_intervals_of_perfect_predictions_have_a_width(task: Task) -> None:
    labels = np.arange(60) % (2 if task is Task.BINARY else 3)
    truth = np.eye(3)[labels] if task is Task.MULTI_LABEL else labels
    scores = labels.astype(float) if task is Task.BINARY else np.eye(3)[labels]
    found = intervals(check(truth, scores, task), ["auc", "acc", "brier", "sensitivity:1"])
    for name, interval in found.items():
        assert interval.high - interval.low > 0.01, name
    acc = found["acc"]
    exact = binomtest(60, 60).proportion_ci(0.95, method="wilson")
    assert (acc.low, acc.high) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_a_mean_over_rows_has_the_interval_of_its_variance() -> None:
    predictions = random_predictions(Task.MULTI_LABEL)
    for name, values in (("acc", predictions.agreed / 3), ("brier", predictions.squared)):
        found = intervals(predictions, [name])[name]
        assert found.estimate == pytest.approx(values.mean())
        assert found.standard_error == pytest.approx(values.std() / math.sqrt(RNG_ROWS))
        assert (found.high - found.low) / 2 == pytest.approx(1.96 * found.standard_error, rel=0.03)
        plain = bootstrap(predictions, [name], resamples=4000)[name]
        assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.006)


def test_a_sensitivity_is_a_share_of_the_rows_of_its_class() -> None:
    labels, scores = [1, 1, 1, 0, 0], [0.9, 0.8, 0.1, 0.7, 0.2]
    found = intervals(check(labels, scores, Task.BINARY), ["sensitivity", "specificity", "sensitivity:1"])
    for name, right, rows in (("sensitivity", 2, 3), ("specificity", 1, 2), ("sensitivity:1", 2, 3)):
        exact = binomtest(right, rows).proportion_ci(0.95, method="wilson")
        assert (found[name].low, found[name].high) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_a_class_without_rows_has_no_interval() -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(3), 30)
    with pytest.warns(ScoreWarning, match="no interval, .*: auc:2$"):
        found = intervals(check(np.arange(30) % 2, scores, Task.MULTI_CLASS), ["auc", "auc:2"])
    assert math.isnan(found["auc:2"].low) and found["auc"].low < found["auc"].estimate


def test_comparisons_use_the_method_of_each_metric() -> None:
    first, second = (random_predictions(Task.ORDINAL, 4, seed).columns.T for seed in (0, 1))
    both = pair(random_predictions(Task.ORDINAL, 4).truth, first, second, Task.ORDINAL)
    found = compare(*both, ["acc", "auc", "f1", "auc:2"], resamples=60, seed=2)
    assert list(found) == ["acc", "auc", "f1", "auc:2"]
    assert {name: found[name] for name in ("auc", "auc:2")} == delong_compare(*both, ["auc", "auc:2"])
    assert {"f1": found["f1"]} == bootstrap_compare(*both, ["f1"], resamples=60, seed=2)
    assert found["acc"].difference.method == "Student"


@pytest.mark.parametrize("name", ["acc", "mae", "brier", "sensitivity:2", "specificity:0"])
def test_means_over_rows_are_compared_as_scipy_compares_paired_rows(name: str) -> None:
    first, second = (random_predictions(Task.ORDINAL, 4, seed).columns.T for seed in (0, 1))
    one, other = pair(random_predictions(Task.ORDINAL, 4).truth, first, second, Task.ORDINAL)
    values = [values[0].astype(float) for each in (one, other) if (values := row_values(each, name)) is not None]
    expected = ttest_rel(*values)
    low, high = expected.confidence_interval(0.9)
    found = compare(one, other, [name], level=0.9)[name]
    assert found.first - found.second == found.difference.estimate == pytest.approx(np.mean(values[0] - values[1]))
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high))
    assert found.p == pytest.approx(expected.pvalue, abs=1e-6)


def test_differences_by_rounding_only_count_as_0() -> None:
    """Shuffling the scores of the other classes changes the Brier score only by the order of a sum."""
    rng = np.random.default_rng(0)
    truth, scores = np.arange(60) % 9, rng.dirichlet(np.ones(9), 60)
    shuffled = scores.copy()
    for row, label in enumerate(truth):
        rest = np.flatnonzero(np.arange(9) != label)
        shuffled[row, rest] = rng.permutation(scores[row, rest])
    found = compare(*pair(truth, scores, shuffled, Task.MULTI_CLASS), ["brier"])["brier"]
    assert found.p == 1 and abs(found.difference.estimate) < 1e-15 and found.difference.standard_error == 0


def test_a_difference_is_unknown_from_one_row_and_0_for_equal_rows() -> None:
    one, other = pair([0, 1, 0], [0.1, 0.9, 0.2], [0.1, 0.8, 0.6], Task.BINARY)
    with pytest.warns(ScoreWarning, match="no interval, .*: sensitivity$"):
        found = compare(one, other, ["sensitivity", "acc"])
    assert math.isnan(found["sensitivity"].p) and found["acc"].difference.low < 0 < found["acc"].difference.high
    same = compare(one, one, ["acc"])["acc"]
    assert (same.difference.low, same.difference.high, same.p) == (0, 0, 1)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"resamples": 1}, "resamples=1: pass 2 or more"),
        ({"level": 95}, "level=95: pass a confidence level between 0 and 1"),
        ({"seed": -1}, "seed=-1: pass 0 or a positive whole number"),
    ],
)
def test_options_are_checked_whatever_the_method(options: dict[str, float], line: str) -> None:
    predictions = random_predictions(Task.BINARY)
    with pytest.raises(ScoreError, match=line):
        intervals(predictions, **options)  # type: ignore[arg-type]
    with pytest.raises(ScoreError, match=line):
        compare(predictions, predictions, **options)  # type: ignore[arg-type]


def test_both_classes_of_the_binary_task_have_intervals() -> None:
    """The sensitivity of class 0 is the specificity of class 1, so their intervals are equal."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 60)
    found = intervals(
        check(truth, np.clip(0.3 * truth + 0.7 * rng.random(60), 0, 1), "binary-class"),
        ["auc", "auc:0", "auc:1", "sensitivity:0", "specificity:0", "sensitivity:1", "specificity:1"],
    )
    assert found["auc"] == found["auc:0"] == found["auc:1"]
    assert found["sensitivity:0"] == found["specificity:1"] != found["sensitivity:1"] == found["specificity:0"]
