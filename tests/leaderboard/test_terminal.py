"""Leaderboards on the terminal and as JSON values."""

import pytest

from medmnist_hf.leaderboard.board import OwnResult, leaderboard
from medmnist_hf.leaderboard.terminal import board_facts, board_notes, print_board, print_own
from medmnist_hf.manifest import Provenance


def test_a_board_has_a_line_per_result_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    board = leaderboard("breastmnist", "224-frozen", [OwnResult("mine", 0.9, 0.8, 0.02, 0.03)])
    print_board(board)
    title, heads, *lines = capsys.readouterr().out.splitlines()
    assert title.startswith("breastmnist, protocol 224-frozen: pretrained and frozen")
    assert heads.split()[:7] == ["AUC", "SE", "place", "ACC", "SE", "place", "selected"]
    assert [line.split() for line in lines if "mine" in line] == [
        ["0.900", "0.020", "1", "0.800", "0.030", "1", "mine", "(yours)"]
    ]
    assert sum("linear probe" in line for line in lines if not line.startswith("note:")) == 4
    notes = list(board_notes(board))
    assert [line for line in lines if line.startswith("note: ")] == [f"note: {note}" for note in notes]
    assert notes[0].startswith("results share a place") and notes[1].startswith("resnet18, linear probe: At chance")


def test_a_note_on_many_results_names_the_first_three() -> None:
    (_, note) = board_notes(leaderboard("chestmnist", "224-pretrained"))
    assert " and 25 more: The accuracy is left out: " in note


def test_a_place_that_is_shared_for_a_wide_error_says_little() -> None:
    """Seeds of 0.73, 0.73 and 0.34 share the first place, which one seed of 0.73 does not."""
    own = [OwnResult("wide", 0.68, 0.60, 0.05, 0.135), OwnResult("usual", 0.65, 0.73, 0.05, 0.035)]
    board = leaderboard("breastmnist", "official", own)
    assert {line.name: line.acc_rank for line in board.ranked if line.result is None} == {"wide": 1, "usual": 8}
    notes = [note for note in board_notes(board) if "says little" in note]
    assert len(notes) == 1 and notes[0].startswith("the place of wide by ACC says little: its standard error is 4.")


def test_values_for_json() -> None:
    facts = board_facts(leaderboard("pathmnist", "224-pretrained", clean=True))
    assert facts["protocol"]["name"] == "224-pretrained" and facts["left_out"] == 0
    assert facts["sources"]["mayo_2026"]["url"].startswith("https://github.com/Mayo-Radiology")
    assert [row["name"] for row in facts["selected_on_test"]] == ["MedViTV2-L"]
    assert not any(row["own"] for row in facts["rows"]) and facts["rows"][0]["published"].seeds == 10


def test_own_results_on_other_data_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    own = [OwnResult(name, auc, 0.5, 0.1, 0.1) for name, auc in (("a", 0.6), ("b", 0.7))]
    print_own(Provenance.SYNTHETIC, own)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [[auc, "0.500", "SYNTHETIC:", name, "(yours)"] for auc, name in (("0.700", "b"), ("0.600", "a"))]
