"""Rank models by BE: reports of this project and files in the form of medmnistc, subset by subset."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from medmnist_hf.corruptions.measures import BalancedErrors, balanced_errors, baseline
from medmnist_hf.corruptions.published_json import read_published
from medmnist_hf.errors import TrainingError
from medmnist_hf.files import expand_user
from medmnist_hf.training.robustness.results import RESULT_NAME, Robustness, read_robustness

ALEXNET: Final = "AlexNet"


@dataclass(frozen=True, slots=True)
class Ranked:
    """A line of a ranking.

    Attributes:
        subset: Flag of the subset.
        rank: From 1 for the lowest BE; None if the errors are not comparable.
        name: The model.
        errors: Its errors.
        notes: Why they are not comparable, or what differs in the file.
    """

    subset: str
    rank: int | None
    name: str
    errors: BalancedErrors
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MeanErrors:
    """Means of a model over the subsets on which all ranked models have errors.

    Attributes:
        name: The model.
        be: Mean BE.
        rbe: Mean rBE.
        clean: Mean clean error.
    """

    name: str
    be: float
    rbe: float
    clean: float


def rank(paths: Sequence[Path]) -> tuple[Ranked, ...]:
    """Read files and rank their models with AlexNet, within each subset by BE.

    Args:
        paths: Files ``robustness.json`` or folders with one, and files in the form of medmnistc.

    Returns:
        By subset; lines without a rank last.

    Raises:
        TrainingError: There are no files, or a report is missing or damaged.
        ScoreError: A file of another form.
    """
    if not paths:
        raise TrainingError("no files to compare: name robustness.json files, their folders or files of medmnistc")
    entries = [_read(expand_user(path)) for path in paths]
    lines: list[Ranked] = []
    for flag in dict.fromkeys(entry.subset for entry in entries):
        alexnet = baseline(flag)
        reference = Ranked(flag, 0, ALEXNET, balanced_errors(flag, alexnet.clean, alexnet.corrupted))
        lines += _ranked([*(entry for entry in entries if entry.subset == flag), reference])
    return tuple(lines)


def means(lines: Iterable[Ranked]) -> tuple[MeanErrors, ...]:
    """Means over subsets of the models with a rank in each of two subsets or more; empty if there are none."""
    by_name: dict[str, dict[str, BalancedErrors]] = {}
    subsets: dict[str, None] = {}
    for line in lines:
        subsets[line.subset] = None
        if line.rank is not None:
            by_name.setdefault(line.name, {})[line.subset] = line.errors
    complete = {name: list(found.values()) for name, found in by_name.items() if len(found) == len(subsets)}
    if len(subsets) < 2 or len(complete) < 2:
        return ()
    rows = [
        MeanErrors(name, *(statistics.fmean(getattr(each, of) for each in found) for of in ("be", "rbe", "clean")))
        for name, found in complete.items()
    ]
    return tuple(sorted(rows, key=lambda row: row.be))


def _read(path: Path) -> Ranked:
    if path.is_dir():
        path = path / RESULT_NAME
        reports = () if path.is_file() else sorted(path.parent.glob(f"robustness/*/{RESULT_NAME}"))
        if reports:
            places = ", ".join(str(each.parent) for each in reports)
            raise TrainingError(f"{path.parent} is a run, not a report: give {places}")
    if path.name == RESULT_NAME:
        result = read_robustness(path)
        place = None if result.caveats else 0
        return Ranked(result.identity.subset, place, _name(result), result.errors, (*result.caveats, *result.notes))
    found = read_published(path)
    caveats = list(found.caveats)
    if found.errors.missing and not caveats:
        caveats.append(f"Incomplete: without {', '.join(found.errors.missing)}.")
    name = f"{found.architecture} {found.suffix}".rstrip()
    return Ranked(found.errors.subset, None if caveats else 0, name, found.errors, (*caveats, *found.differences))


def _name(result: Robustness) -> str:
    return " ".join(filter(None, (result.model, result.method, result.suffix)))


def _ranked(entries: Sequence[Ranked]) -> list[Ranked]:
    """Number the entries with a rank by BE; equal ones share a rank."""
    comparable = sorted(entry.errors.be for entry in entries if entry.rank is not None)
    ordered = sorted(entries, key=lambda entry: (entry.rank is None, entry.errors.be))
    return [
        each if each.rank is None else replace(each, rank=comparable.index(each.errors.be) + 1) for each in ordered
    ]
