"""Declare options, parse their values as written in a file or a command, and check their type and bounds.

Example:
    >>> parse_seconds("10m", "time_budget"), format_duration(5400.0)
    (600.0, '90m')
"""

import difflib
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from medmnist_hf.documents import YAML_BYTES, parse_yaml
from medmnist_hf.errors import UNPRINTABLE, TrainingError, cannot_read, shorten
from medmnist_hf.files import read_document

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smh]?)", re.ASCII)
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


def option(
    default: object,
    about: str,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
) -> Any:
    """Declare a field of a recipe.

    Args:
        default: Default value.
        about: Help text.
        at_least: Smallest number allowed.
        above: Exclusive lower bound.
        at_most: Largest number allowed.
    """
    return field(default=default, metadata={"help": about, "bounds": (at_least, above, at_most)})


def check_numbers(record: Any) -> None:
    """Check the numbers in a dataclass of such fields against their bounds.

    Raises:
        TrainingError: A number is not finite or out of bounds.
    """
    for declared in fields(record):
        name, value = declared.name, getattr(record, declared.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise TrainingError(f"{name} is {value}: must be a finite number")
        if isinstance(value, int | float) and (must := unmet_bound(value, *declared.metadata["bounds"])):
            raise TrainingError(f"{name} is {value}: must be {must}")


def parse_seconds(value: Any, where: str) -> float:
    """Parse a duration into seconds.

    Args:
        value: A number of seconds, or a string such as ``90``, ``90s``, ``10m`` or ``2h``.
        where: Name of the value in the error message.

    Raises:
        TrainingError: The value is not a duration.
    """
    match = _DURATION.fullmatch(str(value).strip())
    if match is None or isinstance(value, bool):
        raise TrainingError(f"{where} is {shorten(value)}: must be a duration such as 90s, 10m or 2h")
    return float(match[1]) * _UNITS[match[2]]


def format_duration(seconds: float) -> str:
    """Write seconds for `parse_seconds`, in the largest unit that gives a whole number."""
    unit = next((name for name in "hm" if seconds and seconds % _UNITS[name] == 0), "s")
    return f"{seconds / _UNITS[unit]:.15g}{unit}"


def unmet_bound(value: float, at_least: float, above: float, at_most: float) -> str:
    """Describe the bound that a value violates, e.g. ``1 or more``; empty if it is within bounds."""
    if value <= above:
        return f"above {above}"
    if at_least <= value <= at_most:
        return ""
    return f"{at_least} or more" if math.isinf(at_most) else f"in {max(at_least, above)}..{at_most}"


def parse_size(value: Any) -> Any:
    """Turn a size written as digits into a number; other values are returned unchanged."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value) else value


def typed_value(value: Any, kind: Any, where: str) -> Any:
    """Convert a value of a YAML file or a command to the type of its field; raises a `TrainingError` if it cannot."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        words = [str(word) for argument in arguments for word in get_args(argument)]
        (inner,) = (argument for argument in arguments if argument is not type(None) and not get_args(argument))
        if value is None or value in words:
            return value
        try:
            return typed_value(value, inner, where)
        except TrainingError:
            if not words:
                raise
            expected = " or ".join((inner.__name__, *words))
            raise TrainingError(f"{where} is {shorten(value)}: must be {expected}") from None
    if origin is Literal:
        choices = {str(choice): choice for choice in arguments}
        if isinstance(value, bool) or str(value) not in choices:
            raise TrainingError(f"{where} is {shorten(value)}: choose from {', '.join(choices)}")
        return choices[str(value)]
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise TrainingError(f"{where} is {shorten(value)}: give a list")
        return tuple(typed_value(item, arguments[0], where) for item in value)
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):  # YAML reads 1e-3 as text
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TrainingError(f"{where} is {shorten(value)}: must be {kind.__name__}")
    if isinstance(value, str) and UNPRINTABLE.search(value):
        raise TrainingError(f"{where} is {shorten(value)}: must be text without control characters")
    return value


def unknown_option(name: object, known: Collection[str], short: Mapping[str, str]) -> str:
    """The error message for an unknown option, with the closest known name or, without one, all names.

    Args:
        name: The unknown option, as written.
        known: Names of all options.
        short: Option -> its short name.
    """
    text = shorten(name).strip("'")
    close = [long for long, other in short.items() if other == text] or difflib.get_close_matches(text, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"
    return f"unknown option {shorten(name)}: {hint}"


def read_yaml(path: Path, what: str) -> Any:
    """Parse a YAML file. Raises a `TrainingError` that asks for `what` if it cannot be read or parsed."""
    try:
        text = read_document(path, YAML_BYTES).decode()
    except OSError as error:
        raise TrainingError(cannot_read(path, error, f"give {what}")) from None
    except UnicodeDecodeError:
        raise TrainingError(f"cannot read {path} (not a text file): give {what}") from None
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise TrainingError(f"{path} is not a valid YAML file of options ({error}): fix it there") from None
