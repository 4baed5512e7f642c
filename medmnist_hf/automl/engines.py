"""The supported AutoML engines as dataclasses, read from ``engines.toml``.

Example:
    >>> engine("flaml").title
    'FLAML'
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from medmnist_hf.errors import TrainingError, shorten

_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An AutoML engine.

    Attributes:
        name: Name on the command line.
        title: Official spelling.
        adapter: The script that runs it.
        lock: Requirements file for pip with tested versions.
        pythons: Python versions that the lock installs on, e.g. ``3.10``, the preferred one first.
        inputs: Kinds of input that it reads: ``pixels``, ``features`` or ``images``, see ``adapters/job.py``.
        options: Recipe options that it reads in addition to the time budget.
        resumes: Whether it can resume an interrupted search.
        extra: The extra of this project that installs it; empty for none.
        preset: The recipe preset with its published settings; empty for none.
        about: What it does, in one line.
    """

    name: str
    title: str
    adapter: Path
    lock: Path
    pythons: tuple[str, ...]
    inputs: tuple[str, ...]
    options: tuple[str, ...]
    resumes: bool
    about: str
    extra: str = ""
    preset: str = ""


@cache
def engines() -> tuple[Engine, ...]:
    """Return all engines, in the order of the file."""
    text = (resources.files("medmnist_hf.automl") / "engines.toml").read_text(encoding="utf-8")
    return tuple(_engine(name, facts) for name, facts in tomllib.loads(text).items())


def _engine(name: str, facts: dict[str, Any]) -> Engine:
    adapter = _FOLDER / "adapters" / facts.pop("script")
    tuples: dict[str, Any] = {key: tuple(facts.pop(key)) for key in ("pythons", "inputs", "options")}
    lock = _FOLDER / "locks" / f"{name}.txt"
    return Engine(name=name, adapter=adapter, lock=lock, **tuples, **facts)


def engine(name: str) -> Engine:
    """Look up an engine by its name.

    Raises:
        TrainingError: The name is unknown.
    """
    by_name = {entry.name: entry for entry in engines()}
    if name not in by_name:
        raise TrainingError(f"unknown engine {shorten(name)}: choose from {', '.join(by_name)}")
    return by_name[name]
