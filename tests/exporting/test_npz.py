"""Exported NPZ files have the arrays and members of the official files."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from medmnist_hf.catalog import SPLITS, Subset, subset
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.sources.source import Folder
from medmnist_hf.data.npz_reader import NpzReader
from medmnist_hf.data.rows import open_rows
from medmnist_hf.exporting.export import export
from medmnist_hf.manifest import MANIFEST_NAME
from tests.conftest import Phantoms
from tests.fixtures.exports import CONFIGS, REAL, arrays_of


def same_npz(path: Path, source: Path, entry: Subset, size: int) -> None:
    NpzReader(path, entry, size, None)
    arrays, expected = arrays_of(path), arrays_of(source)
    assert set(arrays) == set(expected)
    for name, array in expected.items():
        assert arrays[name].dtype == np.uint8
        assert arrays[name].shape == array.shape
        assert np.array_equal(arrays[name], array), name
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_DEFLATED}


@pytest.mark.parametrize(("flag", "size"), CONFIGS)
def test_npz_equals_the_source_and_repeats_its_bytes(
    root: Path, phantoms: Phantoms, tmp_path: Path, flag: str, size: int
) -> None:
    for out in ("a", "b"):
        (path,) = export(open_rows(flag, size, root=root), tmp_path / out, "npz").paths
        assert path == tmp_path / out / subset(flag).file(size).name
    same_npz(path, phantoms(flag, size).path, subset(flag), size)
    assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()


@pytest.mark.parametrize("flag", REAL)
def test_official_files_are_reproduced(real_builds: Path, real_data: Path, tmp_path: Path, flag: str) -> None:
    """Arrays are equal, and members have the official order and CRCs."""
    (path,) = export(open_rows(flag, root=real_builds), tmp_path, "npz").paths
    same_npz(path, real_data / path.name, subset(flag), 28)
    with zipfile.ZipFile(path) as exported, zipfile.ZipFile(real_data / path.name) as official:
        members = [
            [(info.filename, info.CRC, info.file_size) for info in each.infolist()] for each in (exported, official)
        ]
    assert members[0] == members[1]


def test_an_exported_npz_builds_the_same_config(root: Path, phantoms: Phantoms, tmp_path: Path) -> None:
    export(open_rows("chestmnist", root=root), tmp_path, "npz")
    file = Folder(tmp_path, allow_unverified=True).fetch(subset("chestmnist"), 28)
    again = build_config(subset("chestmnist"), 28, file, tmp_path / "dist").manifest.splits
    first = json.loads((root / "chestmnist/28" / MANIFEST_NAME).read_text())["splits"]
    for split in SPLITS:
        assert again[split].pixels_sha256 == first[split]["pixels_sha256"]
        assert again[split].labels_sha256 == first[split]["labels_sha256"]
