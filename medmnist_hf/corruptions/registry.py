"""The corruptions of MedMNIST-C: which subset has which, in what order, and their parameters, from ``registry.csv``.

The names, their order and the parameters are those of MedMNIST-C (Di Salvo et al. 2024), release 0.1.0 of its package
``medmnistc``: https://github.com/francescodisalvo05/medmnistc-api.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from medmnist_hf.catalog import subset
from medmnist_hf.errors import CatalogError, shorten

SEVERITIES: Final = (1, 2, 3, 4, 5)
"""Valid severities."""

PUBLISHED_SIZE: Final = 224
"""Edge length of the images of MedMNIST-C, in pixels; the parameters are for this size."""

_RANDOM: Final = frozenset(
    {
        "gaussian_noise",
        "speckle_noise",
        "impulse_noise",
        "shot_noise",
        "motion_blur",
        "stain_deposit",
        "bubble",
        "characters",
    }
)


@dataclass(frozen=True, slots=True)
class Corruption:
    """A corruption of one subset.

    Attributes:
        subset: Flag of the subset.
        name: Its name in MedMNIST-C, e.g. ``brightness_up``.
        function: Name of the function that it calls, e.g. ``brightness``, see `medmnist_hf.corruptions.apply`.
        parameters: Arguments of the function, per severity.
        augmentation_end: As an augmentation, parameters are drawn between those of severity 1 and these. They are
            those of severity 5, except for defocus blur of RetinaMNIST and Gaussian blur of ChestMNIST and
            PneumoniaMNIST.
    """

    subset: str
    name: str
    function: str
    parameters: tuple[tuple[float, ...], ...]
    augmentation_end: tuple[float, ...]

    @property
    def random(self) -> bool:
        """Whether the function draws random numbers; otherwise equal images give equal pixels."""
        return self.function in _RANDOM

    def at(self, severity: int) -> tuple[float, ...]:
        """The arguments of the function at a severity.

        Raises:
            CatalogError: The severity is not 1 to 5.
        """
        if severity not in SEVERITIES:
            raise CatalogError(f"severity is {shorten(severity)}: choose from {', '.join(map(str, SEVERITIES))}")
        return self.parameters[severity - 1]


def corruptions(flag: str) -> tuple[Corruption, ...]:
    """Return the corruptions of a subset in the order of MedMNIST-C.

    Args:
        flag: Flag of a 2D subset in any letter case.

    Raises:
        CatalogError: The subset is unknown, or holds volumes, for which MedMNIST-C has no corruptions.

    Example:
        >>> [corruption.name for corruption in corruptions("octmnist")][:3]
        ['pixelate', 'jpeg_compression', 'speckle_noise']
    """
    entry = subset(flag)
    if entry.ndim == 3:
        raise CatalogError(
            f"{entry.flag} holds volumes, and MedMNIST-C has corruptions of images only: choose a 2D subset"
        )
    return tuple(_registry()[entry.flag].values())


def find_corruption(flag: str, name: str) -> Corruption:
    """Return a corruption of a subset by its name.

    Raises:
        CatalogError: As for `corruptions`; or the subset has no such corruption, and the message names those it has.
    """
    found = {corruption.name: corruption for corruption in corruptions(flag)}
    if name not in found:
        raise CatalogError(f"{subset(flag).flag} has no corruption {shorten(name)}: choose from {', '.join(found)}")
    return found[name]


@cache
def _registry() -> dict[str, dict[str, Corruption]]:
    """Flag of a subset -> name of a corruption -> the corruption, in order."""
    registry: dict[str, dict[str, Corruption]] = {}
    lines = (files("medmnist_hf.corruptions") / "registry.csv").read_text(encoding="utf-8").splitlines()
    for row in csv.DictReader(lines):
        *parameters, end = (
            tuple(map(float, row[column].split()))
            for column in (*(f"severity_{severity}" for severity in SEVERITIES), "augmentation_end")
        )
        corruption = Corruption(row["subset"], row["corruption"], row["function"], tuple(parameters), end)
        registry.setdefault(corruption.subset, {})[corruption.name] = corruption
    return registry
