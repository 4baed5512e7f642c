"""A benchmark's matrix: a YAML file of subsets, sizes, models and methods, as one recipe for each of its cells.

The file has four parts, of which ``matrix`` or ``include`` must be there. Names are those of a recipe's fields, and
``preset``:

- ``defaults``: values of all cells.
- ``matrix``: values of which a list means each of its entries; every combination is a cell.
- ``exclude``: a list of values by name; combinations that have all of them are left out.
- ``include``: a list of further matrices.

``seeds`` is the list of seeds that every cell is run with; it makes no cells of its own. A value counts in the cells
whose method, network and data read it; one that none of its cells reads is refused.

Example:
    >>> from medmnist_hf.training.recipe import make_recipe, run_name
    >>> run_name(make_recipe({"dataset": "pathmnist", "model": "timm/resnet18"}))
    'pathmnist-28-timm-resnet18-finetune-1f5329c2'
"""

import difflib
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from medmnist_hf.errors import MedMNISTError, TrainingError, shorten
from medmnist_hf.training.recipe import (
    FIELDS,
    SEEDS,
    SHORT,
    Recipe,
    make_recipe,
    read_yaml,
    run_name,
    type_of,
    unread_options,
    without_options,
)

PRESET: Final = "preset"
_PARTS: Final = ("defaults", "matrix", "exclude", "include")
_LONGEST_MODEL: Final = 60
_OPTION: Final = (
    r"(?P<kept>medmnist-hf [^,;()]+|{given})"
    r"|(?<!\S)--(?P<negated>no-)?(?P<name>[a-z][a-z-]*)"
    r"(?: (?P<value>{given}|(?!(?:or|and|to)\b|--)[^\s,;:()]+))?(?P<more> (?=--))?"
)
"""A whole command in a message or a given text, or an option with its value, which is no word that goes on with the
sentence."""

MODEL: Final = Path(__file__).with_name("example.yaml")
"""A matrix to begin with."""

MAX_CELLS: Final = 10_000
"""Cells of the largest matrix: the catalogue's 60 configs with 9 methods and 18 models make 9,720."""


@dataclass(frozen=True, slots=True)
class BenchmarkRun:
    """One configuration of a benchmark, with all its seeds.

    Attributes:
        name: Name of its folder, see `run_name`.
        recipe: What it runs.
    """

    name: str
    recipe: Recipe


def read_matrix(path: Path) -> tuple[BenchmarkRun, ...]:
    """All cells of a matrix, in the order of the file, checked before any is run.

    Args:
        path: The YAML file.

    Raises:
        TrainingError: The file cannot be read, is no matrix, or one of its cells is no recipe; the cell is named.
    """
    parts = _read(path)
    defaults = _values(parts.get("defaults", {}), f"{path}: defaults")
    found = list(_product(parts["matrix"], "matrix", path)) if "matrix" in parts else []
    for at, rule in enumerate(_entries(parts, "exclude", path), 1):
        choices = {name: _texts(wanted) for name, wanted in rule.items()}
        kept = [one for one in found if not _matches(defaults | one.values, choices, f"{path}: exclude {at}")]
        if len(kept) == len(found):
            raise TrainingError(f"{path}: exclude {at} ({_in_words(rule)}) matches no cell: fix or remove it")
        found = kept
    for at, values in enumerate(_entries(parts, "include", path), 1):
        found += _product(values, f"include {at}", path, MAX_CELLS - len(found))
    if not found:
        raise TrainingError(f"{path} makes no cell: give matrix or include")
    cells: dict[str, BenchmarkRun] = {}
    unread: dict[tuple[str, str], str] = {}
    read: set[tuple[str, str]] = set()
    for one in found:
        where = f"{path}: cell {_in_words(one.values)}"
        options = defaults | one.values
        recipe = _recipe(options, where)
        options.pop(PRESET, None)
        idle = unread_options(recipe, options)
        for option in options:
            place = (one.part if option in one.values else "defaults", option)
            if option in idle:
                unread[place] = idle[option]
            else:
                read.add(place)
        recipe = without_options(recipe, idle)
        name = run_name(recipe)
        if name in cells:
            told = f" ({', '.join(f'{option}: {reason}' for option, reason in idle.items())})" if idle else ""
            raise TrainingError(f"{where}: the same configuration as another cell{told}: remove one of them")
        cells[name] = BenchmarkRun(name, recipe)
    for part, option in unread.keys() - read:
        reason = unread[part, option]
        raise TrainingError(f"{path}: {part}: {option} would change nothing in any cell ({reason}): remove it there")
    return tuple(cells.values())


def in_matrix_words(message: object, given: Iterable[object] = ()) -> str:
    """A message of a command in the words of a matrix; whole commands in it stay as they are.

    Args:
        message: The message.
        given: Values of the cell that it is about: what it quotes of them stays as it is, too.

    Example:
        >>> in_matrix_words("it has no weights: give --no-pretrained, or --image-size 32")
        'it has no weights: give pretrained: false, or image_size: 32'
    """
    texts = sorted((value for value in given if isinstance(value, str) and "--" in value), key=len, reverse=True)
    pattern = _OPTION.replace("{given}", "|".join(map(re.escape, texts)) or "(?!)")  # which matches nothing
    return re.sub(pattern, _as_key, str(message))


def _as_key(option: re.Match[str]) -> str:
    name = (option["name"] or "").replace("-", "_")
    field = next((long for long, short in SHORT.items() if short == name), name)
    if field not in FIELDS:
        return option[0]
    value, rest = option["value"], " and " if option["more"] else ""
    if option["negated"] and type_of(field) is not bool:
        return option[0]
    if type_of(field) is bool:
        return f"{field}: {'false' if option['negated'] else 'true'}{f' {value}' if value else ''}{rest}"
    return (f"{field}: {value}" if value else field) + rest


def _recipe(options: Mapping[str, Any], where: str) -> Recipe:
    """The recipe of a cell, whose options may name a preset."""
    values = dict(options)
    preset = values.pop(PRESET, None)
    if preset is not None and not isinstance(preset, str):
        raise TrainingError(f"{where}: preset is {shorten(preset)}: give its name")
    if values.get("dataset") is None:
        raise TrainingError(f"{where}: no dataset named: write it below matrix or defaults, e.g. dataset: pathmnist")
    try:
        return make_recipe(values, preset=preset)
    except MedMNISTError as error:
        raise TrainingError(f"{where}: {in_matrix_words(error, values.values())}") from None


@dataclass(frozen=True, slots=True)
class _Combination:
    """Values of a cell by name, and the part of the file that has them."""

    part: str
    values: dict[str, Any]


def _read(path: Path) -> dict[str, Any]:
    parts = read_yaml(path, "the YAML file of a matrix")
    if not isinstance(parts, dict):
        raise TrainingError(f"{path} has no parts: its parts are {', '.join(_PARTS)}")
    unknown = [name for name in parts if name not in _PARTS]
    if unknown:
        shown = ", ".join(map(_shown, unknown))
        hints = dict.fromkeys(_hint(name) for name in unknown)
        raise TrainingError(f"{path} has {shown}: {'; '.join(hints)}")
    return parts


def _hint(name: Any) -> str:
    """What to do about a name at the top of a matrix that is none of its parts."""
    if part := difflib.get_close_matches(str(name), _PARTS, 1):
        return f"did you mean {part[0]}?"
    long = next((long for long, short in SHORT.items() if short == name), None)
    close = [long] if long else difflib.get_close_matches(str(name), [PRESET, *FIELDS], 1)
    return f"write {close[0]} below matrix or defaults" if close else f"its parts are {', '.join(_PARTS)}"


def _entries(parts: Mapping[str, Any], part: str, path: Path) -> list[dict[str, Any]]:
    entries = parts.get(part, [])
    if not isinstance(entries, list):
        raise TrainingError(f"{path}: {part} is no list: start each of its entries with a dash")
    return [_values(entry, f"{path}: {part} {at}") for at, entry in enumerate(entries, 1)]


def _values(part: Any, where: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise TrainingError(f"{where} holds no options by name: write NAME: VALUE")
    return part


def _product(content: Any, part: str, path: Path, limit: int = MAX_CELLS) -> Iterator[_Combination]:
    """Every combination of values, of which lists are choices; more than `limit` are refused before any is made."""
    where = f"{path}: {part}"
    values = _values(content, where)
    axes = [value if isinstance(value, list) and name != SEEDS else [value] for name, value in values.items()]
    for name, axis in zip(values, axes, strict=True):
        if not axis:
            raise TrainingError(f"{where}: {_shown(name)} is an empty list: give one value or more")
        if name != SEEDS and any(isinstance(value, list | dict) for value in axis):
            raise TrainingError(f"{where}: {_shown(name)} has a list within a list: give values")
    if (cells := math.prod(map(len, axes))) > limit:
        raise TrainingError(f"{where} makes {cells:,} cells, and a matrix {MAX_CELLS:,} at most: split it")
    for combination in itertools.product(*axes):
        yield _Combination(part, dict(zip(values, combination, strict=True)))


def _matches(values: Mapping[str, Any], choices: Mapping[str, frozenset[str]], where: str) -> bool:
    """Whether each value that a rule names is one of the rule's choices, as texts."""
    for name, texts in choices.items():
        if name not in values:
            raise TrainingError(f"{where} names {_shown(name)}, which neither defaults nor matrix do: remove it there")
        if str(values[name]).casefold() not in texts:
            return False
    return True


def _texts(wanted: Any) -> frozenset[str]:
    """The choices of a rule as texts; a list means any of its entries."""
    return frozenset(str(choice).casefold() for choice in (wanted if isinstance(wanted, list) else [wanted]))


def _in_words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{_shown(name)} {_shown(value)}" for name, value in values.items())


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= _LONGEST_MODEL else shorten(value)
