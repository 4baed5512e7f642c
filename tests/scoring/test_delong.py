"""DeLong's method against its definition written out pair by pair, and its level under the null."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmnist_hf.array_types import FloatArray, IntArray
from medmnist_hf.catalog import Task
from medmnist_hf.errors import ScoreError
from medmnist_hf.scoring.delong import components, delong, delong_compare
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import check
from tests.fixtures.predictions import pair

Case = tuple[IntArray, FloatArray]


@st.composite
def pairs_of_columns(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.integers(4, 40))
    references = rng.permutation(np.arange(rows) < draw(st.integers(2, rows - 2))).astype(np.intp)
    levels = draw(st.sampled_from([2, 4, 10**9]))
    return references, rng.integers(0, levels + 1, (2, rows)) / levels


def kernel(references: IntArray, scores: FloatArray) -> FloatArray:
    """The psi of the paper for each positive (rows) and negative (columns)."""
    hits, rest = scores[references == 1][:, None], scores[references == 0][None, :]
    return np.where(hits > rest, 1.0, np.where(hits == rest, 0.5, 0.0))


def covariance(one: FloatArray, two: FloatArray) -> float:
    """Equation 5 of the paper: the covariance of two AUCs from their kernels."""
    total = 0.0
    for axis in (1, 0):
        a, b = one.mean(axis=axis), two.mean(axis=axis)
        total += float(((a - one.mean()) * (b - two.mean())).sum()) / (a.size - 1) / a.size
    return total


@settings(max_examples=300, deadline=None)
@given(pairs_of_columns())
def test_interval_and_test_are_their_definition(case: Case) -> None:
    references, (first, second) = case[0], case[1]
    one, two = kernel(references, first), kernel(references, second)
    found = delong(check(references, first, Task.BINARY))[1]
    error = math.sqrt(max(0.0, covariance(one, one)))
    assert found.estimate == pytest.approx(one.mean(), abs=1e-12)
    assert found.estimate == score(check(references, first, Task.BINARY)).auc
    assert found.standard_error == pytest.approx(error, abs=1e-9)
    assert found.low == pytest.approx(max(0, one.mean() - 1.959963984540054 * error), abs=1e-8)
    assert found.high == pytest.approx(min(1, one.mean() + 1.959963984540054 * error), abs=1e-8)
    both = delong_compare(*pair(references, first, second, Task.BINARY))[1]
    variance = covariance(one, one) + covariance(two, two) - 2 * covariance(one, two)
    assert both.difference.estimate == pytest.approx(one.mean() - two.mean(), abs=1e-12)
    assert both.difference.standard_error**2 == pytest.approx(variance, abs=1e-12)
    if variance > 1e-9:
        z = abs(one.mean() - two.mean()) / math.sqrt(variance)
        assert both.p == pytest.approx(math.erfc(z / math.sqrt(2)), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(pairs_of_columns())
def test_components_are_the_means_of_the_kernel(case: Case) -> None:
    above, below = components(case[1][0], case[0] == 1)
    psi = kernel(case[0], case[1][0])
    assert above == pytest.approx(psi.mean(axis=1), abs=1e-12)
    assert below == pytest.approx(psi.mean(axis=0), abs=1e-12)


def test_each_class_is_set_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    references, scores = np.arange(60) % 3, rng.random((60, 4))
    scores /= scores.sum(axis=1, keepdims=True)
    found = delong(check(references, scores, Task.MULTI_CLASS))
    assert list(found) == [0, 1, 2], "class 3 has no rows and no variance"
    for label, interval in found.items():
        assert interval == delong(check((references == label).astype(int), scores[:, label], Task.BINARY))[1]
    assert list(delong_compare(*pair(references, scores, scores, Task.MULTI_CLASS))) == [0, 1, 2]


def test_a_known_example() -> None:
    # By hand: positive components 1, 1/2 and negative components 1, 1/2; AUC 3/4, variance 1/16 + 1/16.
    found = delong(check([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.5], Task.BINARY))[1]
    assert found.estimate == 0.75
    assert found.standard_error == pytest.approx(math.sqrt(1 / 8))


def test_a_difference_that_does_not_vary() -> None:
    references, good = [1, 1, 0, 0], [0.9, 0.8, 0.1, 0.2]
    assert delong_compare(*pair(references, good, good, Task.BINARY))[1].p == 1
    worst = delong_compare(*pair(references, good, [0.1, 0.2, 0.9, 0.8], Task.BINARY))[1]
    assert (worst.difference.estimate, worst.p) == (1, 0)
    perfect = delong(check(references, good, Task.BINARY))[1]
    assert (perfect.low, perfect.high, perfect.standard_error) == (1, 1, 0)


def test_p_values_are_even_when_nothing_differs() -> None:
    found = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        references = np.arange(100) % 2
        shared = references + rng.normal(size=100)
        one, two = (shared + rng.normal(size=100) for _ in range(2))
        found.append(
            delong_compare(
                *pair(references, one, two, Task.BINARY, from_logits=False),
            )[1].p
        )
    # Below 0.2 lie Binomial(400, 0.2) of them: 80, give or take 8.
    assert 50 <= sum(p < 0.2 for p in found) <= 112


def test_too_few_rows_for_a_variance() -> None:
    with pytest.raises(ScoreError, match="3 rows: DeLong's variance needs two positive and two negative rows"):
        delong(check([0, 1, 1], [0.1, 0.2, 0.3], Task.BINARY))
    with pytest.raises(ScoreError, match="level=1: pass a confidence level"):
        delong(check([0, 1, 1, 0], [0.1, 0.2, 0.3, 0.4], Task.BINARY), level=1)
