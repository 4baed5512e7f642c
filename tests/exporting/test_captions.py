"""Captions of classes and findings fit their tiles."""

import numpy as np
import pytest

from medmnist_hf.catalog import Task, subset, subsets
from medmnist_hf.exporting.captions import HEIGHT, NARROWEST, NO_FINDING, caption, captioned_scale, class_names


@pytest.mark.parametrize("text", ["a", "benign", "W" * 200, "one " * 50, "", "cancer-associated stroma"])
@pytest.mark.parametrize("width", [NARROWEST, 224])
def test_a_name_stays_within_its_margins(text: str, width: int) -> None:
    pixels = caption(text, width)
    assert pixels.shape == (HEIGHT, width) and pixels.dtype == np.uint8
    assert (pixels.min() < 100) == bool(text)
    assert (pixels[:, 0] == 255).all() and (pixels[:, -1] == 255).all() and (pixels[-1] == 255).all()


def test_captions_are_distinct_and_deterministic() -> None:
    for entry in subsets():
        looks = {caption(name, NARROWEST).tobytes() for name in entry.labels}
        assert len(looks) == len(entry.labels), entry.flag
    assert caption("benign", 120).tobytes() == caption.__wrapped__("benign", 120).tobytes()


def test_names_of_classes_and_findings() -> None:
    breast, chest = subset("breastmnist"), subset("chestmnist")
    assert class_names(breast, np.array([[1], [0]], np.uint8)) == [breast.labels[1], breast.labels[0]]
    assert chest.task is Task.MULTI_LABEL
    labels = np.zeros((2, 14), np.uint8)
    labels[0, [0, 3]] = 1
    assert class_names(chest, labels) == [f"{chest.labels[0]}, {chest.labels[3]}", NO_FINDING]


@pytest.mark.parametrize(
    ("width", "scale", "expected"), [(28, 1, 4), (28, 5, 5), (64, 1, 2), (128, 1, 1), (224, 1, 1)]
)
def test_small_tiles_are_enlarged_to_fit_a_caption(width: int, scale: int, expected: int) -> None:
    assert captioned_scale(width, scale) == expected
