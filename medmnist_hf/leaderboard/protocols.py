"""Protocols: which results may be compared, from ``protocols.toml``."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from medmnist_hf.errors import ScoreError, shorten
from medmnist_hf.leaderboard.results import UNKNOWN

OFFICIAL: Final = "official"
"""Name of the protocol of the MedMNIST v2 benchmark."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """A setting whose results may be compared.

    Attributes:
        name: Its name on the command line.
        title: What its results have in common.
        description: The same in a sentence.
        where: Attribute of a result -> values that it may have.
    """

    name: str
    title: str
    description: str
    where: dict[str, tuple[Any, ...]]

    def admits(self, result: Any) -> bool:
        """Whether an object with the attributes of a `Result` belongs here; unknown values are admitted."""
        return all(getattr(result, name) in (*values, UNKNOWN) for name, values in self.where.items())


@cache
def protocols() -> dict[str, Protocol]:
    """All protocols by their names."""
    text = resources.files("medmnist_hf.leaderboard").joinpath("protocols.toml").read_text("utf-8")
    return {
        name: Protocol(
            name,
            table["title"],
            table["description"],
            {attribute: tuple(values) for attribute, values in table["where"].items()},
        )
        for name, table in tomllib.loads(text).items()
    }


def protocol(name: str) -> Protocol:
    """A protocol by its name.

    Raises:
        ScoreError: The name is unknown.
    """
    if name not in protocols():
        raise ScoreError(f"unknown protocol {shorten(name)}: choose from {', '.join(protocols())}")
    return protocols()[name]
