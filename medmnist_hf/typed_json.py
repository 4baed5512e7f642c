"""Dataclasses as JSON and back: what is read is of the types that the attributes have, or one line says what is not.

Numbers that are not finite are null in JSON, and nan when they are read as a float.
"""

import dataclasses
import json
import math
import reprlib
from collections.abc import Mapping
from types import UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

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
        value: What `json.loads` gives; a dataclass that is there already stays.
        kind: A dataclass, str, bool, int, float, tuple, ``dict[str, X]`` or a subclass of it, ``X | None`` or Any. A
            dataclass may have a ``from_json_value(value, where)`` of its own.
        where: What to call the value in an error; empty for the whole.

    Raises:
        ValueError: The value, or one within it, is of another type, is missing or has no place.
    """
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin is Any:
        return value
    if origin is UnionType:  # with None
        return None if value is None else decode(value, arguments[0], where)
    if isinstance(origin, type) and dataclasses.is_dataclass(origin) and isinstance(value, origin):
        return value
    if origin is float and value is None:
        return math.nan
    json_type, in_words = _JSON_TYPES.get(origin, _JSON_TYPES[dict])
    if not isinstance(value, json_type) or (isinstance(value, bool) and origin is not bool):
        raise ValueError(f"{where or 'it'} is {reprlib.repr(value)}, must be {in_words}")
    if hasattr(origin, "from_json_value"):
        return origin.from_json_value(value, where)
    if origin is tuple:
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise ValueError(f"{where or 'it'} has {len(value)} entries, must have {len(kinds)}")
        return tuple(decode(one, kinds[at], f"{where}[{at}]") for at, one in enumerate(value))
    if issubclass(origin, dict):
        return origin({name: decode(one, arguments[-1], _within(where, name)) for name, one in value.items()})
    return _decode_record(value, origin, where) if dataclasses.is_dataclass(origin) else value


def decode_versioned(text: str, kind: Any, version: int) -> Any:
    """The text of a file whose object begins with its ``format``, as a dataclass.

    Raises:
        ValueError: It is not JSON, of another format, or holds something of another type.
        RecursionError: It is nested too deep.
    """
    table = decode(json.loads(text), dict[str, Any])
    if table.pop("format", None) != version:
        raise ValueError("another format version")
    return decode(table, kind)


def _decode_record(table: dict[str, Any], kind: Any, where: str) -> Any:
    known = attributes(kind)
    different = [name for name in (*known, *table) if name not in table or name not in known]
    if different:
        name = different[0]
        raise ValueError(f"{where or 'it'} {'lacks' if name in known else 'has an unknown'} {name}")
    values = {one.name: decode(table[name], one_kind, _within(where, name)) for name, (one, one_kind) in known.items()}
    return kind(**values)


def attributes(kind: type[Any]) -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """Names in JSON of the attributes of a dataclass -> each with its type."""
    types = get_type_hints(kind)
    return {one.metadata.get(IN_FILE, one.name): (one, types[one.name]) for one in dataclasses.fields(kind)}


def _within(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
