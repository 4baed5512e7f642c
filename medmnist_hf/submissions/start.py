"""Start an entry: a folder with prediction files and an ``entry.yaml`` in which what is known is filled in."""

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medmnist_hf import catalog
from medmnist_hf.catalog import DEFAULT_SIZE
from medmnist_hf.errors import ScoreError, first_line
from medmnist_hf.evaluation.evaluate import evaluate_file
from medmnist_hf.evaluation.prediction_files import parse_name
from medmnist_hf.files import write_atomically
from medmnist_hf.hub.eval_results import TEST_SPLIT
from medmnist_hf.submissions.entry import ENTRY_NAME, LEFT_OUT, Entry, claimed, entry_text
from medmnist_hf.submissions.folder import entry_name
from medmnist_hf.typed_json import attributes


@dataclass(frozen=True, slots=True)
class Start:
    """What is known of a new entry.

    Attributes:
        values: Attributes of `Entry`.
        files: Path in the folder of the entry -> prediction file to copy there.
    """

    values: Mapping[str, Any]
    files: Mapping[str, Path]


def start_of_files(paths: Iterable[Path], root: str | Path | None = None) -> Start:
    """Score prediction files of the test split for a new entry; those of one subset are its seeds, in this order.

    Args:
        paths: The files, with official names.
        root: Folder of builds or of NPZ files with the labels; see `medmnist_hf.evaluation.labels.read_labels`.

    Raises:
        ScoreError: A file is of another split or size, or the subsets differ in their number of files.
        MedMNISTError: A file or the labels cannot be read.
    """
    by_subset: dict[str, list[Path]] = {}
    sizes = set()
    for path in paths:
        name = parse_name(path.name)
        if name.split != TEST_SPLIT:
            raise ScoreError(f"{path} is a file of {name.split}: an entry holds predictions for {TEST_SPLIT}")
        sizes.add(name.size)
        by_subset.setdefault(name.flag, []).append(path)
    counts = {len(files) for files in by_subset.values()}
    if len(sizes) > 1 or len(counts) > 1:
        raise ScoreError("the files differ in size, or subsets in their number of files: an entry has one protocol")
    files: dict[str, Path] = {}
    results: dict[str, Any] = {}
    for flag, each in by_subset.items():
        scores = [evaluate_file(path, root=root).score for path in each]
        results[flag] = claimed([score.auc for score in scores], [score.acc for score in scores])
        files |= {f"seed-{seed}/{path.name}": path for seed, path in enumerate(each)}
    size = next(iter(sizes), DEFAULT_SIZE)
    values = {"size": size, "seeds": max(counts, default=1)}
    return Start(values | {"release": catalog.collection().version, "results": results}, files)


def write_start(folder: Path, start: Start) -> Sequence[str]:
    """Make the folder of an entry, complete or not at all.

    Returns:
        The attributes that are left to be filled in.

    Raises:
        ScoreError: The folder exists and is not empty, its name cannot be that of an entry, or it cannot be written.
    """
    entry_name(folder)
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise ScoreError(f"{folder} exists and is not an empty folder: name another one")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".entry-") as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            for name, path in start.files.items():
                (new / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, new / name)
            write_atomically(new / ENTRY_NAME, entry_text(start.values))
            new.replace(folder)
    except OSError as error:
        raise ScoreError(f"cannot write {folder} ({first_line(error)}): choose another place") from None
    return [name for name in attributes(Entry) if name not in LEFT_OUT and not start.values.get(name)]
