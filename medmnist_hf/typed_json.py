"""Convert dataclasses to JSON and back, checking every value against the type of its attribute.

A type can be narrowed: ``Annotated[int, Bounds(0)]``, ``Annotated[str, Pattern("[0-9a-f]{32}", "32 hex digits")]``,
``Annotated[str, OneOf("png", "webp")]``. Text must be on one line and without control characters. Numbers that are not
finite are written as null, and null is read as nan where a float is expected.

Example:
    >>> from medmnist_hf.typed_json import Count, decode
    >>> decode({"train": -1}, dict[str, Count])
    Traceback (most recent call last):
    ValueError: train is -1, must be an integer from 0 to 9223372036854775807
"""

import dataclasses
import difflib
import json
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
"""Key in a field's metadata for its name in JSON, where it differs."""

_JSON_TYPES: Final[dict[type, tuple[Any, str]]] = {
    dict: (dict, "an object"),
    tuple: (list, "a list"),
    str: (str, "text"),
    bool: (bool, "true or false"),
    int: (int, "an integer"),
    float: (int | float, "a number"),
}
"""Type -> its JSON type and description; other types are objects."""

OPTIONAL: Final = {"optional": True}
"""Metadata of a field that older files lack: absent in JSON if it is None, which must be its default."""

_MAX_NAME: Final = 60
_FEW: Final = 12
"""Number of attributes up to which an error names them all."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Numbers from a lower to an upper bound, both included."""

    at_least: float = -math.inf
    at_most: float = math.inf

    def admits(self, value: float) -> bool:
        """Return whether a number is within the bounds; nan, an unknown value, is admitted."""
        return math.isnan(value) or self.at_least <= value <= self.at_most

    def __str__(self) -> str:
        return f"{self.at_least} or more" if math.isinf(self.at_most) else f"from {self.at_least} to {self.at_most}"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Texts that a regular expression fully matches; `description` completes "must be" in an error message."""

    expression: str
    description: str

    def admits(self, value: str) -> bool:
        """Return whether the expression matches the whole text."""
        return re.fullmatch(self.expression, value) is not None

    def __str__(self) -> str:
        return self.description


class OneOf:
    """Texts from a fixed list."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def admits(self, value: str) -> bool:
        """Return whether the text is in the list."""
        return value in self.choices

    def __str__(self) -> str:
        return f"one of {', '.join(self.choices)}"


Count = Annotated[int, Bounds(0, (1 << 63) - 1)]
"""A count, or a size in bytes."""

Sha256 = Annotated[str, Pattern("[0-9a-f]{64}", "64 hex digits")]
Md5 = Annotated[str, Pattern("[0-9a-f]{32}", "32 hex digits")]

Name = Annotated[str, Pattern(".{1,255}", "1 to 255 characters long")]
"""A name of any kind."""

Sentence = Annotated[str, Pattern(".{1,2000}", "1 to 2,000 characters long")]

Share = Annotated[float, Bounds(0, 1)]

FileName = Annotated[str, Pattern(r"(?!\.{1,2}$)[^/]{1,255}", "a file name without a folder")]


def encode(value: Any) -> Any:
    """Convert a value to JSON types; a dataclass becomes an object in field order unless it has ``to_json_value``."""
    if hasattr(value, "to_json_value"):
        return encode(value.to_json_value())
    if dataclasses.is_dataclass(value):
        fields = {name: (getattr(value, field.name), field) for name, (field, _) in attributes(type(value)).items()}
        return {name: encode(own) for name, (own, field) in fields.items() if own is not None or not _optional(field)}
    if isinstance(value, Mapping):
        return {str(name): encode(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def text_of(value: object) -> str:
    """The text of a JSON file with a value."""
    return json.dumps(encode(value), indent=2, allow_nan=False) + "\n"


def decode(value: Any, kind: Any, where: str = "") -> Any:
    """Convert a JSON value to a type.

    Args:
        value: A value from `documents.parse_json`; an instance of the requested dataclass is returned unchanged.
        kind: A dataclass, str, bool, int, float, tuple, ``dict[str, X]`` or a subclass of it, ``X | None``, Any, or
            one of these in ``Annotated`` with `Bounds`, `Pattern` or `OneOf`. A dataclass may define
            ``from_json_value(value, where)``.
        where: Name of the value in an error message; empty for the whole document.

    Raises:
        ValueError: A value has the wrong type or is outside its limits, or an attribute is missing or unknown.
    """
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Any:
        return value
    if origin is Annotated:
        return _check_limits(decode(value, arguments[0], where), arguments[0], arguments[1:], where)
    if origin in {Union, UnionType}:  # X | None
        return None if value is None else decode(value, arguments[0], where)
    if isinstance(origin, type) and dataclasses.is_dataclass(origin) and isinstance(value, origin):
        return value
    if origin is float and value is None:
        return math.nan
    json_type, description = _JSON_TYPES.get(origin, _JSON_TYPES[dict])
    if not isinstance(value, json_type) or (isinstance(value, bool) and origin is not bool):
        raise ValueError(f"{where or 'it'} is {shorten(value)}, must be {description}")
    _check_scalar(value, where)
    if hasattr(origin, "from_json_value"):
        return origin.from_json_value(value, where)
    if origin is tuple:
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise ValueError(f"{where or 'it'} has {len(value)} entries, must have {len(kinds)}")
        return tuple(decode(item, kinds[index], f"{where}[{index}]") for index, item in enumerate(value))
    if issubclass(origin, dict):
        key = arguments[0] if len(arguments) > 1 else str
        return origin(
            {decode(name, key, where): decode(item, arguments[-1], _join(where, name)) for name, item in value.items()}
        )
    return _decode_record(value, origin, where) if dataclasses.is_dataclass(origin) else value


def decode_versioned(text: str | bytes, kind: Any, version: int) -> Any:
    """Parse the text of a JSON file with a ``format`` version and convert it to a dataclass.

    Raises:
        ValueError: The text is not JSON, has another format version, or holds a value that `decode` refuses.
    """
    table = decode(parse_json(text), dict[str, Any])
    file_version = table.pop("format", None)
    if file_version != version or isinstance(file_version, bool):
        raise ValueError("another format version")
    return decode(table, kind)


def _decode_record(table: dict[str, Any], kind: Any, where: str) -> Any:
    fields = attributes(kind)
    required = [name for name, (field, _) in fields.items() if not _optional(field)]
    mismatches = [name for name in (*required, *table) if name not in table or name not in fields]
    if mismatches:
        name = mismatches[0]
        meant = difflib.get_close_matches(str(name)[:_MAX_NAME], fields, 1)
        hint = f": did you mean {meant[0]}?" if meant else f": choose from {', '.join(fields)}" * (len(fields) <= _FEW)
        unknown = f"has an unknown attribute {shorten(name)}{hint}"
        raise ValueError(f"{where or 'it'} {f'lacks {name}' if name in fields else unknown}")
    return kind(
        **{
            field.name: decode(table[name], field_kind, _join(where, name))
            for name, (field, field_kind) in fields.items()
            if name in table
        }
    )


def _optional(field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("optional"))


def attributes(kind: Any) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """Return the fields of a dataclass with their types, by name in JSON."""
    return _attributes(kind)


@cache
def _attributes(kind: Any) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    types = get_type_hints(kind, include_extras=True)
    return {field.metadata.get(IN_FILE, field.name): (field, types[field.name]) for field in dataclasses.fields(kind)}


def _join(where: str, name: str) -> str:
    _check_line(name, where)
    name = name if len(name) <= _MAX_NAME else shorten(name)
    return f"{where}.{name}" if where else name


def _check_limits(value: Any, kind: Any, limits: Iterable[Any], where: str) -> Any:
    for limit in limits:
        if not limit.admits(value):
            noun = f"{_JSON_TYPES[kind][1]} " if kind in {int, float} else ""  # limits on text read as a noun
            raise ValueError(f"{where or 'it'} is {shorten(value)}, must be {noun}{limit}")
    return value


def _check_scalar(value: Any, where: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where or 'it'} is {shorten(value)}, must be finite")
    if isinstance(value, str):
        _check_line(value, where)


def _check_line(text: str, where: str) -> None:
    if UNPRINTABLE.search(text):
        raise ValueError(f"{where or 'it'} holds control characters: {shorten(text)}")
