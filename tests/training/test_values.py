"""Values of options as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.values import duration_text, seconds_of, size_of, unmet


@given(st.integers(0, 10**6))
def test_a_duration_is_read_as_it_is_written(seconds: int) -> None:
    assert seconds_of(duration_text(seconds), "budget") == seconds


def test_durations_have_the_largest_whole_unit() -> None:
    assert [duration_text(value) for value in (0, 0.5, 90, 600, 5400, 7200)] == [
        "0s",
        "0.5s",
        "90s",
        "10m",
        "90m",
        "2h",
    ]


@pytest.mark.parametrize("value", ["soon", "10ms", "2 days", "-1h", True, None, [3], "\u0663h"])
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(TrainingError, match=r"^budget is .*: must be a duration such as 90s, 10m or 2h$"):
        seconds_of(value, "budget")


def test_sizes_may_be_text_and_bounds_are_named() -> None:
    assert (size_of("28"), size_of(28), size_of("large")) == (28, 28, "large")
    assert (unmet(3, 1, 0, 5), unmet(0, 1, -1, 5), unmet(6, 1, -1, float("inf"))) == ("", "in 1..5", "")
