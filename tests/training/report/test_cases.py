"""`medmnist_hf.training.report.cases`: selection of cases, and a figure without overlaps or clipped text."""

import io
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medmnist_hf.catalog import Subset, subset, subsets
from medmnist_hf.scoring.predictions import check
from medmnist_hf.training.report.cases import COUNT, Case, choose, draw_cases

FLOAT = npt.NDArray[np.float32]


def rows_of(cases: list[Case]) -> list[int]:
    return [case.row for case in cases]


def test_binary_decisions_are_ordered_by_the_score_of_the_decision() -> None:
    entry = subset("breastmnist")
    scores = [0.9, 0.2, 0.55, 0.5, 0.1, 0.7]
    wrong, right = choose(check([1, 1, 0, 1, 0, 0], scores, entry.task), entry)
    assert rows_of(wrong) == [1, 5, 2, 3] and rows_of(right) == [0, 4]
    assert [case.label for case in wrong] == [0, 1, 1, 0], "a score of 0.5 is negative"
    assert [case.score for case in wrong] == pytest.approx([0.8, 0.7, 0.55, 0.5])
    assert wrong[0] == Case(1, False, entry.labels[1], entry.labels[0], wrong[0].score, 0, entry.labels[0])
    assert (right[1].true, right[1].decided, right[1].score) == (entry.labels[0], entry.labels[0], 0.9)


@pytest.mark.parametrize("flag", ["bloodmnist", "retinamnist"])
def test_the_most_confident_decisions_of_any_label_are_selected(flag: str) -> None:
    entry = subset(flag)
    labels = len(entry.labels)
    decided, scores = [0, 0, 0, 1, 0, 2], np.array([0.9, 0.8, 0.7, 0.55, 0.6, 0.65])
    table = np.zeros((6, labels))
    table[range(6), decided] = scores
    table[:, -1] += 1 - scores
    truth = [3, 3, 3, 1, 0, 3]
    wrong, right = choose(check(truth, table, entry.task), entry, 3)
    assert rows_of(wrong) == [0, 1, 2], "row 5, of another class, has a lower score"
    assert rows_of(right) == [4, 3] and right[0].score > right[1].score
    assert (wrong[2].true, wrong[2].decided, wrong[2].label, wrong[2].name) == (
        *(entry.labels[3], entry.labels[0], 0, entry.labels[0]),
    )
    assert rows_of(choose(check(truth, table, entry.task), entry, 9)[0]) == [0, 1, 2, 5]


@given(st.lists(st.sampled_from([0.6, 0.7, 0.8, 0.9]), min_size=1, max_size=12), st.integers(1, 6))
def test_no_omitted_decision_has_a_higher_score(scores: list[float], count: int) -> None:
    entry = subset("breastmnist")
    (wrong, right) = choose(check([0] * len(scores), scores, entry.task), entry, count)
    expected = sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:count]
    assert rows_of(wrong) == expected and not right


def test_findings_that_are_missed_false_or_detected() -> None:
    entry = subset("chestmnist")
    hot, scores = np.zeros((5, 14), int), np.full((5, 14), 0.01)
    hot[0, 2], scores[0, 2] = 1, 0.97  # detected
    hot[1, 3], scores[1, 3] = 1, 0.02  # missed
    scores[2, 4] = 0.9  # a false alarm
    hot[3, [5, 6]], scores[3, [5, 6]] = 1, (0.6, 0.8)  # two detected in one row
    wrong, right = choose(check(hot, scores, entry.task), entry)
    names = entry.labels
    assert [(case.row, case.true, case.decided) for case in wrong] == [
        (1, names[3], f"no {names[3]}"),
        (2, f"no {names[4]}", names[4]),
    ]
    assert [case.score for case in wrong] == pytest.approx([0.98, 0.9])
    assert [case.name for case in wrong] == [names[3], names[4]], "the finding, even if it was missed"
    assert [(case.row, case.label) for case in right] == [(0, 2), (3, 6)], (
        "row 4 has no findings, row 3 is listed once"
    )


def test_there_may_be_no_cases() -> None:
    blood, chest = subset("bloodmnist"), subset("chestmnist")
    ids = np.arange(8)
    assert choose(check(ids, np.eye(8), blood.task), blood)[0] == []
    assert choose(check((ids + 1) % 8, np.eye(8), blood.task), blood)[1] == []
    assert choose(check(np.zeros((3, 14), int), np.zeros((3, 14)), chest.task), chest) == ([], [])


def cases_of(entry: Subset, right: bool, count: int) -> list[Case]:
    """Cases with the longest names of the subset."""
    names = sorted(entry.labels, key=len)
    return [
        Case(47279 - at, right, names[-1], names[-1 - at % 2], 0.999, 0, names[-1 - at % 2]) for at in range(count)
    ]


def draw_random(entry: Subset, wrong: int, right: int, *, maps: bool, title: str = "a title") -> tuple[Figure, Any]:
    rng, size = np.random.default_rng(0), entry.file(28).image_shape
    images = rng.integers(0, 256, (wrong + right, *size), dtype=np.uint8)
    maps_drawn: Any = rng.random((wrong + right, *size[: entry.ndim]), dtype=np.float32) if maps else None
    figure = draw_cases(cases_of(entry, False, wrong), cases_of(entry, True, right), images, maps_drawn, title)
    return figure, images


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_nothing_overlaps_or_is_clipped(entry: Subset) -> None:
    title = f"{entry.flag} 224, timm/{'a_model_with_a_long_name.' * 4}in1k linear-probe, seed 4294967295\nsecond"
    figure, _ = draw_random(entry, COUNT, COUNT, maps=True, title=title)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    width, height = canvas.get_width_height()
    texts = [*figure.texts, *(axes.title for axes in figure.axes), *(axes._left_title for axes in figure.axes)]  # type: ignore[attr-defined]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert len(boxes) == 3 + 2 + 4 * COUNT, "three lines of title, two headings, text above each image and map"
    boxes += [axes.get_window_extent() for axes in figure.axes]
    for box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width + 1e-6 and box.y1 <= height + 1e-6
    for first, second in combinations(boxes, 2):
        assert not first.overlaps(second)


@pytest.mark.parametrize(("wrong", "right"), [(1, 0), (0, 3), (4, 2)])
@pytest.mark.parametrize("maps", [True, False])
def test_each_case_is_an_image_and_its_map(wrong: int, right: int, maps: bool) -> None:
    entry = subset("bloodmnist")
    figure, images = draw_random(entry, wrong, right, maps=maps)
    pictures = [axes.images[0].get_array() for axes in figure.axes]
    assert len(pictures) == (wrong + right) * (2 if maps else 1)
    for at in range(wrong + right):
        assert np.array_equal(np.asarray(pictures[2 * at if maps else at]), images[at])
    headings = [text.get_text() for text in figure.texts[1:]]
    assert headings == ["Wrong, most confident first"] * bool(wrong) + ["Right, most confident first"] * bool(right)
    assert figure.axes[0].get_title(loc="left").splitlines()[0] == "row 47279, score 1.00"
    one_row = draw_random(entry, 1, 0, maps=False)[0].get_figheight()
    assert (figure.get_figheight() > one_row) == (maps or bool(wrong and right))


def test_the_caption_of_a_map_names_its_label() -> None:
    entry = subset("chestmnist")
    case = Case(0, False, entry.labels[2], f"no {entry.labels[2]}", 0.9, 2, entry.labels[2])
    image, heat = np.zeros((1, 28, 28), np.uint8), np.ones((1, 28, 28), np.float32)
    picture, over = draw_cases([case], [], image, heat, "x").axes
    assert picture.get_title(loc="left").splitlines()[-1] == f"predicted: no {entry.labels[2]}"
    assert over.get_title(loc="left") == f"support for: {entry.labels[2]}"


def test_a_map_is_drawn_over_the_image() -> None:
    image = np.full((1, 28, 28), 100, np.uint8)
    heat = np.zeros((1, 28, 28), np.float32)
    heat[0, :14] = 1
    figure = draw_cases(cases_of(subset("breastmnist"), False, 1), [], image, heat, "x")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    pixels = np.asarray(PIL.Image.open(buffer).convert("RGB")).astype(int)
    box = figure.axes[1].get_position()
    height, width = pixels.shape[:2]
    middle, top = int(width * (box.x0 + box.width / 2)), int(height * (1 - box.y1))
    tall = int(height * box.height)
    red, _, blue = pixels[top + tall // 4, middle]
    assert red > blue + 80, "yellow where the map is 1"
    assert (pixels[top + 3 * tall // 4, middle] == 100).all(), "the image itself where it is 0"


def test_the_slice_with_the_most_support_is_shown() -> None:
    entry = subset("adrenalmnist3d")
    volumes = np.zeros((2, 28, 28, 28), np.uint8)
    volumes[:, 5, 3:9, 3:9] = 200
    volumes[:, 20, 3:6, 3:6] = 200
    heat = np.zeros((2, 28, 28, 28), np.float32)
    heat[0, 20], heat[0, 2] = 0.5, 1.0  # slice 2 has no voxels above 0
    figure = draw_cases(cases_of(entry, False, 2), [], volumes, heat, "x")
    assert [axes.get_title(loc="left").splitlines()[0].split(", ")[1] for axes in figure.axes[::2]] == [
        "slice 20",
        "slice 14",  # the middle slice, for an empty map
    ]
    assert np.array_equal(np.asarray(figure.axes[0].images[0].get_array()), volumes[0, 20])
    assert np.array_equal(np.asarray(figure.axes[1].images[1].get_array()), heat[0, 20])
    (plain,) = draw_cases(cases_of(entry, False, 1), [], volumes[:1], None, "x").axes
    assert "slice 14" in plain.get_title(loc="left")
