"""The page's leaderboards hold the ranks of `leaderboard`, with test-selected results apart, for every filter."""

from typing import Any

import pytest

from medmnist_hf.catalog import subsets
from medmnist_hf.leaderboard.board import leaderboard
from medmnist_hf.leaderboard.protocols import protocols
from medmnist_hf.leaderboard.results import results
from medmnist_hf.space.facts import board_facts, boards_of, subset_facts
from medmnist_hf.space.record import compact


def test_the_facts_are_those_of_the_catalog() -> None:
    facts = subset_facts()["subsets"]
    assert [each["flag"] for each in facts] == [entry.flag for entry in subsets()]
    path = facts[0]
    assert path["labels"][0] == "adipose" and path["counts"]["test"] == 7180 and path["license"]["id"] == "cc-by-4.0"
    assert compact(subset_facts())


@pytest.mark.parametrize("flag", ["breastmnist", "organmnist3d", "chestmnist"])
def test_every_board_has_the_ranks_of_the_leaderboard(flag: str) -> None:
    facts = boards_of(flag)
    names = [result.method for result in results(flag)]
    assert set(facts["boards"]) <= set(protocols()) and facts["boards"]
    for name, boards in facts["boards"].items():
        for board in boards:
            expected = leaderboard(flag, name, clean=board["clean"], size=board["size"])
            ranked = [(names[index], auc, acc) for index, auc, acc in board["ranked"]]
            assert ranked == [(line.name, line.auc_rank, line.acc_rank) for line in expected.ranked]
            assert [names[index] for index in board["fenced"]] == [line.name for line in expected.fenced]
            assert board["left_out"] == expected.left_out
            assert all(facts["results"][index]["method"] == names[index] for index, *_ in board["ranked"])


def test_results_selected_on_test_are_never_ranked_and_clean_leaves_out_unknown_ones() -> None:
    fenced = 0
    for entry in subsets():
        facts = boards_of(entry.flag)
        rows: list[dict[str, Any]] = facts["results"]
        for board in (board for boards in facts["boards"].values() for board in boards):
            chosen = [rows[index]["selected_on"] for index, *_ in board["ranked"]]
            assert "test" not in chosen and not (board["clean"] and "unknown" in chosen)
            assert {rows[index]["selected_on"] for index in board["fenced"]} <= {"test"}
            fenced += len(board["fenced"])
    assert fenced


def test_intervals_enclose_their_scores_and_stay_between_0_and_1() -> None:
    rows = [row for entry in subsets() for row in boards_of(entry.flag)["results"] if row]
    values = [row[name] for row in rows for name in ("auc", "acc") if row[name] is not None]
    assert len(values) > 500 and all(0 <= low <= value <= high <= 1 for value, low, high in values)
    assert any(row["auc"] is None for row in rows)
    assert {row["source"] for row in rows} == set(board_facts()["sources"])
