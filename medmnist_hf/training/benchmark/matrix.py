"""Read the matrix of a benchmark, a YAML file of subsets, sizes, models and methods, as one recipe per cell.

The file has four parts, of which ``matrix`` or ``include`` is required. Options are the fields of a recipe, and
``preset``:

- ``defaults``: options of all cells.
- ``matrix``: options with a value or a list of values; every combination is a cell.
- ``exclude``: a list of entries with options; combinations that match all options of an entry are removed.
- ``include``: a list of further matrices.

``seeds`` is the list of seeds of every cell; it does not create cells. An option applies to the cells whose method,
network and data use it; an option that none of its cells uses is refused.

Example:
    >>> from medmnist_hf.training.recipe import make_recipe
    >>> from medmnist_hf.training.run_folder import run_name
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
    type_of,
    unread_options,
    without_options,
)
from medmnist_hf.training.run_folder import pin_files, run_name
from medmnist_hf.training.values import read_yaml

PRESET: Final = "preset"
_PARTS: Final = ("defaults", "matrix", "exclude", "include")
_LONGEST_MODEL: Final = 60
_OPTION: Final = (
    r"(?P<kept>medmnist-hf [^,;()]+|{given})"
    r"|(?<!\S)--(?P<negated>no-)?(?P<name>[a-z][a-z-]*)"
    r"(?: (?P<value>{given}|(?!(?:or|and|to)\b|--)[^\s,;:()]+))?(?P<more> (?=--))?"
)
"""Matches a complete command or a given text, which are kept, or an option with its value. A conjunction after an
option continues the sentence, so it is not the value."""

EXAMPLE_FILE: Final = Path(__file__).with_name("example.yaml")
"""A matrix to start from."""

MAX_CELLS: Final = 10_000
"""Largest number of cells of a matrix; the catalog's 60 configs with 9 methods and 18 models make 9,720."""


@dataclass(frozen=True, slots=True)
class BenchmarkRun:
    """One configuration of a benchmark, with all its seeds.

    Attributes:
        name: Name of its folder, see `run_name`.
        recipe: Recipe of its run.
    """

    name: str
    recipe: Recipe


def read_matrix(path: Path) -> tuple[BenchmarkRun, ...]:
    """Read all cells of a matrix, in the order of the file, and check them.

    Args:
        path: The YAML file.

    Raises:
        TrainingError: The file cannot be read or is not a matrix, or a cell, which the message names, is not a valid
            recipe.
    """
    parts = _read(path)
    defaults = _values(parts.get("defaults", {}), f"{path}: defaults")
    combinations = list(_product(parts["matrix"], "matrix", path)) if "matrix" in parts else []
    for at, rule in enumerate(_entries(parts, "exclude", path), 1):
        choices = {name: _texts(excluded) for name, excluded in rule.items()}
        where = f"{path}: exclude {at}"
        kept = [each for each in combinations if not _matches(defaults | each.values, choices, where)]
        if len(kept) == len(combinations):
            raise TrainingError(f"{where} ({_describe(rule)}) matches no cell: fix or remove it")
        combinations = kept
    for at, values in enumerate(_entries(parts, "include", path), 1):
        combinations += _product(values, f"include {at}", path, MAX_CELLS - len(combinations))
    if not combinations:
        raise TrainingError(f"{path} has no cells: add matrix or include")
    cells: dict[str, BenchmarkRun] = {}
    unread: dict[tuple[str, str], str] = {}
    read: set[tuple[str, str]] = set()
    for combination in combinations:
        where = f"{path}: cell {_describe(combination.values)}"
        options = defaults | combination.values
        recipe = _recipe(options, where)
        if recipe.is_joint:
            raise TrainingError(f"{where}: a cell has one subset: list several as [pathmnist, bloodmnist]")
        options.pop(PRESET, None)
        idle = unread_options(recipe, options)
        for option in options:
            place = (combination.part if option in combination.values else "defaults", option)
            if option in idle:
                unread[place] = idle[option]
            else:
                read.add(place)
        recipe = without_options(recipe, idle)
        name = run_name(recipe)
        if name in cells:
            reasons = f" ({', '.join(f'{option}: {reason}' for option, reason in idle.items())})" if idle else ""
            raise TrainingError(f"{where}: the same configuration as another cell{reasons}: remove one of them")
        cells[name] = BenchmarkRun(name, recipe)
    for part, option in unread.keys() - read:
        reason = unread[part, option]
        raise TrainingError(f"{path}: {part}: {option} would change nothing in any cell ({reason}): remove it there")
    return tuple(cells.values())


def replace_options(message: object, values: Iterable[object] = ()) -> str:
    """Replace command-line options in a message by the keys of a matrix; complete commands are kept.

    Args:
        message: The message.
        values: Values of the cell that the message is about; where it quotes them, they are kept too.

    Example:
        >>> replace_options("it has no weights: give --no-pretrained, or --image-size 32")
        'it has no weights: give pretrained: false, or image_size: 32'
    """
    texts = sorted((value for value in values if isinstance(value, str) and "--" in value), key=len, reverse=True)
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
    """Create the recipe of a cell, whose options may include a preset."""
    values = dict(options)
    preset = values.pop(PRESET, None)
    if preset is not None and not isinstance(preset, str):
        raise TrainingError(f"{where}: preset is {shorten(preset)}: give the name of a preset")
    if values.get("dataset") is None:
        raise TrainingError(f"{where}: no data set: add it below matrix or defaults, e.g. dataset: pathmnist")
    try:
        return pin_files(make_recipe(values, preset=preset))
    except MedMNISTError as error:
        raise TrainingError(f"{where}: {replace_options(error, values.values())}") from None


@dataclass(frozen=True, slots=True)
class _Combination:
    """Options of a cell, and the part of the file that they come from."""

    part: str
    values: dict[str, Any]


def _read(path: Path) -> dict[str, Any]:
    parts = read_yaml(path, "the YAML file of a matrix")
    if not isinstance(parts, dict):
        raise TrainingError(f"{path} has none of the parts of a matrix: {', '.join(_PARTS)}")
    unknown = [name for name in parts if name not in _PARTS]
    if unknown:
        names = ", ".join(map(_quote, unknown))
        hints = dict.fromkeys(_hint(name) for name in unknown)
        noun = "entries" if len(unknown) > 1 else "entry"
        raise TrainingError(f"{path}: unknown {noun} {names}: {'; '.join(hints)}")
    return parts


def _hint(name: Any) -> str:
    """Suggest a correction of a name at the top level of a matrix that is not one of its parts."""
    if part := difflib.get_close_matches(str(name), _PARTS, 1):
        return f"did you mean {part[0]}?"
    long = next((long for long, short in SHORT.items() if short == name), None)
    close = [long] if long else difflib.get_close_matches(str(name), [PRESET, *FIELDS], 1)
    return f"write {close[0]} below matrix or defaults" if close else f"the parts are {', '.join(_PARTS)}"


def _entries(parts: Mapping[str, Any], part: str, path: Path) -> list[dict[str, Any]]:
    entries = parts.get(part, [])
    if not isinstance(entries, list):
        raise TrainingError(f"{path}: {part} is not a list: start each of its entries with a dash")
    return [_values(entry, f"{path}: {part} {at}") for at, entry in enumerate(entries, 1)]


def _values(part: Any, where: str) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise TrainingError(f"{where} has no options: write NAME: VALUE")
    return part


def _product(content: Any, part: str, path: Path, limit: int = MAX_CELLS) -> Iterator[_Combination]:
    """Yield every combination of values, where a list means each of its entries; at most `limit` are allowed."""
    where = f"{path}: {part}"
    values = _values(content, where)
    axes = [value if isinstance(value, list) and name != SEEDS else [value] for name, value in values.items()]
    for name, axis in zip(values, axes, strict=True):
        if not axis:
            raise TrainingError(f"{where}: {_quote(name)} is an empty list: give at least one value")
        if name != SEEDS and any(isinstance(value, list | dict) for value in axis):
            raise TrainingError(f"{where}: {_quote(name)} has nested lists: give a list of plain values")
    if (cells := math.prod(map(len, axes))) > limit:
        raise TrainingError(f"{where} makes {cells:,} cells, but a matrix has at most {MAX_CELLS:,}: split it")
    for combination in itertools.product(*axes):
        yield _Combination(part, dict(zip(values, combination, strict=True)))


def _matches(values: Mapping[str, Any], choices: Mapping[str, frozenset[str]], where: str) -> bool:
    """Whether every option of a rule has one of the rule's values, compared as text."""
    for name, texts in choices.items():
        if name not in values:
            raise TrainingError(f"{where} uses {_quote(name)}, which is not in defaults or matrix: remove it there")
        if str(values[name]).casefold() not in texts:
            return False
    return True


def _texts(excluded: Any) -> frozenset[str]:
    """The values of a rule as text; a list means any of its entries."""
    return frozenset(str(choice).casefold() for choice in (excluded if isinstance(excluded, list) else [excluded]))


def _describe(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{_quote(name)} {_quote(value)}" for name, value in values.items())


def _quote(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= _LONGEST_MODEL else shorten(value)
