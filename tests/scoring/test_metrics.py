"""Further metrics against scikit-learn, or against their formulas where it has none."""

import math
import warnings
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from medmnist_hf.array_types import FloatArray, IntArray
from medmnist_hf.catalog import Task
from medmnist_hf.errors import ScoreError
from medmnist_hf.scoring.bootstrap import bootstrap
from medmnist_hf.scoring.metrics import (
    Weighted,
    available,
    confusion_matrix,
    evaluate,
    expand,
    metrics,
)
from medmnist_hf.scoring.official import ScoreWarning, score
from medmnist_hf.scoring.predictions import ECE_BINS, check

Case = tuple[Task, IntArray, FloatArray]
SINGLE = (Task.MULTI_CLASS, Task.ORDINAL)


@st.composite
def cases(draw: st.DrawFn, tasks: tuple[Task, ...]) -> Case:
    task = draw(st.sampled_from(tasks))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows, labels = draw(st.integers(2, 40)), draw(st.integers(2, 6))
    if task is Task.BINARY:
        scores = rng.random(rows) if draw(st.booleans()) else rng.integers(0, 5, rows) / 4
        return task, rng.integers(0, 2, rows), scores
    scores = rng.random((rows, labels)) if draw(st.booleans()) else rng.integers(1, 4, (rows, labels)) / 4
    if task is Task.MULTI_LABEL:
        return task, (rng.random((rows, labels)) < draw(st.sampled_from([0.05, 0.4]))).astype(np.intp), scores
    return task, rng.integers(0, draw(st.integers(1, labels)), rows), scores / scores.sum(axis=1, keepdims=True)


def computed(case: Case, *names: str) -> dict[str, float]:
    task, references, scores = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScoreWarning)
        return metrics(check(references, scores, task), names)


@pytest.fixture(autouse=True)
def _quiet_oracle() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="sklearn")
        yield


def near(value: float) -> object:
    return pytest.approx(value, abs=1e-12, nan_ok=True)


def mean_defined(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def columns(case: Case) -> list[tuple[FloatArray, FloatArray, FloatArray]]:
    """Truth, decision and score of each score column as expected by scikit-learn's binary functions."""
    task, references, scores = case
    if task is Task.BINARY:
        return [(references.astype(float), (scores > 0.5).astype(float), scores)]
    if task is Task.MULTI_LABEL:
        hot, flagged = references.astype(np.float64), (scores > 0.5).astype(np.float64)
        return [(hot[:, k], flagged[:, k], scores[:, k]) for k in range(scores.shape[1])]
    chosen = scores.argmax(axis=1)
    return [
        ((references == k).astype(float), (chosen == k).astype(float), scores[:, k]) for k in range(scores.shape[1])
    ]


@pytest.mark.parametrize("task", [Task.MULTI_LABEL, Task.MULTI_CLASS])
def test_auc_and_acc_equal_the_official_score_to_the_last_digit(task: Task) -> None:
    """A sum of eight or more numbers depends on its order, so both must use the same mean."""
    rng = np.random.default_rng(0)
    for classes in range(2, 15):
        scores = rng.dirichlet(np.ones(classes), 60)
        labels = rng.permutation(np.arange(60) % classes)
        predictions = check(labels if task is Task.MULTI_CLASS else np.eye(classes)[labels], scores, task)
        exact = score(predictions)
        assert metrics(predictions, ["auc", "acc"]) == {"auc": exact.auc, "acc": exact.acc}
        assert bootstrap(predictions, ["auc"], resamples=2)["auc"].estimate == exact.auc


@settings(max_examples=80, deadline=None)
@given(cases(tuple(Task)))
def test_per_class_metrics_match_scikit_learn(case: Case) -> None:
    expected: dict[str, list[float]] = {
        name: [] for name in ("auc", "average_precision", "sensitivity", "specificity", "f1")
    }
    sides = columns(case)
    if case[0] is Task.BINARY:
        sides.insert(0, (1 - sides[0][0], 1 - sides[0][1], -sides[0][2]))  # class 0, which has no column
    for truth, chosen, scores in sides:
        both, some = 0 < truth.sum() < truth.size, truth.sum() > 0
        expected["auc"].append(sk.roc_auc_score(truth, scores) if both else math.nan)
        expected["average_precision"].append(sk.average_precision_score(truth, scores) if some else math.nan)
        expected["sensitivity"].append(sk.recall_score(truth, chosen, zero_division=np.nan))
        expected["specificity"].append(sk.recall_score(truth, chosen, pos_label=0, zero_division=np.nan))
        expected["f1"].append(sk.f1_score(truth, chosen, zero_division=np.nan))
    found = computed(case, *expected, *(f"{name}:*" for name in expected))
    for name, values in expected.items():
        assert found[name] == near(values[1] if case[0] is Task.BINARY else mean_defined(values)), name
        assert [found[f"{name}:{label}"] for label in range(len(sides))] == [near(value) for value in values], name


@settings(max_examples=150, deadline=None)
@given(cases(tuple(Task)))
def test_single_value_metrics_match_scikit_learn(case: Case) -> None:
    task, references, scores = case
    found = computed(case, "acc", "auc", "balanced_accuracy", "macro_f1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScoreWarning)
        official = score(check(references, scores, task))
    assert (found["auc"], found["acc"]) == (near(official.auc), near(official.acc))
    if task is Task.MULTI_LABEL:
        halves = [
            sk.recall_score(truth, chosen, zero_division=np.nan) / 2
            + sk.recall_score(truth, chosen, pos_label=0, zero_division=np.nan) / 2
            for truth, chosen, _ in columns(case)
        ]
        assert found["balanced_accuracy"] == near(mean_defined(halves))
        return
    chosen = (scores > 0.5).astype(int) if task is Task.BINARY else scores.argmax(axis=1)
    assert found["balanced_accuracy"] == near(sk.balanced_accuracy_score(references, chosen))
    assert found["macro_f1"] == near(sk.f1_score(references, chosen, average="macro"))


@settings(max_examples=100, deadline=None)
@given(cases((Task.ORDINAL,)))
def test_ordinal_metrics_match_scikit_learn(case: Case) -> None:
    found = computed(case, "quadratic_kappa", "mae")
    chosen, ids = case[2].argmax(axis=1), range(case[2].shape[1])
    kappa = sk.cohen_kappa_score(case[1], chosen, labels=list(ids), weights="quadratic")
    constant = np.all(case[1] == case[1][0]) and np.all(chosen == case[1][0])
    assert found["quadratic_kappa"] == near(math.nan if constant else kappa)
    assert found["mae"] == near(sk.mean_absolute_error(case[1], chosen))


@settings(max_examples=100, deadline=None)
@given(cases(tuple(Task)))
def test_brier_matches_scikit_learn(case: Case) -> None:
    task, references, scores = case
    found = computed(case, "brier")["brier"]
    if task in SINGLE:
        labels = list(range(scores.shape[1]))
        assert found == near(sk.brier_score_loss(references, scores, labels=labels, scale_by_half=False))
    else:
        each = [np.mean((truth - column) ** 2) for truth, _, column in columns(case)]
        assert found == near(float(np.mean(each)))
        if task is Task.BINARY:
            assert found == near(sk.brier_score_loss(references, scores, labels=[0, 1]))


@settings(max_examples=100, deadline=None)
@given(cases(tuple(Task)))
def test_ece_matches_its_formula(case: Case) -> None:
    task, references, scores = case
    if task in SINGLE:
        pairs = [[(bool(k == p.argmax()), float(p.max())) for k, p in zip(references, scores, strict=True)]]
    else:
        pairs = [list(zip(truth.astype(bool), column.tolist(), strict=True)) for truth, _, column in columns(case)]
    errors = []
    for label in pairs:
        bins: dict[int, list[tuple[bool, float]]] = {}
        for hit, confidence in label:
            place = next(b for b in range(ECE_BINS) if b == ECE_BINS - 1 or confidence <= (b + 1) / ECE_BINS)
            bins.setdefault(place, []).append((hit, confidence))
        gaps = [abs(sum(hit - confidence for hit, confidence in rows)) for rows in bins.values()]
        errors.append(sum(gaps) / len(label))
    assert computed(case, "ece")["ece"] == near(sum(errors) / len(errors))


def test_edges_of_calibration_bins_are_closed_on_the_right() -> None:
    scores = [1 / 15, np.nextafter(1 / 15, 1), 0.0, 1.0]
    assert check([0, 1, 0, 1], scores, Task.BINARY).calibration[0].tolist() == [[0, 1, 0, 14]]


@settings(max_examples=100, deadline=None)
@given(cases(tuple(Task)))
def test_confusion_matrix_matches_scikit_learn(case: Case) -> None:
    task, references, scores = case
    found = confusion_matrix(check(references, scores, task))
    if task is Task.MULTI_LABEL:
        expected = sk.multilabel_confusion_matrix(references, scores > 0.5)
    else:
        chosen = (scores > 0.5).astype(int) if task is Task.BINARY else scores.argmax(axis=1)
        classes = 2 if task is Task.BINARY else scores.shape[1]
        expected = sk.confusion_matrix(references, chosen, labels=list(range(classes)))
    assert found.dtype == np.intp and found.tolist() == expected.tolist()


@settings(max_examples=150, deadline=None)
@given(cases(tuple(Task)), st.integers(0, 2**32))
def test_weights_equal_repeated_rows_in_every_metric(case: Case, seed: int) -> None:
    task, references, scores = case
    checked = check(references, scores, task)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(references), np.full(len(references), 1 / len(references)), 3).astype(np.uint8)
    names = expand(checked, [*available(task), "f1:*", "auc:*", "average_precision:*"])
    table = evaluate(Weighted(checked, weights), names)
    for row, values in zip(weights, table, strict=True):
        repeated = (task, np.repeat(references, row, axis=0), np.repeat(scores, row, axis=0))
        assert list(computed(repeated, *names).values()) == [near(value) for value in values]


def test_names_are_expanded_once_and_in_order() -> None:
    case = (Task.MULTI_CLASS, np.array([0, 1, 2]), np.eye(3))
    found = computed(case, "f1:2", "f1:*", "acc", "f1")
    assert list(found) == ["f1:2", "f1:0", "f1:1", "acc", "f1"]
    assert set(found.values()) == {1.0}
    binary = (Task.BINARY, np.array([0, 1, 1]), np.array([0.1, 0.9, 0.2]))
    assert computed(binary, "sensitivity:*") == {"sensitivity:0": 1.0, "sensitivity:1": 0.5}, (
        "class 0 has its own value"
    )
    assert computed(binary, "f1") == {"f1": float(Fraction(2, 3))}


def test_every_task_offers_all_suitable_metrics() -> None:
    shared = {"auc", "acc", "average_precision", "balanced_accuracy", "macro_f1", "f1", "sensitivity", "specificity"}
    for task in Task:
        extra = {"quadratic_kappa", "mae"} if task is Task.ORDINAL else set()
        assert set(available(task)) == shared | {"brier", "ece"} | extra


def test_undefined_values_give_a_warning() -> None:
    scores = np.eye(3)[[0, 0, 1]]
    with pytest.warns(ScoreWarning, match="undefined on these 3 rows: sensitivity:2, f1:2"):
        found = metrics(check([0, 1, 1], scores, "multi-class"), ["sensitivity:*", "f1:2", "f1"])
    assert math.isnan(found["sensitivity:2"]) and found["f1"] == pytest.approx(2 / 3)
    with pytest.warns(ScoreWarning, match="quadratic_kappa"):
        assert math.isnan(
            metrics(check([1, 1], np.eye(3)[[1, 1]], "ordinal-regression"), ["quadratic_kappa"])["quadratic_kappa"]
        )


@pytest.mark.parametrize(
    ("task", "names", "line"),
    [
        ("multi-class", ["kappa"], "unknown measure 'kappa' for the multi-class task: choose from auc, "),
        ("multi-class", ["mae"], "unknown measure 'mae' for the multi-class task"),
        ("multi-class", ["f1:3"], "unknown measure 'f1:3' for the multi-class task"),
        ("multi-class", ["acc:1"], "unknown measure 'acc:1' for the multi-class task"),
        ("multi-class", [], "no measures given: choose from auc, "),
        ("ordinal-regression", ["brier"], "brier needs rows that sum to 1 but row 0 sums to 1.5: leave it out"),
        ("multi-class", ["ece"], "ece needs rows that sum to 1 but row 0 sums to 1.5"),
    ],
)
def test_each_invalid_name_gives_a_one_line_error(task: str, names: list[str], line: str) -> None:
    with pytest.raises(ScoreError) as caught:
        metrics(check([0, 1, 2], [[0.5, 0.5, 0.5]] * 3, task), names)
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_raw_scores_have_no_calibration() -> None:
    with pytest.raises(ScoreError, match="ece needs probabilities but scores run from -1 to 2: leave it out"):
        metrics(check([0, 1], [-1.0, 2.0], "binary-class", from_logits=False), ["ece"])
    assert metrics(check([0, 1], [-1.0, 2.0], "binary-class", from_logits=True), "ece")["ece"] > 0
