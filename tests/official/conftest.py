"""Folders of NPZ files under their official names, and the official package reading them."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmnist_hf.catalog import subset
from tests.conftest import Phantoms

Root = Callable[..., str]
"""Maps flags, and a size, to a folder with their phantoms."""


@pytest.fixture
def root(phantoms: Phantoms, tmp_path: Path) -> Root:
    folder = tmp_path / "npz"
    folder.mkdir()

    def put(*flags: str, size: int = 28, rows: int = 16) -> str:
        for flag in flags:
            (folder / subset(flag).file(size).name).symlink_to(phantoms(flag, size, rows).path)
        return str(folder)

    return put


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of decoded arrays."""
    monkeypatch.setenv("MEDMNIST_ARRAYS", str(tmp_path / "arrays"))
    return tmp_path / "arrays"


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Imports the official package, and lets it accept the numbers of rows of the files in a folder."""

    def get(root: str) -> Any:
        medmnist = importlib.import_module("medmnist")
        for path in Path(root).glob("*.npz"):
            with np.load(path) as arrays:
                rows = {split: len(arrays[f"{split}_labels"]) for split in ("train", "val", "test")}
            monkeypatch.setitem(medmnist.INFO[path.stem.partition("_")[0]], "n_samples", rows)
        return medmnist

    return get
