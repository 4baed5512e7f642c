"""Values of options as people write them, in a file or a command, and what they must be.

Example:
    >>> seconds_of("10m", "time_budget"), duration_text(5400.0)
    (600.0, '90m')
"""

import difflib
import math
import re
from collections.abc import Collection, Mapping
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from medmnist_hf.errors import UNPRINTABLE, TrainingError, shorten

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smh]?)", re.ASCII)
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds_of(value: Any, where: str) -> float:
    """A duration in seconds.

    Args:
        value: A number of seconds, or a text such as ``90``, ``90s``, ``10m`` or ``2h``.
        where: What to call it in the `TrainingError` for anything else.
    """
    match = _DURATION.fullmatch(str(value).strip())
    if match is None or isinstance(value, bool):
        raise TrainingError(f"{where} is {shorten(value)}: must be a duration such as 90s, 10m or 2h")
    return float(match[1]) * _UNITS[match[2]]


def duration_text(seconds: float) -> str:
    """Seconds as a duration in the largest unit that it has a whole number of, as `seconds_of` reads it."""
    unit = next((name for name in "hm" if seconds and seconds % _UNITS[name] == 0), "s")
    return f"{seconds / _UNITS[unit]:.15g}{unit}"


def unmet(value: float, at_least: float, above: float, at_most: float) -> str:
    """What a value must be, by the bounds of its field, and is not; empty if it is."""
    if value <= above:
        return f"above {above}"
    if at_least <= value <= at_most:
        return ""
    return f"{at_least} or more" if math.isinf(at_most) else f"in {max(at_least, above)}..{at_most}"


def size_of(value: Any) -> Any:
    """A size as a number, which the name of a config is as text; what is none, as it is."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value) else value


def typed_value(value: Any, kind: Any, where: str) -> Any:
    """A value of a YAML file or a command as the type of its field; raises a `TrainingError` if it is none."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (inner,) = (one for one in arguments if one is not type(None))
        return None if value is None else typed_value(value, inner, where)
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
    """What to say of an option that there is not: which one is nearest, or all.

    Args:
        name: The option, as it was given.
        known: Names of those that there are.
        short: Name of an option -> what people type for it.
    """
    text = shorten(name).strip("'")
    close = [long for long, other in short.items() if other == text] or difflib.get_close_matches(text, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"
    return f"unknown option {shorten(name)}: {hint}"
