"""`medmnist_hf.scoring.confidence`: Wilson's interval and the quantiles, against scipy."""

import math

import pytest
from scipy.stats import binomtest
from scipy.stats import t as student

from medmnist_hf.errors import ScoreError
from medmnist_hf.scoring.confidence import holm, normal_quantile, student_p, student_quantile, wilson


@pytest.mark.parametrize(("right", "rows"), [(181, 400), (0, 156), (156, 156), (1, 2), (3, 30), (47_000, 47_280)])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_wilson_matches_scipy(right: int, rows: int, level: float) -> None:
    interval = wilson(right / rows, rows, level=level)
    exact = binomtest(right, rows).proportion_ci(level, method="wilson")
    assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high), abs=1e-12)
    assert (interval.estimate, interval.level, interval.method) == (right / rows, level, "Wilson")
    assert interval.low < interval.high, "the width must not be 0 if all rows are right"


def test_wilson_of_181_in_400() -> None:
    interval = wilson(181 / 400, 400)
    assert f"{interval.estimate:.4f} [{interval.low:.3f}, {interval.high:.3f}]" == "0.4525 [0.404, 0.501]"


@pytest.mark.parametrize("freedom", [1, 2.5, 3, 9.3, 100, 1e4, 1e6])
@pytest.mark.parametrize("level", [0.1, 0.9, 0.95, 0.99])
def test_students_distribution_matches_scipy(freedom: float, level: float) -> None:
    deviate = float(student.ppf((1 + level) / 2, freedom))
    assert student_quantile(level, freedom) == pytest.approx(deviate, rel=2e-6)
    assert student_p(deviate, freedom) == student_p(-deviate, freedom) == pytest.approx(1 - level, abs=1e-6)


def test_extremes_of_students_distribution() -> None:
    assert student_p(0, 5) == 1 and 0 <= student_p(1e9, 5) < 1e-9
    assert student_quantile(0.95, 1e6) == pytest.approx(normal_quantile(0.95), rel=1e-5)


@pytest.mark.parametrize("level", [0, 1, 95, math.nan])
def test_a_level_out_of_range_is_refused(level: float) -> None:
    with pytest.raises(ScoreError, match="pass a confidence level between 0 and 1, such as"):
        wilson(0.5, 10, level=level)


@pytest.mark.parametrize(("deviate", "freedom"), [(10.97, 155), (30, 20), (9, 1e5)])
def test_a_small_p_is_not_rounded_to_zero(deviate: float, freedom: float) -> None:
    assert student_p(deviate, freedom) == pytest.approx(2 * float(student.sf(deviate, freedom)), rel=1e-3, abs=0)


def test_holm_adjusts_each_p_value_for_those_that_are_not_smaller() -> None:
    # By hand: 4 * 0.005, 3 * 0.01, 2 * 0.03, 1 * 0.04 raised to the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = holm([0.5, math.nan, 0.9])
    assert adjusted[::2] == [1.0, 1.0] and math.isnan(adjusted[1]) and holm([]) == []
