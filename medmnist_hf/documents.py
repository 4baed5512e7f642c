"""Parse untrusted JSON and YAML with limits on depth and size; errors are one line.

All such documents are parsed here, so that none can exhaust memory, time or the stack.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import yaml

from medmnist_hf.errors import one_line, shorten

MAX_DEPTH: Final = 40
"""Deepest nesting of values; a manifest has 6 levels, a card's metadata 8."""

YAML_BYTES: Final = 256 << 10
"""Longest YAML text, in characters. A recipe has 2 kB, the longest card's metadata 6 kB; PyYAML needs a second for
100 kB."""

MAX_YAML_VALUES: Final = 50_000
"""Most values in a YAML text, with aliases expanded."""

_MAX_CAUSE: Final = 300
"""Characters of a parser's message that are quoted."""

MAX_INTEGER: Final = 1 << 64
"""Largest magnitude of an integer; seeds and byte counts have 64 bits."""


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON text.

    Args:
        text: The text; bytes are decoded as UTF-8.

    Raises:
        ValueError: The text is not JSON, is nested too deeply, or holds an integer that is too large or a string that
            cannot be encoded.
    """
    try:
        value = json.loads(text.decode() if isinstance(text, bytes) else text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except ValueError as error:
        raise ValueError(_cause(error)) from None
    _check_values(value)
    return value


def parse_yaml(text: str, *, unique_keys: bool = False) -> Any:
    """Parse a YAML text of plain values; tags for Python objects are refused.

    Args:
        text: The text.
        unique_keys: Refuse a key that appears twice in a table, of which a reader may see another one than is used.

    Raises:
        ValueError: The text is not YAML, is nested too deeply, is too large (with aliases expanded), or holds an
            invalid date, an integer that is too large or a string that cannot be encoded.
    """
    if len(text) > YAML_BYTES:
        raise ValueError(f"it has more than {YAML_BYTES:,} characters")
    try:
        _count_values(text)
        value = yaml.load(text, _UniqueKeys if unique_keys else yaml.SafeLoader)
    # PyYAML's constructors raise several types for values they do not expect, such as ``!!bool x``.
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
        OverflowError,
        TypeError,
        AttributeError,
        LookupError,
    ) as error:
        raise ValueError(_cause(error)) from None
    _check_values(value)
    return value


_MERGE: Final = "tag:yaml.org,2002:merge"
"""Tag of the key ``<<``, which stands for other keys."""


class _UniqueKeys(yaml.SafeLoader):  # type: ignore[misc]
    """The safe loader, which refuses a key that appears twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = set()
        for name, _ in node.value:
            if name.tag == _MERGE:
                continue
            key = self.construct_object(name, deep=True)
            if key in keys:
                raise ValueError(f"the key {shorten(key)} appears twice")
            keys.add(key)
        return super().construct_mapping(node, deep=deep)


def _cause(error: Exception) -> str:
    """Return a parser's message, without Python's advice to allow longer integers."""
    text = one_line(error).partition("; use sys.set_int_max")[0] or type(error).__name__
    return text if len(text) <= _MAX_CAUSE else f"{text[:_MAX_CAUSE]}..."


def _count_values(text: str) -> None:
    """Refuse a text that is nested too deeply, or too large once its aliases are expanded, before constructing it."""
    sizes: dict[str, int] = {}
    open_values: list[tuple[str | None, int]] = []  # anchor and number of values so far, outermost first
    total = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_values.append((event.anchor, 1))
            if len(open_values) > MAX_DEPTH:
                raise ValueError(_TOO_DEEP)
            continue
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias {shorten(event.anchor)} comes before the end of the value it refers to")
            size = sizes[event.anchor]
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_values.pop()
            sizes |= {anchor: size} if anchor else {}
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            sizes |= {event.anchor: 1} if event.anchor else {}
        else:
            continue
        if open_values:
            anchor, before = open_values[-1]
            open_values[-1] = (anchor, before + size)
            size += before
        total = max(total, size)
        if total > MAX_YAML_VALUES:
            raise ValueError(f"it has more than {MAX_YAML_VALUES:,} values")


def _check_values(value: Any) -> None:
    pending = [(value, 1)]
    while pending:
        item, depth = pending.pop()
        if isinstance(item, Mapping | list | tuple):
            if depth > MAX_DEPTH:
                raise ValueError(_TOO_DEEP)
            parts = (*item, *item.values()) if isinstance(item, Mapping) else item
            pending += [(part, depth + 1) for part in parts]
        elif isinstance(item, str):
            try:
                item.encode()
            except UnicodeEncodeError:
                raise ValueError(f"{shorten(item)} holds half of a surrogate pair") from None
        elif isinstance(item, int) and abs(item) > MAX_INTEGER:
            raise ValueError(f"{shorten(item)} is too large")


_TOO_DEEP: Final = f"values are nested deeper than {MAX_DEPTH} levels"
