"""`medmnist_hf.typed_json`: values survive a round trip, and values of the wrong type are refused."""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmnist_hf.errors import UNPRINTABLE
from medmnist_hf.typed_json import IN_FILE, Bounds, Count, FileName, Md5, Name, OneOf, decode, decode_versioned, encode


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

LINES = st.text().map(lambda text: UNPRINTABLE.sub("", text))
LEAVES = st.builds(
    Leaf, LINES, st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.none() | st.integers()
)


@given(
    st.builds(Tree, st.lists(LEAVES, max_size=3).map(tuple), st.tuples(LINES, st.integers()), st.just({}), st.just({}))
)
def test_round_trip(tree: Tree) -> None:
    text = json.dumps(encode(tree), allow_nan=False)
    assert decode(json.loads(text), Tree) == tree
    assert list(json.loads(text)) == list(TREE)


def test_null_is_read_as_nan_and_integers_stay_integers() -> None:
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
        ({"branches": [LEAF | {"count": 0.5}]}, "branches[0].count is 0.5, must be an integer"),
        ({"branches": [LEAF, {}]}, "branches[1] lacks name"),
        ({"ends": ["a"]}, "ends has 1 entries, must have 2"),
        ({"ends": ["a", "b"]}, "ends[1] is 'b', must be an integer"),
        (
            {"by_name": {"b": {"c": "x" * 999}}},
            "by_name.b.c is " + repr("x" * 27 + "..." + "x" * 28) + ", must be a number",
        ),
        ({"leaves": []}, "it has an unknown attribute 'leaves': choose from branches, ends, by_name, further"),
        ({"branch": []}, "it has an unknown attribute 'branch': did you mean branches?"),
    ],
)
def test_an_error_names_the_place_of_a_wrong_type(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        decode(TREE | change, Tree)


def test_the_document_may_have_the_wrong_type() -> None:
    with pytest.raises(ValueError, match=r"^it is \[\], must be an object$"):
        decode([], Tree)


def test_another_format_version_is_refused_before_other_values_are_checked() -> None:
    assert decode_versioned(json.dumps({"format": 2, **LEAF}), Leaf, 2) == decode(LEAF, Leaf)
    for table in (LEAF, {"format": 1, **LEAF}, {"format": "2", "name": 5}):
        with pytest.raises(ValueError, match="another format version"):
            decode_versioned(json.dumps(table), Leaf, 2)
    with pytest.raises(ValueError, match="must be an object"):
        decode_versioned("[]", Leaf, 2)


Share = Annotated[float, Bounds(0, 1)]


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (-1, Count, "it is -1, must be an integer from 0 to 9223372036854775807"),
        (True, Count, "it is True, must be an integer"),
        (1 << 63, Count, "it is 9223372036854775808, must be an integer from 0 to 9223372036854775807"),
        (1.5, Share, "it is 1.5, must be a number from 0 to 1"),
        (math.inf, float, "it is inf, must be finite"),
        ("A" * 32, Md5, "it is 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA', must be 32 hex digits"),
        ("a" * 33, Md5, "it is 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', must be 32 hex digits"),
        ("a" * 32 + "\n", Md5, "it holds control characters: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\\n'"),
        ("", Name, "it is '', must be 1 to 255 characters long"),
        ("../a", FileName, "it is '../a', must be a file name without a folder"),
        ("..", FileName, "it is '..', must be a file name without a folder"),
        ("c", Annotated[str, OneOf("a", "b")], "it is 'c', must be one of a, b"),
        ([1, -1], tuple[Count, ...], "[1] is -1, must be an integer from 0 to 9223372036854775807"),
        ("\x1b[31m", str, "it holds control characters: '\\x1b[31m'"),
        ("a\u202eb", str, "it holds control characters: 'a\\u202eb'"),
        ({"a\n": 1}, dict[str, int], "it holds control characters: 'a\\n'"),
        (
            {"a": {"b" * 99: []}},
            dict[str, dict[str, int]],
            "a." + repr("b" * 27 + "..." + "b" * 28) + " is [], must be",
        ),
    ],
)
def test_an_error_names_the_limits_of_a_value(value: Any, kind: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        decode(value, kind)


def test_values_within_limits_are_admitted() -> None:
    assert decode({"a": 0}, dict[str, Count]) == {"a": 0}
    assert math.isnan(decode(None, Share)) and decode(None, Share | None) is None
    assert decode("a\u0301 \u00a0 \U0001f9e0", Name) == "a\u0301 \u00a0 \U0001f9e0"
    assert decode("...", FileName) == "..."
