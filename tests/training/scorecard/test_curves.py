"""Few-label curves: their points, where they fall, and their drawing."""

import math
import xml.etree.ElementTree as ET
from dataclasses import replace

from medmnist_hf.training.scorecard.card import Estimate
from medmnist_hf.training.scorecard.curves import curve, draw_curves, falls
from tests.fixtures.scorecards import SCORES, invented_card


def test_points_rise_with_rows_and_end_with_all() -> None:
    part = invented_card().subsets[0]
    assert [(point.protocol, point.rows) for point in curve(part, "shots")] == [
        ("shots-1", 2),
        ("shots-5", 10),
        ("linear-probe", 546),
    ]
    assert [point.protocol for point in curve(part, "fraction")] == ["fraction-10", "linear-probe"]
    assert list(falls(part)) == []


def test_a_fall_beyond_both_intervals_is_named() -> None:
    assert list(falls(invented_card(aucs=SCORES | {"shots-5": 0.585}).subsets[0])) == [], "within the intervals"
    assert list(falls(invented_card(aucs=SCORES | {"shots-5": 0.57}).subsets[0])) == [
        "breastmnist: AUC falls from 0.600 (shots-1) to 0.570 (shots-5)"
    ]


def test_the_drawing_holds_all_points_within_its_frame() -> None:
    root = ET.fromstring(str(draw_curves(invented_card().subsets[0])))
    assert len(root.findall("circle")) == 3 and len(root.findall("rect")) == 2
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    for mark in (*root.findall("circle"), *root.findall("rect")):
        x, y = (float(mark.attrib.get(f"c{name}") or mark.attrib[name]) for name in "xy")
        assert 0 < x < width and 0 < y < height
    texts = ["".join(text.itertext()) for text in root.findall("text")]
    assert "kNN, all labels" in texts and "546" in texts and "0.90" in texts


def test_nothing_is_drawn_without_two_points() -> None:
    assert draw_curves(invented_card(aucs={"knn": 0.5, "linear-probe": 0.9}).subsets[0]) == ""
    part = invented_card(aucs={"shots-1": 0.5}).subsets[0]
    assert draw_curves(part) == ""
    unknown = replace(part.results[0], auc=Estimate(math.nan, math.nan, math.nan, ""))
    assert curve(replace(part, results=(unknown,)), "shots") == []
