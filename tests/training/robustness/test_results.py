"""``robustness.json`` and ``robustness.csv``: what is written is read back, and what does not follow is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.manifest import Provenance
from medmnist_hf.training.robustness.results import RESULT_NAME, Robustness, Scores, read_robustness
from tests.fixtures.robustness import measured, robustness


def test_a_result_is_read_back() -> None:
    result = robustness()
    undefined = replace(result, clean=replace(result.clean, scores=(Scores(0.5, math.nan, 0.5),)))
    for each in (result, robustness(size=28, kind="phantom"), robustness({"pixelate": 0.25})):
        assert Robustness.from_json(each.to_json(), "x") == each
    assert math.isnan(Robustness.from_json(undefined.to_json(), "x").clean.scores[0].auc)
    table = json.loads(result.to_json())
    assert table["errors"]["be"] == pytest.approx(1) and table["provenance"] == "verified" and table["caveats"] == []


def test_what_is_not_comparable_says_so() -> None:
    assert robustness().caveats == () == robustness().marks
    result = robustness({"pixelate": 0.25}, size=28, kind="phantom")
    assert result.marks == ("synthetic", "size28", "incomplete")
    assert [text.split(":")[0] for text in result.caveats] == ["SYNTHETIC", "Size 28", "Incomplete"]
    assert "jpeg_compression" in result.caveats[2] and "pixelate" not in result.caveats[2]
    assert robustness(trained_on="synthetic").provenance is Provenance.SYNTHETIC
    assert robustness(trained_on=None).provenance is Provenance.VERIFIED


def test_values_that_do_not_follow_are_refused(tmp_path: Path) -> None:
    for change in ({"provenance": "synthetic"}, {"caveats": ["none"]}, {"format": 2}):
        text = json.dumps(json.loads(robustness().to_json()) | change)
        with pytest.raises(TrainingError, match=r"^x is damaged \(.*\): write it again with medmnist-hf robustness$"):
            Robustness.from_json(text, "x")
    table = json.loads(robustness().to_json())
    table["errors"]["be"] = 0.5
    with pytest.raises(TrainingError, match="do not follow from what was measured"):
        Robustness.from_json(json.dumps(table), "x")
    with pytest.raises(TrainingError, match=f"cannot read .*{RESULT_NAME}"):
        read_robustness(tmp_path / RESULT_NAME)


def test_the_table_has_a_line_for_each_severity() -> None:
    result = replace(robustness(), corruptions=(measured("pixelate", 0.25, 0.5),))
    undefined = replace(result, clean=replace(result.clean, scores=(Scores(0.5, math.nan, 0.5),)))
    assert undefined.to_csv().splitlines() == [
        "corruption,severity,error,auc,acc",
        "clean,0,0.5,,0.5",
        "pixelate,1,0.25,0.5,0.75",
        "pixelate,2,0.5,0.5,0.5",
    ]
