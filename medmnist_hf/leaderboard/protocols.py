"""Protocols: which results may be compared, from ``protocols.toml``."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from medmnist_hf.errors import ScoreError, shorten
from medmnist_hf.leaderboard.results import UNKNOWN, Result, is_pretrained

OFFICIAL: Final = "official"
"""Name of the protocol of the MedMNIST v2 benchmark."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What decides which protocols an own result belongs to; attributes as those of `Result`."""

    size: int
    pretraining: str
    adaptation: str
    labels: str

    @property
    def pretrained(self) -> str:
        """Whether the weights were pretrained: ``yes``, ``no`` or ``unknown``."""
        return is_pretrained(self.pretraining)


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

    def admits(self, result: Result | Setting) -> bool:
        """Whether a result belongs here; unknown values are admitted."""
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


def protocols_of(setting: Setting) -> list[str]:
    """Names of the protocols that a result of a setting belongs to."""
    return [name for name, rules in protocols().items() if rules.admits(setting)]


def protocol(name: str) -> Protocol:
    """A protocol by its name.

    Raises:
        ScoreError: The name is unknown.
    """
    if name not in protocols():
        raise ScoreError(f"unknown protocol {shorten(name)}: choose from {', '.join(protocols())}")
    return protocols()[name]
