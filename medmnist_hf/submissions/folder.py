"""The files of an entry: ``entry.yaml`` and, for each seed, a folder ``seed-N`` with a prediction file per subset.

Text diagram of a folder::

    my-entry/
      entry.yaml
      seed-0/breastmnist_test_[AUC]0.913_[ACC]0.846@resnet18.csv
      seed-1/breastmnist_test_[AUC]0.907_[ACC]0.853@resnet18.csv

An entry may come from anywhere, so nothing else is in it: no weights, no archives, no pickles and no links.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from medmnist_hf.catalog import subsets
from medmnist_hf.errors import MedMNISTError, ScoreError, shorten
from medmnist_hf.evaluation.prediction_files import PREDICTION_BYTES, PredictionName, parse_name
from medmnist_hf.files import DOCUMENT_BYTES
from medmnist_hf.submissions.entry import ENTRY_NAME, MOST_SEEDS

ROWS_NAME: Final = "results.jsonl"
"""File with the recomputed scores of an entry, a line per subset."""

MOST_FILES: Final = MOST_SEEDS * len(subsets()) + 2
"""Most files of an entry."""

_NAME: Final = re.compile(r"(?!.*(?:--|\.\.))[a-z0-9][a-z0-9._-]{0,78}[a-z0-9]", re.ASCII)
_SEED: Final = re.compile(r"seed-(0|[1-9]\d{0,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class SeedFile:
    """A prediction file of an entry.

    Attributes:
        path: Path in the folder of the entry, with slashes.
        seed: Number of the seed, from the name of its folder.
        name: The parts of its name.
    """

    path: str
    seed: int
    name: PredictionName


def entry_name(folder: Path) -> str:
    """The name of an entry, which is that of its folder.

    Raises:
        ScoreError: It cannot be part of an address.
    """
    name = folder.resolve().name
    if not _NAME.fullmatch(name):
        raise ScoreError(
            f"{shorten(name)} cannot be the name of an entry: name its folder with 2 to 80 of a-z, 0-9, dot, dash and "
            "underscore"
        )
    return name


def files_in(folder: Path, *, hidden: bool = False) -> list[str]:
    """Paths of the files in the folder of an entry, sorted.

    Args:
        folder: The folder.
        hidden: Whether to list files whose names begin with a dot too, which are not pushed.

    Raises:
        ScoreError: There is no such folder, or it holds more files than an entry can have.
        OSError: It cannot be read.
    """
    if not folder.is_dir():
        raise ScoreError(f"{folder} is not a folder: run medmnist-hf submit init {folder} first")
    names: list[str] = []
    for top in sorted(folder.iterdir()):
        inner = sorted(top.iterdir()) if top.is_dir() and not top.is_symlink() else [top]
        paths = [path.relative_to(folder) for path in inner]
        names += [path.as_posix() for path in paths if hidden or not any(part[0] == "." for part in path.parts)]
        if len(names) > MOST_FILES:
            raise ScoreError(f"{folder} holds more than {MOST_FILES:,} files, so it is not the folder of an entry")
    return names


def sort_files(paths: Iterable[str]) -> tuple[list[SeedFile], list[str]]:
    """The prediction files among the files of an entry, and a message for each file that does not belong there."""
    files, faults = [], []
    for path in paths:
        if path in {ENTRY_NAME, ROWS_NAME}:
            continue
        if not path.isprintable():
            faults.append(f"{shorten(path)}: its name holds characters that are not shown: rename it")
            continue
        *folders, file = PurePosixPath(path).parts
        seed = _SEED.fullmatch(folders[0]) if len(folders) == 1 else None
        if seed is None or not file.endswith(".csv"):
            faults.append(
                f"{path}: not part of an entry, which holds {ENTRY_NAME} and prediction files in seed-0, seed-1, ... "
                "(no weights, archives or pickles): remove it"
            )
            continue
        try:
            files.append(SeedFile(path, int(seed[1]), parse_name(file)))
        except MedMNISTError as error:
            faults.append(f"{folders[0]}/{error}")
    return files, faults


def largest(path: str) -> int:
    """Largest size of a file of an entry, in bytes."""
    return PREDICTION_BYTES if path.endswith(".csv") else DOCUMENT_BYTES
