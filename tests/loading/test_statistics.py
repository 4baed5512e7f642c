"""``medmnist_hf.pixel_statistics``: from the manifest, recorded, or computed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from medmnist_hf import load_arrays, pixel_statistics
from medmnist_hf.data import arrays
from medmnist_hf.errors import CatalogError
from medmnist_hf.manifest import MANIFEST_NAME
from tests.conftest import Phantoms
from tests.fixtures.builds import build


@pytest.mark.parametrize("flag", ["pathmnist", "organmnist3d"])
def test_builds_with_and_without_statistics_and_npz_files_agree(
    phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    folder = build(phantoms, tmp_path, flag, 28)
    images = load_arrays(folder, 28, "train", cache=False).images
    with monkeypatch.context() as patch:
        patch.setattr(arrays, "read_arrays", None)  # nothing is decoded
        recorded = pixel_statistics(folder)
    axes = (0, 1, 2)
    expected = images.mean(axes) / 255 if flag == "pathmnist" else images.mean() / 255
    np.testing.assert_allclose(recorded.mean, np.atleast_1d(expected), rtol=1e-12)
    path = folder / "28" / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    for record in manifest["splits"].values():
        del record["pixels"]
    path.write_text(json.dumps(manifest))
    assert pixel_statistics(folder) == recorded
    shutil.copy(phantoms(flag).path, tmp_path / f"{flag}.npz")
    assert pixel_statistics(tmp_path / f"{flag}.npz") == recorded


def test_an_official_file_is_looked_up(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medmnist_hf.loading.statistics.arrays_at", None)
    assert pixel_statistics("breastmnist", root=real_data).mean == (0.32758050106489484,)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(CatalogError, match="unknown split 'all'"):
        pixel_statistics("breastmnist", split="all")
