"""The AutoML engines that can be run, as typed facts.

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
    """One engine.

    Attributes:
        name: As people type it.
        title: As it writes itself.
        adapter: The script that runs it.
        lock: Requirements of pip, with the versions that it is known to run with.
        pythons: Releases of Python that the lock installs on, e.g. ``3.10``, the best first.
        inputs: What it reads: ``pixels``, ``features`` or ``images``, see ``adapters/job.py``.
        options: Options of a recipe that it reads besides its budget of time.
        resumes: A search that was broken off goes on from what it left.
        extra: The extra of this project that installs it; empty for none.
        preset: The preset of recipes with its published settings; empty for none.
        about: What it does, one line.
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
    """All engines, in the order of the file."""
    text = (resources.files("medmnist_hf.automl") / "engines.toml").read_text(encoding="utf-8")
    return tuple(_engine(name, facts) for name, facts in tomllib.loads(text).items())


def _engine(name: str, facts: dict[str, Any]) -> Engine:
    adapter = _FOLDER / "adapters" / facts.pop("script")
    listed: dict[str, Any] = {key: tuple(facts.pop(key)) for key in ("pythons", "inputs", "options")}
    lock = _FOLDER / "locks" / f"{name}.txt"
    return Engine(name=name, adapter=adapter, lock=lock, **listed, **facts)


def engine(name: str) -> Engine:
    """One engine by its name.

    Raises:
        TrainingError: There is none so called.
    """
    for one in engines():
        if one.name == name:
            return one
    raise TrainingError(f"unknown engine {shorten(name)}: choose from {', '.join(one.name for one in engines())}")
