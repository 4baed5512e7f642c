"""Dataclasses as JSON and back: what is read is of the types that the attributes have, or one line says what is not.

A type may be narrowed: ``Annotated[int, Bounds(0)]``, ``Annotated[str, Pattern("[0-9a-f]{32}", "32 hex digits")]``,
``Annotated[str, OneOf("png", "webp")]``. All text is of one line, without control characters. Numbers that are not
finite are null in JSON, and nan when they are read as a float.

Example:
    >>> from medmnist_hf.typed_json import Count, decode
    >>> decode({"train": -1}, dict[str, Count])
    Traceback (most recent call last):
    ValueError: train is -1, must be a whole number from 0 to 9223372036854775807
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from medmnist_hf.documents import parse_json
from medmnist_hf.errors import UNPRINTABLE, shorten

IN_FILE: Final = "in_file"
"""Metadata of an attribute: its name in JSON, where that is another."""

_JSON_TYPES: Final[dict[type, tuple[Any, str]]] = {
    dict: (dict, "an object"),
    tuple: (list, "a list"),
    str: (str, "text"),
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: (int | float, "a number"),
}
"""Type of a value -> what it is in JSON, also in words; what is not named is an object."""

_LONGEST_NAME: Final = 60


@dataclass(frozen=True, slots=True)
class Bounds:
    """Numbers within bounds, both included."""

    at_least: float = -math.inf
    at_most: float = math.inf

    def admits(self, value: float) -> bool:
        """The number is within them; one that is not known, nan, is as well."""
        return math.isnan(value) or self.at_least <= value <= self.at_most

    def __str__(self) -> str:
        return f"{self.at_least} or more" if math.isinf(self.at_most) else f"from {self.at_least} to {self.at_most}"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Texts that a regular expression matches as a whole, which `in_words` describes."""

    expression: str
    in_words: str

    def admits(self, value: str) -> bool:
        """The expression matches the text."""
        return re.fullmatch(self.expression, value) is not None

    def __str__(self) -> str:
        return self.in_words


class OneOf:
    """Texts of a list."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def admits(self, value: str) -> bool:
        """The text is in the list."""
        return value in self.choices

    def __str__(self) -> str:
        return f"one of {', '.join(self.choices)}"


Count = Annotated[int, Bounds(0, (1 << 63) - 1)]
"""A number of things, or a size in bytes."""

Sha256 = Annotated[str, Pattern("[0-9a-f]{64}", "64 hex digits")]
Md5 = Annotated[str, Pattern("[0-9a-f]{32}", "32 hex digits")]

Name = Annotated[str, Pattern(".{1,255}", "of 1 to 255 characters")]
"""A name of anything, on one line as all text is."""

Sentence = Annotated[str, Pattern(".{1,2000}", "of 1 to 2,000 characters")]

Share = Annotated[float, Bounds(0, 1)]

FileName = Annotated[str, Pattern(r"(?!\.{1,2}$)[^/]{1,255}", "the name of a file, without a folder")]


def encode(value: Any) -> Any:
    """A value as JSON: a dataclass as an object, in the order of its attributes, or as its ``to_json_value`` says."""
    if hasattr(value, "to_json_value"):
        return encode(value.to_json_value())
    if dataclasses.is_dataclass(value):
        return {name: encode(getattr(value, one.name)) for name, (one, _) in attributes(type(value)).items()}
    if isinstance(value, Mapping):
        return {str(name): encode(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [encode(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def decode(value: Any, kind: Any, where: str = "") -> Any:
    """A value of JSON as a type.

    Args:
        value: What `documents.parse_json` gives; a dataclass that is there already stays.
        kind: A dataclass, str, bool, int, float, tuple, ``dict[str, X]`` or a subclass of it, ``X | None``, Any, or
            one of these in ``Annotated`` with `Bounds`, `Pattern` or `OneOf`. A dataclass may have a
            ``from_json_value(value, where)`` of its own.
        where: What to call the value in an error; empty for the whole.

    Raises:
        ValueError: The value, or one within it, is of another type or beyond its limits, is missing or has no place.
    """
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Any:
        return value
    if origin is Annotated:
        return _within_limits(decode(value, arguments[0], where), arguments[0], arguments[1:], where)
    if origin in {Union, UnionType}:  # with None
        return None if value is None else decode(value, arguments[0], where)
    if isinstance(origin, type) and dataclasses.is_dataclass(origin) and isinstance(value, origin):
        return value
    if origin is float and value is None:
        return math.nan
    json_type, in_words = _JSON_TYPES.get(origin, _JSON_TYPES[dict])
    if not isinstance(value, json_type) or (isinstance(value, bool) and origin is not bool):
        raise ValueError(f"{where or 'it'} is {shorten(value)}, must be {in_words}")
    _check_scalar(value, where)
    if hasattr(origin, "from_json_value"):
        return origin.from_json_value(value, where)
    if origin is tuple:
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise ValueError(f"{where or 'it'} has {len(value)} entries, must have {len(kinds)}")
        return tuple(decode(one, kinds[at], f"{where}[{at}]") for at, one in enumerate(value))
    if issubclass(origin, dict):
        key = arguments[0] if len(arguments) > 1 else str
        return origin(
            {decode(name, key, where): decode(one, arguments[-1], _within(where, name)) for name, one in value.items()}
        )
    return _decode_record(value, origin, where) if dataclasses.is_dataclass(origin) else value


def decode_versioned(text: str | bytes, kind: Any, version: int) -> Any:
    """The text of a file whose object begins with its ``format``, as a dataclass.

    Raises:
        ValueError: It is not JSON, of another format, or holds something of another type.
    """
    table = decode(parse_json(text), dict[str, Any])
    found = table.pop("format", None)
    if found != version or isinstance(found, bool):
        raise ValueError("another format version")
    return decode(table, kind)


def _decode_record(table: dict[str, Any], kind: Any, where: str) -> Any:
    known = attributes(kind)
    different = [name for name in (*known, *table) if name not in table or name not in known]
    if different:
        name = different[0]
        raise ValueError(
            f"{where or 'it'} {f'lacks {name}' if name in known else f'has an unknown attribute {shorten(name)}'}"
        )
    values = {one.name: decode(table[name], one_kind, _within(where, name)) for name, (one, one_kind) in known.items()}
    return kind(**values)


def attributes(kind: Any) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """Names in JSON of the attributes of a dataclass -> each with its type."""
    return _attributes(kind)


@cache
def _attributes(kind: Any) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    types = get_type_hints(kind, include_extras=True)
    return {one.metadata.get(IN_FILE, one.name): (one, types[one.name]) for one in dataclasses.fields(kind)}


def _within(where: str, name: str) -> str:
    _check_line(name, where)
    name = name if len(name) <= _LONGEST_NAME else shorten(name)
    return f"{where}.{name}" if where else name


def _within_limits(value: Any, kind: Any, limits: Iterable[Any], where: str) -> Any:
    for limit in limits:
        if not limit.admits(value):
            noun = f"{_JSON_TYPES[kind][1]} " if kind in {int, float} else ""  # limits of text say all
            raise ValueError(f"{where or 'it'} is {shorten(value)}, must be {noun}{limit}")
    return value


def _check_scalar(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where or 'it'} is {shorten(value)}, must be finite")
    if isinstance(value, str):
        _check_line(value, where)


def _check_line(text: str, where: str) -> None:
    if UNPRINTABLE.search(text):
        raise ValueError(f"{where or 'it'} has text with control characters, {shorten(text)}")
