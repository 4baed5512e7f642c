"""The curves of a model: a panel for each corruption."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from medmnist_hf.training.robustness.figure import draw_robustness, robustness_png
from tests.fixtures.robustness import robustness


@pytest.mark.parametrize(("flag", "panels"), [("breastmnist", 10), ("dermamnist", 15)])
def test_each_corruption_has_a_panel(flag: str, panels: int) -> None:
    result = robustness(flag=flag)
    figure = draw_robustness(result)
    shown = [axes for axes in figure.axes if axes.get_title()]
    assert len(figure.axes) == panels
    assert [axes.get_title().split("\n")[0] for axes in shown] == [each.corruption for each in result.corruptions]
    values = np.asarray(shown[0].lines[0].get_ydata())
    assert values.tolist() == [0.125, *[result.corruptions[0].error] * 5]


def test_synthetic_data_and_other_sizes_are_marked() -> None:
    figure = draw_robustness(robustness({"pixelate": 0.25}, size=28, kind="phantom"))
    title = figure.get_suptitle()
    assert title.startswith("SYNTHETIC: ") and "corruptions at size 28 are not those of MedMNIST-C" in title
    with Image.open(BytesIO(robustness_png(robustness({"pixelate": 0.25})))) as image:
        assert image.format == "PNG"
