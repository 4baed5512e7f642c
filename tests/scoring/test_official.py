"""AUC and ACC against the functions of the official evaluator, and input that those cannot handle."""

import csv
import math
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medmnist import evaluator as official_evaluator
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import roc_auc_score

from medmnist_hf.catalog import Task, subset
from medmnist_hf.errors import MedMNISTError, ScoreError
from medmnist_hf.scoring.official import ScoreWarning, class_aucs, score
from medmnist_hf.scoring.predictions import check

Array = npt.NDArray[np.generic]
Case = tuple[Array, Array]

SINGLE = (Task.MULTI_CLASS, Task.ORDINAL)
TOLERANCE = 1e-12


def official(references: Array, scores: Array, task: Task) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        auc = official_evaluator.getAUC(references, scores, task.official_name)
        return float(auc), float(official_evaluator.getACC(references, scores, task.official_name))


def _scores(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> Array:
    if kind == "smooth":
        return rng.random(shape)
    if kind == "tied":
        return rng.integers(0, 5, shape) / 4
    if kind == "extreme":
        edges = [0.0, -0.0, 5e-324, 2.3e-308, 1e-16, 0.5, np.nextafter(0.5, 0), np.nextafter(0.5, 1), 1 - 1e-16, 1.0]
        return rng.choice(edges, shape)
    if kind == "single":
        return rng.random(shape).astype(np.float32)
    if kind == "single tied":
        return (rng.integers(0, 3, shape) / np.float32(3)).astype(np.float32)
    if kind == "half":
        return rng.random(shape).astype(np.float16)
    if kind == "whole":
        return rng.integers(0, 2, shape)
    if kind == "huge":
        return rng.choice([-1.7e308, -1e300, -3.0, 0.5, 7.0, 1e300, 1.7e308], shape)
    return rng.normal(size=shape) * 4


KINDS = ("smooth", "tied", "extreme", "single", "single tied", "half", "whole", "huge", "raw")


@st.composite
def binary_cases(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.integers(2, 60))
    references = rng.permutation(np.arange(rows) < draw(st.integers(1, rows - 1))).astype(np.int64)
    shape = draw(st.sampled_from([(rows,), (rows, 1), (rows, 2), (rows, 1, 2), (1, rows), (rows, 1, 1)]))
    if shape == (1, 2) and draw(st.booleans()):
        shape = (2, 1)
    scores = _scores(rng, shape, draw(st.sampled_from(KINDS)))
    forms = [(rows,), (rows, 1), (rows, 1, 1)] + ([(1, rows)] if rows > 2 else [])
    dtype = draw(st.sampled_from([np.uint8, np.int64, np.float64, np.bool_]))
    return references.astype(dtype).reshape(draw(st.sampled_from(forms))), scores


@st.composite
def class_cases(draw: st.DrawFn, most: int = 5) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows, classes = draw(st.integers(2, 60)), draw(st.integers(2, most))
    references = rng.integers(0, draw(st.integers(1, classes)), rows)
    shape = draw(st.sampled_from([(rows, classes), (rows, 1, classes), (1, rows, classes)]))
    forms = [(rows,), (rows, 1), (rows, 1, 1), (1, rows)]
    dtype = draw(st.sampled_from([np.uint8, np.int32, np.float32]))
    shaped = references.astype(dtype).reshape(draw(st.sampled_from(forms)))
    return shaped, _scores(rng, shape, draw(st.sampled_from(KINDS)))


@st.composite
def label_cases(draw: st.DrawFn, most: int = 4) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows, labels = draw(st.integers(2, 60)), draw(st.integers(2, most))
    references = (rng.random((rows, labels)) < draw(st.sampled_from([0.02, 0.2, 0.5]))).astype(np.uint8)
    shape = draw(st.sampled_from([(rows, labels), (rows, 1, labels)]))
    return references.reshape(shape), _scores(rng, (rows, labels), draw(st.sampled_from(KINDS)))


def _assert_equals_official(references: Array, scores: Array, task: Task) -> None:
    auc, acc = official(references, scores, task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScoreWarning)
        computed = score(check(references, scores, task, from_logits=False), absent="nan")
    assert computed.auc == pytest.approx(auc, abs=TOLERANCE, nan_ok=True)
    assert computed.acc == pytest.approx(acc, abs=TOLERANCE)
    assert math.isnan(auc) == bool(computed.absent)


@settings(max_examples=200, deadline=None)
@given(binary_cases())
def test_binary_scores_equal_the_official(case: Case) -> None:
    _assert_equals_official(*case, Task.BINARY)


@settings(max_examples=100, deadline=None)
@given(class_cases(), st.sampled_from(SINGLE))
def test_multi_class_and_ordinal_scores_equal_the_official(case: Case, task: Task) -> None:
    _assert_equals_official(*case, task)


@settings(max_examples=100, deadline=None)
@given(label_cases())
def test_multi_label_scores_equal_the_official(case: Case) -> None:
    _assert_equals_official(*case, Task.MULTI_LABEL)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(
    st.one_of(
        st.tuples(binary_cases(), st.just(Task.BINARY)),
        st.tuples(class_cases(most=11), st.sampled_from(SINGLE)),
        st.tuples(label_cases(most=14), st.just(Task.MULTI_LABEL)),
    )
)
def test_thousands_of_cases_with_up_to_14_classes_equal_the_official(case: tuple[Case, Task]) -> None:
    _assert_equals_official(*case[0], case[1])


@settings(max_examples=80, deadline=None)
@given(class_cases())
def test_fewer_columns_than_classes_need_allow_unscored(case: Case) -> None:
    references, scores = case
    references = references.reshape(-1).copy()
    references[0] = scores.shape[-1]
    with pytest.raises(ScoreError, match=r"class id \d+ at row 0 is out of range"):
        score(check(references, scores, Task.MULTI_CLASS, from_logits=False))
    auc, acc = official(references, scores, Task.MULTI_CLASS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScoreWarning)
        computed = score(
            check(references, scores, "multi-class", from_logits=False, allow_unscored=True), absent="nan"
        )
    assert (computed.auc, computed.acc) == pytest.approx((auc, acc), abs=TOLERANCE, nan_ok=True)


@settings(max_examples=100, deadline=None)
@given(class_cases())
def test_absent_classes_are_listed_and_the_others_averaged(case: Case) -> None:
    references, scores = case[0].reshape(-1), case[1].reshape(case[0].size, -1)
    present = [k for k in range(scores.shape[1]) if 0 < np.count_nonzero(references == k) < references.size]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        computed = score(check(references, scores, Task.MULTI_CLASS, from_logits=False))
    assert set(computed.absent) == set(range(scores.shape[1])) - set(present)
    with np.errstate(over="ignore", invalid="ignore"):
        each = [roc_auc_score(references == k, scores[:, k]) for k in present]
    assert computed.auc == pytest.approx(np.mean(each) if each else math.nan, abs=TOLERANCE, nan_ok=True)
    assert [str(entry.message)[:10] for entry in caught if entry.category is ScoreWarning] == (
        [] if present else ["AUC is nan"]
    )


@pytest.mark.parametrize(
    ("task", "references", "scores", "acc"),
    [
        (Task.BINARY, [1], [0.7], 1.0),
        (Task.BINARY, [[1]], [[0.7, 0.3]], 0.0),
        (Task.MULTI_CLASS, [2], [[0.1, 0.2, 0.7]], 1.0),
        (Task.ORDINAL, [[1]], [[0.1, 0.2, 0.7]], 0.0),
        (Task.MULTI_LABEL, np.array([[1, 0, 1, 0]]), [[0.9, 0.9, 0.9, 0.9]], 0.5),
    ],
)
def test_one_row_has_an_accuracy_but_no_auc(task: Task, references: object, scores: object, acc: float) -> None:
    with pytest.warns(ScoreWarning, match="AUC is nan: class"):
        found = score(check(references, scores, task))
    assert found.acc == acc and found.rows == 1 and math.isnan(found.auc)
    assert len(found.absent) == len(check(references, scores, task).classes)
    with pytest.raises(ScoreError, match="AUC is undefined there"):
        score(check(references, scores, task), absent="raise")


def test_an_absent_class_can_raise_an_error() -> None:
    scores = [[0.6, 0.2, 0.2], [0.3, 0.4, 0.3], [0.5, 0.3, 0.2]]
    assert score(check([0, 1, 0], scores, "multi-class")).absent == (2,)
    with pytest.raises(ScoreError, match=r"^class 2 has no positive or no negative row"):
        score(check([0, 1, 0], scores, "multi-class"), absent="raise")
    with pytest.raises(ScoreError, match="unknown choice absent='drop'"):
        score(check([0, 1, 0], scores, "multi-class"), absent="drop")  # type: ignore[arg-type]


def test_exactly_a_half_is_a_negative_decision() -> None:
    assert score(check([0, 1], [0.5, np.nextafter(0.5, 1)], "binary-class")).acc == 1
    # Both columns at one half: argmax and threshold differ here.
    assert score(check([1, 0], [[0.2, 0.5], [0.5, 0.5]], "binary-class")).acc == 0.5
    assert score(check(np.array([[0, 1], [1, 0]]), [[0.5, 0.6], [0.5, 0.4]], "multi-label")).acc == 0.75


@pytest.mark.parametrize("task", list(Task))
def test_logits_score_like_their_probabilities(task: Task) -> None:
    rng = np.random.default_rng(7)
    logits = rng.normal(size=(300, 2 if task is Task.BINARY else 6)) * 5
    if task is Task.MULTI_LABEL:
        references = (rng.random(logits.shape) < 0.3).astype(int)
        probabilities = 1 / (1 + np.exp(-logits))
    else:
        references = rng.integers(0, logits.shape[1], 300)
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for typed_logits in (logits, logits.astype(np.float32)):
        found = score(check(references, typed_logits, task, from_logits=True))
        assert (found.auc, found.acc) == pytest.approx(official(references, probabilities, task), abs=TOLERANCE)
    with pytest.raises(ScoreError, match=r"outside 0\.\.1: pass from_logits=True"):
        score(check(references, logits, task))
    unchanged = score(check(references, logits, task, from_logits=False))
    assert (unchanged.auc, unchanged.acc) == pytest.approx(official(references, logits, task), abs=TOLERANCE)


def test_one_column_of_logits_is_decided_at_zero() -> None:
    found = score(check([0, 1, 1], [-800.0, 0.1, 800.0], "binary-class", from_logits=True))
    assert (found.auc, found.acc) == (1.0, 1.0)
    far = score(check([0, 1], [[1.7e308, -1.7e308], [-1.7e308, 1.7e308]], "binary-class", from_logits=True))
    assert (far.auc, far.acc) == (1.0, 1.0)


def test_a_task_may_have_any_of_its_names() -> None:
    hot, scores = np.array([[1, 0], [0, 1]]), [[0.9, 0.1], [0.2, 0.8]]
    assert score(check(hot, scores, "multi-label, binary-class")) == score(check(hot, scores, Task.MULTI_LABEL))
    with pytest.raises(ScoreError, match="unknown task 'multiclass': choose from 'binary-class'"):
        score(check([0, 1], scores, "multiclass"))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 0.5000000001, 1.0])), min_size=2, max_size=30)
)
def test_auc_is_the_share_of_ordered_pairs(rows: list[tuple[bool, float]]) -> None:
    pairs = [(hit > rest) + (hit == rest) / 2 for yes, hit in rows if yes for no, rest in rows if not no]
    found = class_aucs(check([yes for yes, _ in rows], [value for _, value in rows], Task.BINARY))[0]
    assert found == pytest.approx(sum(pairs) / len(pairs) if pairs else math.nan, abs=1e-15, nan_ok=True)


@settings(max_examples=100, deadline=None)
@given(class_cases(), st.integers(0, 2**32))
def test_row_order_and_float_width_do_not_matter(case: Case, seed: int) -> None:
    references, scores = case[0].reshape(-1), case[1].reshape(case[0].size, -1)
    order = np.random.default_rng(seed).permutation(references.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScoreWarning)
        found = score(check(references, scores, Task.ORDINAL, from_logits=False))
        shuffled = score(check(references[order], scores[order].astype(">f8"), Task.ORDINAL, from_logits=False))
    assert repr(found) == repr(shuffled)


def test_the_scores_of_a_real_prediction_file_match_its_name() -> None:
    root = os.environ.get("MEDMNIST_ROOT")
    if not root:
        pytest.skip("MEDMNIST_ROOT is not set: no real data to score")
    files = sorted(Path(root).parent.joinpath("predictions").glob("breastmnist_test_*.csv"))
    if not files:
        pytest.skip("no predictions folder next to MEDMNIST_ROOT: no real file to score")
    with files[0].open(newline="", encoding="utf-8") as lines:
        table = np.array([[float(cell) for cell in row] for row in csv.reader(lines)])
    scores = table[np.argsort(table[:, 0]), 1:]
    with np.load(Path(root) / "breastmnist.npz", allow_pickle=False) as archive:
        references = archive["test_labels"]
    task = subset("breastmnist").task
    found = score(check(references, scores, task))
    assert (found.auc, found.acc) == pytest.approx(official(references, scores, task), abs=TOLERANCE)
    named = re.search(r"\[AUC\]([\d.]+)_\[ACC\]([\d.]+)@", files[0].name)
    assert named is not None
    assert (f"{found.auc:.3f}", f"{found.acc:.3f}") == named.groups()


@pytest.mark.parametrize(
    "make", [lambda: score(check([], [], "binary-class")), lambda: score(check([0, 1], [0.1], "binary-class"))]
)
def test_errors_are_medmnist_errors_of_one_line(make: Callable[[], object]) -> None:
    with pytest.raises(MedMNISTError) as caught:
        make()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200
