"""The section of a card on the robustness of runs of its model."""

from pathlib import Path

import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.robustness.report import write_robustness
from medmnist_hf.training.robustness.results import Robustness
from medmnist_hf.training.scorecard.card_page import write_card
from medmnist_hf.training.scorecard.robustness import ROBUSTNESS, robustness_of
from tests.fixtures.robustness import robustness
from tests.fixtures.scorecards import invented_card

MODEL = "timm/resnet18"


def report(out: Path, name: str, result: Robustness) -> None:
    folder = out / ROBUSTNESS / name
    folder.mkdir(parents=True)
    write_robustness(result, folder, "resnet18")


def test_a_card_without_reports_has_no_section(tmp_path: Path) -> None:
    write_card(invented_card(MODEL), tmp_path)
    assert "Robustness" not in (tmp_path / "scorecard.md").read_text()


def test_each_report_has_a_line_in_the_card(tmp_path: Path) -> None:
    report(tmp_path, "a", robustness(flag="pneumoniamnist"))
    report(tmp_path, "b", robustness({"pixelate": 0.25}, kind="phantom"))
    write_card(invented_card(MODEL), tmp_path)
    text = (tmp_path / "scorecard.md").read_text()
    assert "## Robustness" in text and "read BE first" in text
    lines = [line for line in text.splitlines() if " finetune seed0 " in line]
    assert lines[0].startswith("| pneumoniamnist | finetune seed0 | 224 | 1.000 |") and "| 13 of 13 |" in lines[0]
    assert "contrast_up: AlexNet's error falls by 0.0056." in lines[0]
    assert lines[1].startswith("| SYNTHETIC: breastmnist |") and "| 1 of 7 |" in lines[1]
    assert "SYNTHETIC: breastmnist" in (tmp_path / "scorecard.html").read_text()


def test_a_report_of_another_model_is_refused(tmp_path: Path) -> None:
    report(tmp_path, "a", robustness())
    with pytest.raises(TrainingError, match=r"is of timm/resnet18, but the card is of timm/vit: move .*/a away$"):
        robustness_of(tmp_path, "timm/vit")
