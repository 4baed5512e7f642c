"""``medmnist_hf.export`` and ``medmnist_hf.montage``, as a person calls them."""

from pathlib import Path

import pytest

import medmnist_hf
from tests.conftest import Phantoms
from tests.fixtures.builds import build


def test_what_the_commands_write_is_written_in_python(phantoms: Phantoms, tmp_path: Path) -> None:
    folder = build(phantoms, tmp_path / "dist", "breastmnist", 28)
    done = medmnist_hf.export(folder, tmp_path / "png", splits=["val"])
    assert len(list((tmp_path / "png" / "breastmnist").iterdir())) == done.rows > 0
    picture = medmnist_hf.montage("BreastMNIST", tmp_path / "b.png", length=2, seed=0, root=tmp_path / "dist")
    assert picture == tmp_path / "b.png" and picture.is_file()
    with pytest.raises(medmnist_hf.MedMNISTError, match="there already"):
        medmnist_hf.montage(folder, picture, length=2)
    with pytest.raises(medmnist_hf.MedMNISTError, match="no build of breastmnist at size 64"):
        medmnist_hf.export(folder, tmp_path / "other", 64)
