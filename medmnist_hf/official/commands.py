"""What the commands of ``python -m medmnist_hf.official`` do, with the arguments of ``python -m medmnist``."""

import contextlib
import json
from pathlib import Path
from typing import Final

from medmnist_hf.catalog import DEFAULT_SIZE, subset, subsets
from medmnist_hf.errors import MedMNISTError, cannot_write
from medmnist_hf.official.errors import ArgumentError
from medmnist_hf.official.evaluator import Evaluator
from medmnist_hf.official.info import DEFAULT_ROOT, HOMEPAGE, INFO, __version__, get_default_root
from medmnist_hf.official.roots import fetch

ALL_SIZES: Final = (28, 64, 128, 224)


def available() -> None:
    """List the subsets with their classes and sizes."""
    print(f"MedMNIST v{__version__} @ {HOMEPAGE}")
    print("All available datasets:")
    for entry in subsets():
        sizes = ", ".join(f"{size} (default)" if size == DEFAULT_SIZE else str(size) for size in entry.sizes)
        print(f"\t{entry.flag:<15} | {entry.python_class:<15} | Size: {sizes}.")


def download(size: int | str | None = None, root: str = DEFAULT_ROOT) -> None:
    """Download the official files of a size, 28 by default, or of all sizes.

    A file with the right MD5 is not downloaded again, and an interrupted download is resumed.
    """
    sizes = {str(each): [each] for each in ALL_SIZES} | {"None": [DEFAULT_SIZE], "all": list(ALL_SIZES)}
    if str(size) not in sizes:
        raise ArgumentError(f"unknown size {size}: choose from {', '.join(map(str, ALL_SIZES))}, all")
    folder = Path(get_default_root() if root == DEFAULT_ROOT else root).expanduser()
    for each in sizes[str(size)]:
        for entry in subsets():
            where = f"{entry.flag:<15} | {entry.python_class:<15}"
            if each in entry.sizes:
                print(f"Downloading {where} | Size: {each}", flush=True)
                fetch(entry, each, folder)
            else:
                print(f"Size {each} not available for {where}")


def clean(root: str = DEFAULT_ROOT) -> None:
    """Delete the official files in a folder, and what interrupted downloads left of them."""
    folder = Path(root).expanduser()
    for file in (file for entry in subsets() for file in entry.files):
        for suffix in ("", ".part", ".part.json", ".lock"):
            path = folder / f"{file.name}{suffix}"
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                try:
                    path.unlink()
                except PermissionError as error:
                    raise MedMNISTError(cannot_write(path, error, "check the folder")) from None


def info(flag: str) -> None:
    """Print the facts about a subset as JSON."""
    print(json.dumps(INFO[subset(flag).flag], indent=4))


def save(
    flag: str,
    folder: str,
    postfix: str | None = None,
    root: str = DEFAULT_ROOT,
    download: bool = False,
    size: int | str | None = None,
) -> None:
    """Write all rows of a subset as image files with a CSV: PNG for images, GIF for volumes, unless postfix says else.

    Existing files of the same names, and lines of the CSV for the same splits, are replaced.
    """
    # Imports torch, if installed, which takes seconds.
    from medmnist_hf.official.dataset import CLASSES

    entry = subset(flag)
    for split in ("train", "val", "test"):
        print(f"Saving {entry.flag} {split}...", flush=True)
        data = CLASSES[entry.python_class](split, download=download, root=root, size=size)
        data.save(folder, postfix or ("png" if entry.ndim == 2 else "gif"))


def evaluate(path: str, root: str = DEFAULT_ROOT) -> None:
    """Score a prediction file, and write it next to itself with AUC and ACC in its name."""
    Evaluator.parse_and_evaluate(path, root=root)
