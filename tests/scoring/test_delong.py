"""DeLong's method against its pairwise definition, and p values under the null hypothesis."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from medmnist_hf.array_types import FloatArray, IntArray
from medmnist_hf.catalog import Task
from medmnist_hf.errors import ScoreError
from medmnist_hf.scoring.delong import components, delong, delong_compare, delong_compare_means
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
    """The psi of the paper for each pair of a positive row (axis 0) and a negative row (axis 1)."""
    hits, rest = scores[references == 1][:, None], scores[references == 0][None, :]
    return np.where(hits > rest, 1.0, np.where(hits == rest, 0.5, 0.0))


def covariance(one: FloatArray, two: FloatArray) -> float:
    """Equation 5 of the paper: the covariance of two AUCs from their kernels."""
    total = 0.0
    for axis in (1, 0):
        a, b = one.mean(axis=axis), two.mean(axis=axis)
        total += float(((a - one.mean()) * (b - two.mean())).sum()) / (a.size - 1) / a.size
    return total


def widening(references: IntArray) -> float:
    """The small-sample factor of the standard error."""
    return math.sqrt(1 + 1 / np.bincount(references).min())


def freedom(psi: FloatArray) -> float:
    """Degrees of freedom from the fourth powers of the effects."""
    effects = [(psi.mean(axis=axis) - psi.mean()) / math.sqrt(size * (size - 1)) for axis, size in sides(psi)]
    squares = np.concatenate(effects) ** 2
    return float(3 * squares.sum() ** 2 / (squares**2).sum())


def sides(psi: FloatArray) -> list[tuple[int, int]]:
    """For each side, the axis its components average over and its number of rows."""
    return [(1, psi.shape[0]), (0, psi.shape[1])]


@settings(max_examples=100, deadline=None)
@given(pairs_of_columns())
def test_interval_and_test_match_their_definition(case: Case) -> None:
    references, (first, second) = case[0], case[1]
    one, two = kernel(references, first), kernel(references, second)
    found = delong(check(references, first, Task.BINARY))["auc"]
    error = math.sqrt(max(0.0, covariance(one, one)))
    assert found.estimate == pytest.approx(one.mean(), abs=1e-12)
    assert found.estimate == score(check(references, first, Task.BINARY)).auc
    assert found.standard_error == pytest.approx(error, abs=1e-9)
    assert 0 <= found.low <= found.estimate <= found.high <= 1 and found.low < found.high
    if error > 1e-6:
        odds, widened = math.log(one.mean() / (1 - one.mean())), widening(references) * error
        half = student.ppf(0.975, freedom(one)) * widened / one.mean() / (1 - one.mean())
        ends = 1 / (1 + np.exp(-np.array([odds - half, odds + half])))
        assert (found.low, found.high) == pytest.approx(ends, abs=1e-5)
    both = delong_compare(*pair(references, first, second, Task.BINARY))["auc"]
    variance = covariance(one, one) + covariance(two, two) - 2 * covariance(one, two)
    assert both.difference.estimate == pytest.approx(one.mean() - two.mean(), abs=1e-12)
    assert both.difference.standard_error**2 == pytest.approx(variance, abs=1e-12)
    if variance > 1e-9:
        deviate = abs(one.mean() - two.mean()) / math.sqrt(variance) / widening(references)
        assert both.p == pytest.approx(2 * student.sf(deviate, freedom(one - two)), abs=1e-5)
        half = student.ppf(0.975, freedom(one - two)) * math.sqrt(variance) * widening(references)
        ends = max(-1, one.mean() - two.mean() - half), min(1, one.mean() - two.mean() + half)
        assert (both.difference.low, both.difference.high) == pytest.approx(ends, abs=1e-4)


@settings(max_examples=100, deadline=None)
@given(pairs_of_columns())
def test_components_are_the_means_of_the_kernel(case: Case) -> None:
    above, below = components(case[1][0], case[0] == 1)
    psi = kernel(case[0], case[1][0])
    assert above == pytest.approx(psi.mean(axis=1), abs=1e-12)
    assert below == pytest.approx(psi.mean(axis=0), abs=1e-12)


def test_each_class_is_scored_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    references, scores = np.arange(60) % 3, rng.random((60, 4))
    scores /= scores.sum(axis=1, keepdims=True)
    names = ["auc", *(f"auc:{label}" for label in range(4))]
    found = delong(check(references, scores, Task.MULTI_CLASS), names)
    for label in range(3):
        alone = delong(check((references == label).astype(int), scores[:, label], Task.BINARY))["auc"]
        assert found[f"auc:{label}"] == alone
    assert math.isnan(found["auc:3"].estimate) and math.isnan(found["auc:3"].low), "class 3 has no rows"
    assert found["auc"].estimate == score(check(references, scores, Task.MULTI_CLASS)).auc
    assert list(delong_compare(*pair(references, scores, scores, Task.MULTI_CLASS), names)) == names


def test_the_error_of_a_mean_accounts_for_shared_rows() -> None:
    """A column and its mirror image give the same ranking, so their mean is as uncertain as each of them."""
    rng = np.random.default_rng(1)
    references, column = np.arange(80) % 2, rng.random(80)
    scores = np.stack([1 - column, column], axis=1)
    both = delong(check(references, scores, Task.MULTI_CLASS))["auc"]
    one = delong(check(references, column, Task.BINARY))["auc"]
    assert (both.low, both.high) == pytest.approx((one.low, one.high), abs=1e-12)
    hot = np.stack([references, rng.permutation(references)], axis=1)
    unrelated = delong(check(hot, rng.random((80, 2)), Task.MULTI_LABEL), ["auc", "auc:0", "auc:1"])
    errors = [interval.standard_error for interval in unrelated.values()]
    assert errors[0] == pytest.approx(math.hypot(*errors[1:]) / 2, rel=0.2), "unrelated columns average out"


def test_a_class_of_one_row_leaves_the_mean_unknown() -> None:
    scores = np.random.default_rng(2).dirichlet(np.ones(3), 21)
    references = np.append(np.arange(20) % 2, 2)
    found = delong(check(references, scores, Task.MULTI_CLASS), ["auc", "auc:0", "auc:2"])
    assert [math.isnan(interval.low) for interval in found.values()] == [True, False, True]
    assert not any(math.isnan(interval.estimate) for interval in found.values())


def test_an_example_computed_by_hand() -> None:
    # By hand: positive components 1, 1/2 and negative components 1, 1/2; AUC 3/4, variance 1/16 + 1/16.
    found = delong(check([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.5], Task.BINARY))["auc"]
    assert found.estimate == 0.75
    assert found.standard_error == pytest.approx(math.sqrt(1 / 8))


@pytest.mark.parametrize("auc", [1.0, 0.5, 0.0])
def test_an_interval_has_a_width_if_the_variance_is_0(auc: float) -> None:
    """Perfect, constant and reversed scores use Newcombe's method 5."""
    references = np.arange(40) % 2
    scores = np.where(references == 1, auc, 1 - auc)
    found = delong(check(references, scores, Task.BINARY))["auc"]
    assert (found.estimate, found.standard_error) == (auc, 0)
    for end in (found.low, found.high):
        shape = (1 - end) / (2 - end) + end / (1 + end)
        distance = 1.959963984540054 * math.sqrt(end * (1 - end) * (1 + 19 * shape) / 400)
        assert abs(auc - end) == pytest.approx(distance, abs=1e-6)
    assert found.high - found.low > 0.08


def test_a_difference_without_variance() -> None:
    references, good = [1, 1, 0, 0], [0.9, 0.8, 0.1, 0.2]
    assert delong_compare(*pair(references, good, good, Task.BINARY))["auc"].p == 1
    worst = delong_compare(*pair(references, good, [0.1, 0.2, 0.9, 0.8], Task.BINARY))["auc"]
    assert (worst.difference.estimate, worst.p) == (1, 0)


def test_p_values_are_uniform_under_the_null() -> None:
    found = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        references = np.arange(100) % 2
        shared = references + rng.normal(size=100)
        one, two = (shared + rng.normal(size=100) for _ in range(2))
        found.append(delong_compare(*pair(references, one, two, Task.BINARY, from_logits=False))["auc"].p)
    # The number below 0.2 is Binomial(400, 0.2): 80, standard deviation 8.
    assert 50 <= sum(p < 0.2 for p in found) <= 112


def test_too_few_rows_for_a_variance() -> None:
    found = delong(check([0, 1, 1], [0.1, 0.2, 0.3], Task.BINARY))["auc"]
    assert found.estimate == 1 and math.isnan(found.low)
    with pytest.raises(ScoreError, match="level=1: pass a confidence level"):
        delong(check([0, 1, 1, 0], [0.1, 0.2, 0.3, 0.4], Task.BINARY), level=1)


def test_means_of_several_predictions_are_compared_by_their_mean_effects() -> None:
    rng = np.random.default_rng(3)
    references = np.arange(60) % 2
    own, others = (
        [check(references, rng.random(60) + by * references, Task.BINARY, from_logits=True) for _ in range(3)]
        for by in (0.5, 0.2)
    )
    found = delong_compare_means(own, others)["auc"]
    singles = [delong_compare(*two)["auc"] for two in zip(own, others, strict=True)]
    assert found.difference.estimate == pytest.approx(np.mean([each.difference.estimate for each in singles]))
    assert found.difference.standard_error < min(each.difference.standard_error for each in singles)
    again = delong_compare_means(own[:1] * 2, others[:1] * 2)["auc"]
    assert again.p == pytest.approx(singles[0].p) and again.difference.low == pytest.approx(singles[0].difference.low)
    with pytest.raises(ScoreError):
        delong_compare_means(own, [check(1 - references, rng.random(60), Task.BINARY)])
