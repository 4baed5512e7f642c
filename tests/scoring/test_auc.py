"""One column's AUC and average precision: against the definition, scikit-learn and repeated rows."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from medmnist_hf.array_types import BoolArray, FloatArray
from medmnist_hf.scoring.auc import Ranking, auc, ratio

Column = tuple[FloatArray, BoolArray]


@st.composite
def columns(draw: st.DrawFn) -> Column:
    rows = draw(st.integers(1, 50))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from([1, 2, 5, 10**9]))
    return rng.integers(0, levels, rows) / levels, rng.random(rows) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))


@settings(max_examples=100, deadline=None)
@given(columns(), st.integers(0, 2**32))
def test_a_weight_equals_a_repeated_row(column: Column, seed: int) -> None:
    values, positive = column
    weights = np.random.default_rng(seed).integers(0, 4, (3, values.size)).astype(np.uint16)
    ranking = Ranking.of(values, positive)
    areas, precisions = ranking.auc(weights), ranking.average_precision(weights)
    for row, area, precision in zip(weights, areas, precisions, strict=True):
        repeated, truth = np.repeat(values, row), np.repeat(positive, row)
        assert area == pytest.approx(auc(repeated, truth), abs=1e-12, nan_ok=True)
        if not truth.any():
            assert math.isnan(precision)
            continue
        assert precision == pytest.approx(average_precision_score(truth, repeated), abs=1e-12)
        if not truth.all():
            assert area == pytest.approx(roc_auc_score(truth, repeated), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(columns())
def test_weights_of_one_give_exactly_the_same_auc(column: Column) -> None:
    ones = np.ones((1, column[0].size), np.uint16)
    assert repr(float(Ranking.of(*column).auc(ones)[0])) == repr(auc(*column))


def test_rows_of_one_class_have_no_auc() -> None:
    values = np.array([0.1, 0.2])
    assert math.isnan(auc(values, np.array([True, True])))
    assert math.isnan(auc(values, np.array([False, False])))
    assert auc(values, np.array([False, True])) == 1
    assert auc(values, np.array([True, False])) == 0
    assert auc(np.array([0.3, 0.3]), np.array([True, False])) == 0.5


def test_many_rows_are_counted_without_overflow() -> None:
    # 2 * 150,000 * 150,000 pairs are beyond 32 bits.
    values = np.arange(300_000.0)
    positive = values % 2 == 1
    exact = (150_000 * 150_001 // 2) / 150_000**2
    assert auc(values, positive) == exact
    ones = np.ones((1, values.size), np.uint16)
    assert float(Ranking.of(values, positive).auc(ones)[0]) == pytest.approx(exact, abs=1e-15)


def test_ratio_with_a_whole_of_0_is_nan_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0])), [0.5, np.nan], equal_nan=True)
