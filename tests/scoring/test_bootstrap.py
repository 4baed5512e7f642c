"""Bootstrap intervals: against a plain loop and DeLong, coverage, memory and error messages."""

import math
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest

from medmnist_hf.array_types import FloatArray, IntArray
from medmnist_hf.catalog import Task
from medmnist_hf.errors import ScoreError
from medmnist_hf.scoring.bootstrap import (
    _Draws,
    bootstrap,
    bootstrap_compare,
    bootstrap_mean,
    bootstrap_mean_compare,
)
from medmnist_hf.scoring.delong import delong, delong_compare
from medmnist_hf.scoring.metrics import available, metrics
from medmnist_hf.scoring.official import ScoreWarning, score
from medmnist_hf.scoring.predictions import check
from tests.fixtures.predictions import pair

NAMES = ["auc", "acc"]


def simulated(task: Task, rows: int = 300, labels: int = 4, seed: int = 0) -> tuple[IntArray, FloatArray, FloatArray]:
    """References and two related sets of scores, of which the second is noisier."""
    rng = np.random.default_rng(seed)
    if task is Task.BINARY:
        references = (rng.random(rows) < 0.4).astype(np.intp)
        signal = references * 1.5 + rng.normal(size=rows)
    elif task is Task.MULTI_LABEL:
        references = (rng.random((rows, labels)) < 0.2).astype(np.intp)
        signal = references * 1.5 + rng.normal(size=references.shape)
    else:
        references = rng.integers(0, labels, rows)
        signal = np.eye(labels)[references] * 1.5 + rng.normal(size=(rows, labels))
    noisy = signal + rng.normal(size=signal.shape) / 2
    if task in (Task.BINARY, Task.MULTI_LABEL):
        return references, 1 / (1 + np.exp(1 - signal)), 1 / (1 + np.exp(1 - noisy))
    first, second = np.exp(signal), np.exp(noisy)
    return references, first / first.sum(axis=1, keepdims=True), second / second.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("task", list(Task))
def test_replicates_are_the_metrics_of_the_drawn_rows(task: Task) -> None:
    references, scores, _ = simulated(task, rows=80)
    names = available(task)
    found = bootstrap(check(references, scores, task), names, resamples=40, level=0.5, seed=3)
    draws = np.concatenate(list(_Draws(check(references, scores, task), list(names), 40, 3)))
    assert draws.shape == (40, 80) and (draws.sum(axis=1) == 80).all()
    loop = []
    for weights in draws:
        rows = np.repeat(np.arange(80), weights)
        loop.append(list(metrics(check(references[rows], scores[rows], task), names).values()))
    low, high = np.quantile(loop, [0.25, 0.75], axis=0)
    error = np.std(loop, axis=0, ddof=1)
    plain = metrics(check(references, scores, task), names)
    assert list(found) == list(names)
    for at, (name, interval) in enumerate(found.items()):
        assert interval.estimate == pytest.approx(plain[name], abs=1e-12), name
        assert (interval.low, interval.high) == pytest.approx((low[at], high[at]), abs=1e-12), name
        assert interval.standard_error == pytest.approx(error[at], abs=1e-12), name
        assert (interval.resamples, interval.level, interval.method) == (40, 0.5, "bootstrap")


@pytest.mark.parametrize("task", [Task.MULTI_CLASS, Task.MULTI_LABEL])
def test_resamples_without_a_class_are_used_for_means_over_rows_only(task: Task) -> None:
    rng = np.random.default_rng(1)
    scores = rng.random((40, 3))
    if task is Task.MULTI_LABEL:
        references = (rng.random((40, 3)) < 0.5).astype(int)
        references[:, 2] = np.arange(40) < 2
    else:
        scores /= scores.sum(axis=1, keepdims=True)
        references = np.arange(40) % 2
        references[[5, 8]] = 2
    predictions = check(references, scores, task)
    draws = np.concatenate(list(_Draws(predictions, ["auc"], 300, 0)))
    whole = sum(all(0 < weights[predictions.positive(label)].sum() < 40 for label in range(3)) for weights in draws)
    # Two of 40 rows are missed with probability (38/40)^40 = 0.129, by some 39 of 300 draws.
    assert 20 < 300 - whole < 80
    found = bootstrap(predictions, ["auc", "acc", "brier"], resamples=300)
    assert [interval.resamples for interval in found.values()] == [whole, 300, 300]


def test_rows_are_not_drawn_within_classes() -> None:
    references = np.repeat([0, 1, 2], [50, 7, 1])
    draws = np.concatenate(list(_Draws(check(references, np.full((58, 3), 1 / 3), Task.MULTI_CLASS), ["acc"], 50, 0)))
    assert len({tuple(np.bincount(references, weights, 3)) for weights in draws}) > 10


def test_a_value_that_no_resample_changes_has_an_unknown_interval() -> None:
    constant = check([0, 1, 0, 0, 1, 0], [0.9] * 6, Task.BINARY)
    names = ["balanced_accuracy", "macro_f1", "acc"]
    with pytest.warns(
        ScoreWarning, match="no interval, because the metric is undefined or the rows are too few: balanced_accuracy$"
    ):
        found = bootstrap(constant, names, resamples=50)
    assert found["balanced_accuracy"].estimate == 0.5 and math.isnan(found["balanced_accuracy"].low)
    assert all(found[name].low < found[name].high for name in names[1:])


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    references, scores, _ = simulated(Task.MULTI_LABEL)
    whole = bootstrap(check(references, scores, Task.MULTI_LABEL), NAMES, resamples=50)
    monkeypatch.setattr("medmnist_hf.scoring.bootstrap.BLOCK", 1)
    assert bootstrap(check(references, scores, Task.MULTI_LABEL), NAMES, resamples=50) == whole


def test_a_seed_determines_the_result() -> None:
    references, scores, _ = simulated(Task.BINARY)
    first = bootstrap(check(references, scores, Task.BINARY), NAMES, resamples=100, seed=1)
    assert first == bootstrap(check(references, scores, "binary-class"), ["auc", "acc"], resamples=100, seed=1)
    assert first["auc"] == bootstrap(check(references, scores, Task.BINARY), ["auc"], resamples=100, seed=1)["auc"]
    assert first != bootstrap(check(references, scores, Task.BINARY), NAMES, resamples=100, seed=2)
    code = (
        "from medmnist_hf.scoring.bootstrap import bootstrap; from medmnist_hf.scoring.predictions import check;"
        "rows = check([0, 1, 0, 1, 1, 0], [.1, .4, .5, .6, .9, .3], 'binary-class');"
        "print(bootstrap(rows, ['auc', 'acc'], resamples=200, seed=5))"
    )
    rows = check([0, 1, 0, 1, 1, 0], [0.1, 0.4, 0.5, 0.6, 0.9, 0.3], Task.BINARY)
    interval = bootstrap(rows, NAMES, resamples=200, seed=5)
    other_process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other_process.stdout.strip() == repr(interval)


def test_binary_auc_agrees_with_delong() -> None:
    for seed in range(3):
        references, scores, _ = simulated(Task.BINARY, rows=500, seed=seed)
        exact = delong(check(references, scores, Task.BINARY))["auc"]
        drawn = bootstrap(check(references, scores, Task.BINARY), ["auc"], resamples=2000)["auc"]
        # The standard deviation of 2,000 draws is itself known to 1.6 percent.
        assert drawn.standard_error == pytest.approx(exact.standard_error, rel=0.08)
        assert drawn.estimate == exact.estimate
        assert (drawn.low, drawn.high) == pytest.approx((exact.low, exact.high), abs=exact.standard_error / 4)


@pytest.mark.parametrize("task", [Task.MULTI_CLASS, Task.MULTI_LABEL])
def test_auc_of_several_classes_agrees_with_delong(task: Task) -> None:
    references, scores, _ = simulated(task, rows=1000)
    names = ["auc", *(f"auc:{label}" for label in range(4))]
    exact = delong(check(references, scores, task), names)
    drawn = bootstrap(check(references, scores, task), names, resamples=2000)
    for name, interval in exact.items():
        assert drawn[name].standard_error == pytest.approx(interval.standard_error, rel=0.08), name
        assert drawn[name].estimate == interval.estimate


def test_paired_difference_agrees_with_delong() -> None:
    references, first, second = simulated(Task.BINARY, rows=500, seed=4)
    exact = delong_compare(*pair(references, first, second, Task.BINARY))["auc"]
    drawn = bootstrap_compare(*pair(references, first, second, Task.BINARY), ["auc"], resamples=4000)["auc"]
    assert (drawn.first, drawn.second) == pytest.approx((exact.first, exact.second), abs=1e-12)
    assert drawn.difference.standard_error == pytest.approx(exact.difference.standard_error, rel=0.08)
    assert drawn.p == pytest.approx(exact.p, abs=0.02)
    unpaired_error = math.hypot(
        *(bootstrap(check(references, s, Task.BINARY), ["auc"])["auc"].standard_error for s in (first, second))
    )
    assert drawn.difference.standard_error < 0.8 * unpaired_error, "pairing must help on related predictions"


def test_accuracy_agrees_with_the_binomial_distribution() -> None:
    references, scores, _ = simulated(Task.MULTI_CLASS, rows=1000)
    found = bootstrap(check(references, scores, Task.MULTI_CLASS), ["acc"], resamples=2000)["acc"]
    binomial_error = math.sqrt(found.estimate * (1 - found.estimate) / 1000)
    assert found.standard_error == pytest.approx(binomial_error, rel=0.08)


def test_coverage_is_close_to_the_confidence_level() -> None:
    # Two unit normals 1.5 apart: the AUC is Phi(1.5 / sqrt(2)).
    truth = 0.5 * (1 + math.erf(1.5 / 2))
    found = []
    for seed in range(150):
        references, scores, _ = simulated(Task.BINARY, rows=120, seed=seed)
        found.append(bootstrap(check(references, scores, Task.BINARY), ["auc"], resamples=200, level=0.9)["auc"])
    covered = sum(interval.low <= truth <= interval.high for interval in found)
    # Binomial(150, 0.9) leaves this range with a probability of one in ten thousand.
    assert 120 <= covered <= 148


@pytest.mark.parametrize("task", list(Task))
def test_the_same_predictions_do_not_differ(task: Task) -> None:
    references, scores, _ = simulated(task)
    for found in bootstrap_compare(*pair(references, scores, scores, task), NAMES, resamples=50).values():
        assert (found.difference.estimate, found.difference.low, found.difference.high, found.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("task", list(Task))
def test_swapping_the_predictions_only_flips_the_sign(task: Task) -> None:
    references, first, second = simulated(task)
    forward = bootstrap_compare(*pair(references, first, second, task), NAMES, resamples=101)
    backward = bootstrap_compare(*pair(references, second, first, task), NAMES, resamples=101)
    for name, found in forward.items():
        other = backward[name]
        assert (found.first, found.second, found.p) == (other.second, other.first, other.p)
        assert (found.difference.low, found.difference.high) == pytest.approx(
            (-other.difference.high, -other.difference.low), abs=1e-12
        )
        assert found.first == pytest.approx(getattr(score(check(references, first, task)), name), abs=1e-12)


def test_a_clear_difference_has_the_smallest_p() -> None:
    references, scores, _ = simulated(Task.MULTI_CLASS)
    both = pair(references, scores, np.full_like(scores, 0.25), Task.MULTI_CLASS)
    found = bootstrap_compare(*both, ["auc"], resamples=199)["auc"]
    assert found.p == 2 / 200 and found.difference.low > 0


def test_p_values_are_uniform_under_the_null() -> None:
    found = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        references = np.arange(80) % 2
        shared = references + rng.normal(size=80)
        first, second = (shared + rng.normal(size=80) for _ in range(2))
        both = pair(references, first, second, Task.BINARY, from_logits=False)
        found.append(bootstrap_compare(*both, ["auc"], resamples=99)["auc"].p)
    # The number below 0.2 is Binomial(150, 0.2); it leaves the bounds with a probability of 1 in 10,000 per side.
    assert 12 <= sum(p < 0.2 for p in found) <= 50


def test_absent_classes_stay_excluded() -> None:
    references, scores, _ = simulated(Task.MULTI_CLASS)
    references = np.where(references == 3, 0, references)
    with pytest.warns(ScoreWarning, match="auc:3"):
        found = bootstrap(check(references, scores, Task.MULTI_CLASS), ["auc", "auc:3"], resamples=30)
    assert found["auc"].estimate == score(check(references, scores, Task.MULTI_CLASS)).auc
    assert 0 < found["auc"].low < found["auc"].high < 1
    assert math.isnan(found["auc:3"].low) and found["auc:3"].resamples == 0


def test_undefined_replicates_are_not_counted() -> None:
    # Class 2 is never true and predicted once, so a third of the resamples have no F1 for it.
    scores = np.eye(3)[[0, 1, 0, 1, 0, 2]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScoreWarning)
        found = bootstrap(check([0, 1, 0, 1, 0, 1], scores, Task.MULTI_CLASS), ["f1:2"], resamples=200)["f1:2"]
    assert 100 < found.resamples < 200 and math.isnan(found.low)


def test_memory_is_bounded_by_the_block() -> None:
    references, scores, _ = simulated(Task.MULTI_LABEL, rows=20_000)
    tracemalloc.start()
    bootstrap(check(references, scores, Task.MULTI_LABEL), NAMES, resamples=300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6, "300 resamples at once would need 60 MB"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"resamples": 1}, "resamples=1: pass 2 or more"),
        ({"level": 95}, "level=95: pass a confidence level between 0 and 1"),
        ({"level": float("nan")}, "level=nan: pass a confidence level"),
        ({"seed": -1}, "seed=-1: pass 0 or a positive whole number"),
        ({"names": ["auk"]}, "unknown measure 'auk' for the binary-class task"),
    ],
)
def test_each_invalid_option_gives_a_one_line_error(options: dict[str, object], line: str) -> None:
    call: dict[str, object] = {"names": NAMES, "predictions": check([0, 1, 1, 0], [0.1, 0.2, 0.3, 0.4], Task.BINARY)}
    with pytest.raises(ScoreError) as caught:
        bootstrap(**(call | options))  # type: ignore[arg-type]
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_metrics_of_a_class_too_rare_to_resample_are_unknown() -> None:
    # Twelve labels of one row each: only one in some 300,000 resamples keeps them all.
    references = np.eye(12, dtype=int)
    scores = np.random.default_rng(0).random((12, 12))
    with pytest.warns(ScoreWarning, match="no interval, because the metric is undefined or the rows are too few: f1$"):
        found = bootstrap(check(references, scores, Task.MULTI_LABEL), ["f1", "acc"], resamples=100)
    assert math.isnan(found["f1"].low) and found["f1"].resamples == 0
    assert found["acc"].low < found["acc"].estimate < found["acc"].high


def test_one_row_has_no_interval() -> None:
    with pytest.warns(ScoreWarning, match="no interval, .*: acc"):
        found = bootstrap(check([1], [0.1], Task.BINARY), ["acc"], resamples=10)["acc"]
    assert math.isnan(found.low)


def test_bootstrap_after_metrics_reuses_the_rankings(monkeypatch: pytest.MonkeyPatch) -> None:
    references, scores, _ = simulated(Task.MULTI_CLASS)
    predictions, names = check(references, scores, Task.MULTI_CLASS), available(Task.MULTI_CLASS)
    fresh = bootstrap(check(references, scores, Task.MULTI_CLASS), names, resamples=20)
    metrics(predictions, names)
    monkeypatch.setattr("medmnist_hf.scoring.auc.Ranking.of", None)
    assert bootstrap(predictions, names, resamples=20) == fresh


def test_the_mean_over_subsets_is_resampled_within_each_subset() -> None:
    parts = {str(task): check(*simulated(task, rows=200, seed=at)[:2], task) for at, task in enumerate(Task)}
    alone = {task: bootstrap(part, NAMES)["auc"] for task, part in parts.items()}
    mean = bootstrap_mean({task: [part] for task, part in parts.items()})["auc"]
    assert mean.estimate == pytest.approx(np.mean([each.estimate for each in alone.values()]))
    independent = math.hypot(*(each.standard_error for each in alone.values())) / len(alone)
    assert mean.standard_error == pytest.approx(independent, rel=0.15), "subsets are drawn independently"
    one = bootstrap_mean({"a": [parts[Task.BINARY]] * 2})["auc"]
    assert one.standard_error == pytest.approx(alone[Task.BINARY].standard_error, rel=0.15), "seeds share their draws"


def test_means_over_subsets_are_compared_on_the_same_draws() -> None:
    first, second = {}, {}
    for task in Task:
        references, scores, noisy = simulated(task, rows=200)
        first[str(task)], second[str(task)] = ([check(references, each, task)] for each in (scores, noisy))
    found = bootstrap_mean_compare(first, second)["auc"]
    spread = [bootstrap_mean(each)["auc"].standard_error for each in (first, second)]
    assert found.difference.standard_error < math.hypot(*spread) and 0 < found.p < 1
    same = bootstrap_mean_compare(first, first)["auc"]
    assert (same.difference.low, same.difference.high, same.p) == (0, 0, 1)
    with pytest.raises(ScoreError, match=r"the subsets differ: .*; compare the same ones"):
        bootstrap_mean_compare(first, {str(Task.BINARY): second[str(Task.BINARY)]})
    with pytest.raises(ScoreError, match="no predictions to average"):
        bootstrap_mean({})
