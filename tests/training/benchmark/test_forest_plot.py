"""The forest plot of a board: well-formed, marks at their scores, names escaped, nothing outside the frame."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmnist_hf.training.benchmark.boards import gather
from medmnist_hf.training.benchmark.forest_plot import forest
from medmnist_hf.training.benchmark.rows import Board
from tests.fixtures.benchmarks import leave_run


def board(folder: Path, tests: list[float], model: str = "resnet18") -> Board:
    for epochs, test in enumerate(tests, 1):
        leave_run(
            folder / str(epochs), test=[test], validation=[1 - test], dataset="breastmnist", epochs=epochs, model=model
        )
    (gathered,) = gather(folder)
    return gathered


def scale(svg: ET.Element) -> tuple[float, float]:
    """x of AUC 0 and length of one unit of AUC, from the grid and its labels."""
    grid = [float(path.attrib["d"].split()[0][1:]) for path in svg.findall("path[@class='grid']")]
    ticks = [float(text.text or "") for text in svg.findall("text[@class='tick']")]
    assert len(grid) == len(ticks) >= 2 and ticks == sorted(ticks)
    length = (grid[-1] - grid[0]) / (ticks[-1] - ticks[0])
    return grid[0] - ticks[0] * length, length


def test_every_mark_is_where_its_score_is(tmp_path: Path) -> None:
    plotted = board(tmp_path, [0.95, 0.72])
    svg = ET.fromstring(forest(plotted))
    zero, length = scale(svg)
    discs = [float(element.attrib["cx"]) for element in svg.findall(".//circle[@class='own']")]
    assert discs == pytest.approx([zero + length * auc for auc in (0.95, 0.72)], abs=0.1)
    squares = [float(element.attrib["x"]) + 4 for element in svg.findall(".//rect[@class='published']")]
    published = [row.auc.mean for row in plotted.rows if not row.own]
    assert squares == pytest.approx([zero + length * auc for auc in published], abs=0.1) and len(squares) == 7
    ends = [re.findall(r"[MH]([\d.]+)", element.attrib["d"]) for element in svg.findall(".//path[@class='interval']")]
    expected = [[zero + length * (auc - 0.05), zero + length * (auc + 0.05)] for auc in (0.95, 0.72)]
    assert [[float(end) for end in pair] for pair in ends] == [pytest.approx(pair, abs=0.1) for pair in expected]
    (ring,) = svg.findall(".//circle[@class='ring']")
    assert float(ring.attrib["cx"]) == discs[1]  # the worse on test, chosen on validation
    (best,) = svg.findall("path[@class='best']")
    assert float(best.attrib["d"].split()[0][1:]) == pytest.approx(zero + length * 0.919, abs=0.1)
    texts = ["".join(element.itertext()) for element in svg.findall("g/text")]
    assert texts[:2] == ["0.950 0.900 to 1.000", "0.919"] and len(texts) == 9
    names = [element.text for element in svg.findall("g/svg/text")]
    assert names[0] == "resnet18 finetune, 28" and len(names) == 9


def test_it_has_a_label_for_screen_readers(tmp_path: Path) -> None:
    svg = ET.fromstring(forest(board(tmp_path, [0.9])))
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-label"] == "Test AUC on BreastMNIST of 8 rows of the table, best first"


def test_a_hostile_or_long_name_is_text(tmp_path: Path) -> None:
    name = '<script>"&' + "x" * 100
    svg = ET.fromstring(forest(board(tmp_path, [0.9], model=name)))
    text = svg.findall(".//text[@class='chosen']")[0]
    assert text.findtext("title") == f"{name} finetune, 28, defaults, epochs 1 (1)"
    assert text.text == f"{name[:44]}…" and not svg.findall(".//script")


def test_runs_without_a_test_score_are_not_drawn(tmp_path: Path) -> None:
    leave_run(tmp_path / "untested", test=[], validation=[0.8], dataset="breastmnist")
    svg = ET.fromstring(forest(board(tmp_path, [0.9])))
    assert len(svg.findall(".//circle[@class='own']")) == 1
    (alone,) = gather(tmp_path / "untested")
    assert not ET.fromstring(forest(alone)).findall(".//circle")


@settings(max_examples=30, deadline=None)
@given(auc=st.floats(0.05, 0.95))
def test_all_marks_are_within_the_frame(tmp_path_factory: pytest.TempPathFactory, auc: float) -> None:
    svg = ET.fromstring(forest(board(tmp_path_factory.mktemp("runs"), [auc])))
    width, height = map(float, svg.attrib["viewBox"].split()[2:])
    numbers = min(float(element.attrib["x"]) for element in svg.findall("g/text"))
    names = max(float(element.attrib["x"]) + float(element.attrib["width"]) for element in svg.findall("g/svg"))
    for element in (*svg.iter("circle"), *svg.findall("path"), *svg.findall("g/path"), *svg.iter("rect")):
        across = [float(element.attrib[name]) for name in ("x", "cx") if name in element.attrib]
        across += [float(end) for end in re.findall(r"[MH]([-\d.]+)", element.attrib.get("d", ""))]
        assert all(names < place - 8 and place + 8 < numbers for place in across), "marks do not overlap texts"
    for element in svg.iter():
        places = [float(element.attrib[name]) for name in ("x", "cx") if name in element.attrib]
        places += [float(end) for end in re.findall(r"[MH]([-\d.]+)", element.attrib.get("d", ""))]
        assert all(0 <= place <= width for place in places)
        assert all(0 <= float(element.attrib[name]) <= height for name in ("y", "cy") if name in element.attrib)
    assert 2 <= len(svg.findall("path[@class='grid']")) <= 8
