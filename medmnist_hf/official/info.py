"""`INFO` and the other constants of the official package, made from the catalog.

Keys, types and values are those of ``medmnist.info``, except for the descriptions, which are the catalog's.
"""

import os
from typing import Any, Final

from medmnist_hf.catalog import DEFAULT_SIZE, NPZ_SPLITS, Subset, collection, subsets
from medmnist_hf.errors import cannot_write
from medmnist_hf.official.errors import RootError

__version__: Final = collection().code_version
"""Release of the official package whose interface this one has; that of this package is `medmnist_hf.__version__`."""

HOMEPAGE: Final = collection().code
"""Repository of the official package."""

DEFAULT_ROOT: Final = os.path.join(os.path.expanduser("~"), ".medmnist")  # noqa: PTH111, PTH118 - also without a home
"""Default folder of NPZ files, as a string. It is created by the first download, not by the import."""


def get_default_root() -> str:
    """Create the folder `DEFAULT_ROOT` if it is missing, and return its path.

    Raises:
        RootError: The folder cannot be created.
    """
    try:
        os.makedirs(DEFAULT_ROOT, exist_ok=True)  # noqa: PTH103 - the constant is a string, as there
    except OSError as error:
        raise RootError(cannot_write(DEFAULT_ROOT, error, "pass root=, another folder")) from None
    return DEFAULT_ROOT


def size_flag(size: int) -> str:
    """Suffix of a size in names of files and keys: empty for 28, otherwise as in ``_64``."""
    return "" if size == DEFAULT_SIZE else f"_{size}"


def _license(hub_id: str) -> str:
    """The short name of a license, ``CC BY-NC 4.0``, from its id on the Hub, ``cc-by-nc-4.0``."""
    name, _, version = hub_id.upper().rpartition("-")
    return f"{name.replace('-', ' ', 1)} {version}"


def _info(entry: Subset) -> dict[str, Any]:
    files = [
        (f"{key}{size_flag(file.size)}", value)
        for file in entry.files
        for key, value in (("url", file.url), ("MD5", file.md5))
    ]
    return {
        "python_class": entry.python_class,
        "description": entry.description,
        **dict(files),
        "task": entry.task.official_name,
        "label": {str(index): name for index, name in enumerate(entry.labels)},
        "n_channels": entry.channels,
        "n_samples": {prefix: entry.counts[split] for split, prefix in NPZ_SPLITS.items()},
        "license": _license(entry.license),
    }


INFO: Final[dict[str, dict[str, Any]]] = {entry.flag: _info(entry) for entry in subsets()}
"""Flag -> facts about the subset, under the official keys: ``python_class``, ``description``, ``url``, ``MD5`` (and
``url_64``, ``MD5_64`` and so on), ``task``, ``label``, ``n_channels``, ``n_samples`` and ``license``."""
