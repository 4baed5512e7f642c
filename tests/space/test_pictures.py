"""Galleries: sprites hold the pixels of the rows that they name, of every class, with their provenance."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from medmnist_hf.catalog import subset
from medmnist_hf.documents import parse_json
from medmnist_hf.errors import CatalogError
from medmnist_hf.manifest import Provenance
from medmnist_hf.places.resolver import Build, find
from medmnist_hf.space.pictures import PictureFiles, draw_gallery, open_place, spread
from tests.conftest import Phantoms
from tests.fixtures.builds import build


def facts_of(drawn: PictureFiles) -> dict[str, Any]:
    facts: dict[str, Any] = parse_json(drawn.files[drawn.record.data])
    return facts


def tiles_of(drawn: PictureFiles) -> NDArray[Any]:
    """The tiles of a sprite, line by line."""
    facts = facts_of(drawn)
    picture = np.asarray(PIL.Image.open(io.BytesIO(drawn.files[facts["sprite"]])))
    size, across, down = facts["tile"], facts["columns"], facts["down"]
    assert picture.shape[:2] == (down * size, across * size)
    tiles = picture.reshape(down, size, across, size, *picture.shape[2:])
    return tiles.swapaxes(1, 2).reshape(-1, size, size, *picture.shape[2:])


@pytest.mark.parametrize("flag", ["pathmnist", "chestmnist", "organmnist3d"])
def test_a_sprite_holds_the_rows_that_it_names(flag: str, phantoms: Phantoms, tmp_path: Path) -> None:
    folder = build(phantoms, tmp_path, flag, 28, rows=40)
    rows, provenance = open_place(Build(subset(flag), 28, folder / "28"))
    drawn = draw_gallery(rows, provenance, "train", 22)
    facts, chosen = facts_of(drawn), np.array(facts_of(drawn)["rows"])
    pixels = rows.sample("train", chosen)
    if facts["depth"] > 1:
        assert facts["depth"] == facts["columns"] == 28 and facts["down"] == len(chosen)
        pixels = pixels.reshape(-1, 28, 28)
    assert np.array_equal(tiles_of(drawn)[: len(pixels)], pixels)
    targets = rows.targets("train")[chosen]
    labels = [np.flatnonzero(row).tolist() for row in targets] if targets.ndim == 2 else [[each] for each in targets]
    assert facts["labels"] == labels and facts["provenance"] == drawn.record.provenance == "synthetic"
    assert facts["warning"].startswith("SYNTHETIC") and drawn.record.cover in drawn.files
    assert draw_gallery(rows, provenance, "train", 22).files == drawn.files
    with pytest.raises(CatalogError, match="unknown split"):
        draw_gallery(rows, provenance, "tset")


def test_official_files_are_verified_and_other_ones_are_not(real_data: Path, phantoms: Phantoms) -> None:
    _, provenance = open_place(find("breastmnist", root=real_data, npz=True))
    assert provenance is Provenance.VERIFIED
    _, provenance = open_place(find(phantoms("breastmnist").path, 28, expected=subset("breastmnist"), npz=True))
    assert provenance is Provenance.UNVERIFIED


def test_rows_are_spread_over_each_class_and_over_those_without_any() -> None:
    hot = np.zeros((100, 2), np.bool_)
    hot[:50, 0] = hot[40:60, 1] = True
    assert spread(hot, 2).tolist() == [0, 25, 40, 50, 60, 80]
    assert spread(hot[:3], 5).tolist() == [0, 1, 2]
