"""``medmnist_hf.export`` and ``medmnist_hf.montage``, called by the name of a data set."""

from pathlib import Path

import pytest

import medmnist_hf
from tests.conftest import Phantoms
from tests.fixtures.builds import build


def test_python_writes_the_same_as_the_commands(phantoms: Phantoms, tmp_path: Path) -> None:
    folder = build(phantoms, tmp_path / "dist", "breastmnist", 28)
    exported = medmnist_hf.export(folder, tmp_path / "png", splits=["val"])
    assert len(list((tmp_path / "png" / "breastmnist").iterdir())) == exported.rows > 0
    picture = medmnist_hf.montage("BreastMNIST", tmp_path / "b.png", length=2, seed=0, root=tmp_path / "dist")
    assert picture == tmp_path / "b.png" and picture.is_file()
    with pytest.raises(medmnist_hf.MedMNISTError, match="already exists"):
        medmnist_hf.montage(folder, picture, length=2)
    with pytest.raises(medmnist_hf.MedMNISTError, match="no build of breastmnist at size 64"):
        medmnist_hf.export(folder, tmp_path / "other", 64)
