"""Parsing and formatting of option values."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.values import format_duration, parse_seconds, parse_size, typed_value, unmet_bound


@given(st.integers(0, 10**6))
def test_a_formatted_duration_is_parsed_to_the_same_value(seconds: int) -> None:
    assert parse_seconds(format_duration(seconds), "budget") == seconds


def test_durations_are_written_in_the_largest_whole_unit() -> None:
    assert [format_duration(value) for value in (0, 0.5, 90, 600, 5400, 7200)] == [
        "0s",
        "0.5s",
        "90s",
        "10m",
        "90m",
        "2h",
    ]


@pytest.mark.parametrize("value", ["soon", "10ms", "2 days", "-1h", True, None, [3], "\u0663h"])
def test_an_invalid_duration_is_refused(value: object) -> None:
    with pytest.raises(TrainingError, match=r"^budget is .*: must be a duration such as 90s, 10m or 2h$"):
        parse_seconds(value, "budget")


def test_sizes_may_be_text_and_violated_bounds_are_named() -> None:
    assert (parse_size("28"), parse_size(28), parse_size("large")) == (28, 28, "large")
    assert (unmet_bound(3, 1, 0, 5), unmet_bound(0, 1, -1, 5), unmet_bound(6, 1, -1, float("inf"))) == (
        "",
        "in 1..5",
        "",
    )


def test_a_number_may_also_be_one_of_some_words() -> None:
    kind: Any = int | Literal["auto"] | None
    assert [typed_value(value, kind, "image_size") for value in (112, "auto", None)] == [112, "auto", None]
    others: list[Any] = ["car", 1.5, True, [1], {}]
    for value in others:
        with pytest.raises(TrainingError, match=r"^image_size is .*: must be int or auto$"):
            typed_value(value, kind, "image_size")
    with pytest.raises(TrainingError, match=r"^trials is 'auto': must be int$"):
        typed_value("auto", int | None, "trials")
