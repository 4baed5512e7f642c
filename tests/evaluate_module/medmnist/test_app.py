"""The app of the Space, without gradio: scoring pasted lines."""

import json

import pytest

from medmnist_hf.errors import ScoreError
from medmnist_hf.evaluate_module.medmnist.app import EXAMPLE, answer, parse


def test_pasted_rows_are_scored() -> None:
    assert json.loads(answer("breastmnist", EXAMPLE)) == {"auc": 1.0, "acc": 0.75}
    result = json.loads(answer("breastmnist", "0,-2\n\n1, 3\n1,1\n0,-1", logits=True, intervals=True))
    assert result["auc"] == result["acc"] == 1.0 and result["auc_low"] < result["auc_high"] == 1.0


def test_findings_are_separated_by_spaces() -> None:
    text = "0 2, 0.9, 0.1, 0.8\n, 0.1, 0.2, 0.3\n1, 0.2, 0.7, 0.1"
    assert parse(text)[0] == [[0, 2], [], [1]]
    assert json.loads(answer("multi-label", text)) == {"auc": 1.0, "acc": 1.0}


def test_undefined_values_are_noted() -> None:
    assert "Note: AUC leaves out class 2" in answer("fracturemnist3d", "0,1,0,0\n1,0,1,0")
    assert '"auc": NaN' in answer("breastmnist", "0, 0.1") and "Note: AUC is nan" in answer("breastmnist", "0, 0.1")


@pytest.mark.parametrize(
    ("config", "text", "message"),
    [
        ("breastmnist", "", "Error: no lines"),
        ("breastmnist", "0, a", "Error: line 1 is not `reference, score, score, ...`: 0, a"),
        ("breastmnist", "0, 0.5\n1, 0.5, 0.5", "Error: line 2 has 2 scores"),
        ("breastmnist", "0", "Error: line 1 has 0 scores"),
        ("breastmnist", "2, 0.5", "Error: references: class id 2 at row 0"),
        ("breastmnist", "1, 7", "Error: scores run from 7 to 7"),
        ("nomnist", "1, 0.7", "Error: unknown subset 'nomnist'"),
    ],
)
def test_errors_are_one_line(config: str, text: str, message: str) -> None:
    text = answer(config, text)
    assert text.startswith(message) and "\n" not in text


def test_parse_names_the_invalid_line() -> None:
    with pytest.raises(ScoreError, match="line 3 is not"):
        parse("0, 1\n1, 0\nx")
