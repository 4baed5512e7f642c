"""`medmnist_hf.documents`: no text exhausts memory, time or the stack, and each error is one line."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medmnist_hf.documents import MAX_DEPTH, MAX_YAML_VALUES, YAML_BYTES, parse_json, parse_yaml
from tests.fixtures.paths import ROOT
from tests.fixtures.yaml_bomb import BOMB

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 64), 1 << 64) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_json_round_trip(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


def test_yaml_anchors_are_resolved() -> None:
    text = "base: &base {epochs: 3, lr: 1.0e-3}\ncell: {<<: *base, epochs: 5}\nmodels: [a, &b b, *b]\n"
    expected = {"base": {"epochs": 3, "lr": 0.001}, "cell": {"epochs": 5, "lr": 0.001}, "models": ["a", "b", "b"]}
    assert parse_yaml(text) == expected
    for path in ROOT.rglob("medmnist_hf/**/*.yaml"):
        assert parse_yaml(path.read_text()) == yaml.safe_load(path.read_text())


MERGES = "a0: &a0 {k: v}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}]}}\n" for level in range(1, 20)
)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_json, "", "Expecting value"),
        (parse_json, b"\xff{}", "^it is not UTF-8$"),
        (parse_json, "[" * 100_000, "nested deeper"),
        (parse_json, "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested deeper"),
        (parse_json, '{"a": ' * 100_000, "nested deeper"),
        (parse_json, "9" * 5_000, "value has 5000 digits$"),
        (parse_json, "9" * 4_000, "an integer of 13,288 bits is too large"),
        (parse_json, '["\\ud800"]', "half of a surrogate pair"),
        (parse_json, '{"\\udfff": 1}', "half of a surrogate pair"),
        (parse_yaml, "[" * 100_000, "nested deeper"),
        (parse_yaml, "- " * 5_000, "nested deeper"),
        (parse_yaml, BOMB, f"more than {MAX_YAML_VALUES:,} values"),
        (parse_yaml, MERGES, f"more than {MAX_YAML_VALUES:,} values"),
        (parse_yaml, "x\n" * YAML_BYTES, "more than 262,144 characters"),
        (parse_yaml, "&a [*a]", "comes before the end of the value it refers to"),
        (parse_yaml, "a: *b", "comes before the end of the value it refers to"),
        (parse_yaml, "a: 2020-13-45", "month must be in 1..12"),
        (parse_yaml, "a: " + "9" * 5_000, "value has 5000 digits$"),
        (parse_yaml, "a: 0x" + "f" * 100_000, "an integer of 400,000 bits is too large"),
        (parse_yaml, "a: 1" + ":59" * 30_000, "bits is too large"),
        (parse_yaml, 'a: "\\ud800"', "half of a surrogate pair"),
        (parse_yaml, "!!python/object/apply:os.system [ls]", "could not determine a constructor"),
        (parse_yaml, "!<" + "a" * 100_000 + "> x", r"\.\.\.$"),
        (parse_yaml, "a: !!timestamp x", "."),
        (parse_yaml, "!!bool x", "."),
        (parse_yaml, "!!int ''", "."),
        (parse_yaml, "? [a]\n: 1\n? {b: 1}\n: 2", "unhashable"),
        (parse_yaml, "a: \x00", "unacceptable character"),
        (parse_yaml, "a: b: c", "not allowed here"),
    ],
)
def test_a_hostile_text_is_refused_quickly_in_one_line(
    parse: Callable[[str | bytes], Any], text: str | bytes, message: str
) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match=message) as caught:
        parse(text)
    assert time.process_time() - started < 3
    assert len(str(caught.value)) < 400 and str(caught.value).isprintable()


def test_a_key_that_appears_twice_is_refused_on_request() -> None:
    text = "a: &x {b: 1}\nc: {<<: *x, b: 2}\n"
    assert parse_yaml(text, unique_keys=True) == parse_yaml(text) == {"a": {"b": 1}, "c": {"b": 2}}
    for twice in ("a: 1\nb: 2\na: 3", "x: [{a: 1, a: 2}]", "? a\n: 1\n'a': 2"):
        assert parse_yaml(twice)
        with pytest.raises(ValueError, match="the key 'a' appears twice"):
            parse_yaml(twice, unique_keys=True)
    with pytest.raises(ValueError, match="unhashable"):
        parse_yaml("{[a]: 1}", unique_keys=True)
