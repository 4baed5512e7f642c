"""``scripts/collection_picture.py``: the picture of the README shows only official data."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import subset
from medmnist_hf.data.rows import open_rows
from medmnist_hf.errors import MedMNISTError
from scripts.collection_picture import TEXT_WIDTH, choose_rows, draw, official_rows
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.paths import ROOT

COMMITTED = ROOT / "docs" / "_static" / "montage.png"


def pixels(path: Path) -> UInt8Array:
    with PIL.Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_the_committed_picture_is_what_the_command_draws(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names are left out of the comparison, as releases of Pillow draw them differently."""
    draw(real_data, tmp_path / "it.png")
    assert capsys.readouterr().out.endswith("it.png: RetinaMNIST, BreastMNIST, AdrenalMNIST3D\n")
    drawn, committed = pixels(tmp_path / "it.png"), pixels(COMMITTED)
    assert drawn.shape == committed.shape and np.array_equal(drawn[:, TEXT_WIDTH:], committed[:, TEXT_WIDTH:])
    assert COMMITTED.stat().st_size < 150_000


def test_synthetic_data_is_not_drawn(phantoms: Phantoms, tmp_path: Path) -> None:
    build(phantoms, tmp_path, "pathmnist", 28)
    assert open_rows("pathmnist", root=tmp_path).count("train")
    assert official_rows(subset("pathmnist"), tmp_path) is None
    with pytest.raises(MedMNISTError, match="no official file and no verified build in"):
        draw(tmp_path, tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()


ONE_CLASS = np.repeat([0, 1, 2], [90, 9, 1])[:, None]
FINDINGS = np.eye(3, dtype=np.int64).repeat([90, 9, 1], axis=0)


@pytest.mark.parametrize("labels", [ONE_CLASS, FINDINGS], ids=["class", "findings"])
def test_rare_classes_are_shown_as_often_as_common_ones(labels: NDArray[np.int64]) -> None:
    rows = choose_rows(labels.astype(np.uint8), 12, np.random.default_rng(0))
    assert len(set(rows)) == 12
    assert ONE_CLASS[rows, 0].tolist() == [0] * 6 + [1] * 5 + [2]
