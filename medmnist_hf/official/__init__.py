"""A drop-in for the official package ``medmnist`` 3.0.2: change one line, ``import medmnist_hf.official as medmnist``.

Example:
    >>> import medmnist_hf.official as medmnist
    >>> medmnist.INFO["breastmnist"]["python_class"]
    'BreastMNIST'
    >>> train = medmnist.BreastMNIST("train", download=True)  # doctest: +SKIP
"""

from importlib import import_module
from typing import Any, Final

from medmnist_hf.catalog import subsets
from medmnist_hf.official.info import DEFAULT_ROOT, HOMEPAGE, INFO, __version__

_MODULES: Final = ("dataset", "evaluator", "info", "utils")
_LAZY: Final = {
    "Evaluator": "evaluator",
    "MedMNIST": "dataset",
    "MedMNIST2D": "dataset",
    "MedMNIST3D": "dataset",
    **{entry.python_class: "dataset" for entry in subsets()},
}
"""Name -> module that it is imported from on first access: torch, if installed, takes seconds."""

__all__ = ["DEFAULT_ROOT", "HOMEPAGE", "INFO", "__version__", *_LAZY]  # noqa: PLE0604 - names of the catalog


def __dir__() -> list[str]:
    return [*__all__, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
