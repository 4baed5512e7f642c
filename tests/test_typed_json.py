"""`medmnist_hf.typed_json`: what is written is read back, and nothing of another type."""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmnist_hf.typed_json import IN_FILE, decode, decode_versioned, encode


@dataclass(frozen=True)
class Leaf:
    name: str
    whole: bool
    share: float
    count: int | None


@dataclass(frozen=True)
class Tree:
    leaves: tuple[Leaf, ...] = field(metadata={IN_FILE: "branches"})
    ends: tuple[str, int]
    by_name: dict[str, dict[str, float]]
    further: dict[str, Any]


LEAF = {"name": "a", "whole": True, "share": 0.5, "count": 3}
TREE: dict[str, Any] = {"branches": [LEAF], "ends": ["a", 1], "by_name": {"b": {"c": 1}}, "further": {"d": [None]}}

LEAVES = st.builds(
    Leaf, st.text(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.none() | st.integers()
)


@given(
    st.builds(
        Tree, st.lists(LEAVES, max_size=3).map(tuple), st.tuples(st.text(), st.integers()), st.just({}), st.just({})
    )
)
def test_what_is_written_is_read_back(tree: Tree) -> None:
    text = json.dumps(encode(tree), allow_nan=False)
    assert decode(json.loads(text), Tree) == tree
    assert list(json.loads(text)) == list(TREE)


def test_null_is_nan_where_a_number_is_due_and_whole_numbers_stay_whole() -> None:
    assert math.isnan(decode(LEAF | {"share": None}, Leaf).share)
    assert encode([math.nan, {"a": (math.inf, 1.0)}]) == [None, {"a": [None, 1.0]}]
    assert repr(decode(1, float)) == "1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"branches": {}}, "branches is {}, must be a list"),
        ({"branches": [LEAF | {"name": 1}]}, "branches[0].name is 1, must be text"),
        ({"branches": [LEAF | {"whole": 1}]}, "branches[0].whole is 1, must be true or false"),
        ({"branches": [LEAF | {"share": True}]}, "branches[0].share is True, must be a number"),
        ({"branches": [LEAF | {"count": 0.5}]}, "branches[0].count is 0.5, must be a whole number"),
        ({"branches": [LEAF, {}]}, "branches[1] lacks name"),
        ({"ends": ["a"]}, "ends has 1 entries, must have 2"),
        ({"ends": ["a", "b"]}, "ends[1] is 'b', must be a whole number"),
        ({"by_name": {"b": {"c": "x" * 999}}}, "by_name.b.c is 'xxxxxxxxxxxx...xxxxxxxxxxxxx', must be a number"),
        ({"leaves": []}, "it has an unknown leaves"),
    ],
)
def test_another_type_is_one_line_that_says_where(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        decode(TREE | change, Tree)


def test_the_whole_may_be_of_another_type() -> None:
    with pytest.raises(ValueError, match=r"^it is \[\], must be an object$"):
        decode([], Tree)


def test_a_file_of_another_format_is_refused_before_anything_in_it_is_read() -> None:
    assert decode_versioned(json.dumps({"format": 2, **LEAF}), Leaf, 2) == decode(LEAF, Leaf)
    for table in (LEAF, {"format": 1, **LEAF}, {"format": "2", "name": 5}):
        with pytest.raises(ValueError, match="another format version"):
            decode_versioned(json.dumps(table), Leaf, 2)
    with pytest.raises(ValueError, match="must be an object"):
        decode_versioned("[]", Leaf, 2)
