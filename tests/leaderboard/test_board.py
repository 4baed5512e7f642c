"""Ranks shared by significance, and results that are fenced off."""

import math
from dataclasses import replace

import pytest

from medmnist_hf.leaderboard.board import SIGNIFICANT, OwnResult, leaderboard, shared_ranks
from medmnist_hf.leaderboard.terminal import board_facts


def test_values_within_two_standard_errors_of_the_first_share_its_rank() -> None:
    values, errors = [0.80, 0.95, 0.90, 0.70, math.nan], [0.02] * 4 + [math.nan]
    apart = SIGNIFICANT * math.hypot(0.02, 0.02)
    assert 0.95 - 0.90 < apart < 0.90 - 0.80
    assert shared_ranks(values, errors) == [3, 1, 1, 4, None]
    assert shared_ranks(values, [0.0] * 5) == [3, 1, 2, 4, None]
    assert shared_ranks([], []) == []
    assert shared_ranks([0.9, 0.9, 0.8], [math.nan, 0.1, 0.1]) == [1, 1, 3], "an error that is unknown"


def test_a_rank_is_shared_with_its_first_value_not_with_the_one_above() -> None:
    """Otherwise a chain of small differences would give all the same rank."""
    assert shared_ranks([0.90, 0.88, 0.86, 0.84], [0.01] * 4) == [1, 1, 3, 3]


def test_results_selected_on_test_never_have_a_rank() -> None:
    for clean in (False, True):
        board = leaderboard("pathmnist", "224-pretrained", clean=clean)
        assert [line.name for line in board.fenced] == ["MedViTV2-L"]
        assert "MedViTV2-L" not in [line.name for line in board.ranked]
        assert all(line.auc_rank is line.acc_rank is None for line in board.fenced)


def test_own_results_do_not_change_the_ranks_of_others() -> None:
    own = [OwnResult(f"own {index}", 0.99 - index / 100, 0.95, 1e-4, 1e-4) for index in range(3)]
    alone = leaderboard("breastmnist", "official")
    board = leaderboard("breastmnist", "official", own)
    assert [line for line in board.ranked if line.result is not None] == list(alone.ranked)
    assert [line.auc_rank for line in board.ranked[:3]] == [1, 1, 1]
    assert [line.name for line in board.ranked[:3]] == ["own 0", "own 1", "own 2"]


def test_own_results_of_another_protocol_have_no_rank() -> None:
    other = OwnResult("other", 0.99, 0.99, 0.01, 0.01)
    board = leaderboard("breastmnist", "official", unranked=[other])
    assert (board.ranked[0].name, board.ranked[0].auc_rank, board.ranked[0].acc_rank) == ("other", None, None)
    assert leaderboard("breastmnist", "few-shot", [other]).ranked[0].auc_rank is None


@pytest.mark.parametrize(("size", "count"), [(224, 34), (28, 0)])
def test_a_size_narrows_the_results(size: int, count: int) -> None:
    assert len(leaderboard("breastmnist", "224-pretrained", size=size).ranked) == count


def test_further_results_are_ranked_like_published_ones() -> None:
    alone = leaderboard("breastmnist", "224-pretrained")
    best = alone.ranked[0].result
    assert best is not None
    better = replace(best, method="better", source="entries", auc=0.999)
    elsewhere = replace(better, subset="retinamnist")
    board = leaderboard(
        "breastmnist", "224-pretrained", entries=[better, elsewhere, replace(better, selected_on="test")]
    )
    assert [line.result for line in board.ranked].count(better) == 1 and len(board.ranked) == len(alone.ranked) + 1
    assert (board.ranked[0].name, board.ranked[0].auc_rank) == ("better", 1)
    assert board.ranked[1].auc_rank == 2, "a published result has its place below"
    assert [line.name for line in board.fenced] == ["better", "MedViTV2-L"]
    assert "entries" not in board_facts(board)["sources"]
