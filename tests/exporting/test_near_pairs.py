"""Near duplicates as files: all pairs as JSON, the first ones as a picture."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from medmnist_hf.conversion.checks.duplicates import Member
from medmnist_hf.conversion.near.report import NearPair
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.exporting import near_pairs
from medmnist_hf.exporting.near_pairs import write_pairs
from tests.conftest import Phantoms
from tests.fixtures.builds import build

PAIRS = [
    NearPair(Member("train", 3, (0,)), Member("test", row, (1,)), 0.9, turned=False, identical=row == 1)
    for row in range(4)
]


@pytest.mark.parametrize("flag", ["pathmnist", "adrenalmnist3d"])
def test_the_picture_shows_the_rows_of_the_pairs(
    phantoms: Phantoms, tmp_path: Path, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_pairs, "DRAWN", 2)
    config = build(phantoms, tmp_path / "dist", flag, 28) / "28"
    written = write_pairs(config, PAIRS, tmp_path / "near")
    assert [path.name for path in written] == [f"{flag}-28.json", f"{flag}-28.png"]
    table = json.loads(written[0].read_text())
    assert (table["subset"], len(table["pairs"]), table["pairs"][1]["identical"]) == (flag, 4, True)
    with PIL.Image.open(written[1]) as picture, np.load(phantoms(flag).path) as file:
        tiles = np.asarray(picture)
        image = file["train_images"][3]
    image = image[14] if flag == "adrenalmnist3d" else image
    assert np.array_equal(tiles[2 : 2 + 112 : 4, 2 : 2 + 112 : 4], image)
    assert {path.name for path in (tmp_path / "near").iterdir()} == {path.name for path in written}


def test_without_pairs_there_is_no_picture(phantoms: Phantoms, tmp_path: Path) -> None:
    config = build(phantoms, tmp_path / "dist", "breastmnist", 28) / "28"
    (json_file,) = write_pairs(config, [], tmp_path / "near")
    assert json.loads(json_file.read_text())["pairs"] == []
    (tmp_path / "file").write_text("")
    with pytest.raises(MedMNISTError, match="name another folder"):
        write_pairs(config, [], tmp_path / "file")
