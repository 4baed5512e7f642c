"""``scripts/corruptions_picture.py``: the picture of the page on corruptions."""

from pathlib import Path

import PIL.Image

from medmnist_hf.corruptions.apply import FUNCTIONS
from scripts.corruptions_picture import draw
from tests.fixtures.paths import ROOT

COMMITTED = ROOT / "docs" / "_static" / "corruptions.png"


def test_it_has_each_function(tmp_path: Path) -> None:
    draw(tmp_path / "it.png")
    with PIL.Image.open(tmp_path / "it.png") as drawn, PIL.Image.open(COMMITTED) as committed:
        assert drawn.size == committed.size and len(FUNCTIONS) == 18
    assert COMMITTED.stat().st_size < 300_000
