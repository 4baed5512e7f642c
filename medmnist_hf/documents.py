"""JSON and YAML from outside: of limited depth and number of values, or one line says what is wrong.

Every such document is parsed here, and nowhere else, so that none can take all memory, all time or the stack.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import yaml

from medmnist_hf.errors import one_line, shorten

MAX_DEPTH: Final = 40
"""Values within values; a manifest has 6, a card's metadata 8."""

YAML_BYTES: Final = 256 << 10
"""Size of the largest YAML text; a recipe has 2 kB, the metadata of the longest card 6 kB. PyYAML takes a second for
100 kB."""

MAX_YAML_VALUES: Final = 50_000
"""Values of a YAML text, each counted as often as an alias names it."""

_LONGEST: Final = 300
"""Characters of a parser's message that are passed on."""

MAX_WHOLE: Final = 1 << 64
"""What no whole number exceeds in size: seeds and counts of bytes have 64 bits."""


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Args:
        text: The text; bytes are UTF-8.

    Raises:
        ValueError: It is not JSON, is nested too deep, or holds a whole number or a text that nothing can store.
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


def parse_yaml(text: str) -> Any:
    """The value of a YAML text of plain values; Python objects are refused.

    Raises:
        ValueError: It is not YAML, is nested too deep, is too large or becomes so by its aliases, or holds a whole
            number, a date or a text that nothing can store.
    """
    if len(text) > YAML_BYTES:
        raise ValueError(f"it has more than {YAML_BYTES:,} characters")
    try:
        _count_values(text)
        value = yaml.safe_load(text)
    # What is not ValueError comes from values that PyYAML's constructors do not expect, such as ``!!bool x``.
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


def _cause(error: Exception) -> str:
    """What a parser says, without the advice of Python to allow longer numbers."""
    text = one_line(error).partition("; use sys.set_int_max")[0] or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _count_values(text: str) -> None:
    """Refuse, before anything is made of it, a text that is too deep or that aliases make too large."""
    sizes: dict[str, int] = {}
    open_values: list[tuple[str | None, int]] = []  # anchor and values so far, from the outermost to the innermost
    total = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_values.append((event.anchor, 1))
            if len(open_values) > MAX_DEPTH:
                raise ValueError(_TOO_DEEP)
            continue
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias {shorten(event.anchor)} stands before or within what it names")
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
    left = [(value, 1)]
    while left:
        item, depth = left.pop()
        if isinstance(item, Mapping | list | tuple):
            if depth > MAX_DEPTH:
                raise ValueError(_TOO_DEEP)
            parts = (*item, *item.values()) if isinstance(item, Mapping) else item
            left += [(part, depth + 1) for part in parts]
        elif isinstance(item, str):
            try:
                item.encode()
            except UnicodeEncodeError:
                raise ValueError(f"{shorten(item)} is not text: half a character") from None
        elif isinstance(item, int) and abs(item) > MAX_WHOLE:
            raise ValueError(f"{shorten(item)} is too large")


_TOO_DEEP: Final = f"values are nested deeper than {MAX_DEPTH} levels"
