"""`medmnist_hf.training.standing`: the protocol of a run, and its place among published results of that protocol."""

import math
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.leaderboard.board import leaderboard
from medmnist_hf.leaderboard.uncertainty import interval_standard_error
from medmnist_hf.training.recipe import make_recipe
from medmnist_hf.training.results import RESULTS_NAME, RunResult, read_results
from medmnist_hf.training.standing import board_of, own_mean, protocol_of, rank_of
from tests.fixtures.benchmarks import leave_run

VIT = "timm/vit_tiny_patch16_224"


def result_of(folder: Path, test: list[float], **options: Any) -> RunResult:
    leave_run(folder, test=test, validation=test, dataset="breastmnist", **options)
    return read_results(folder / RESULTS_NAME)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "official"),
        ({"model": VIT, "pretrained": False}, "official"),
        ({"model": VIT}, "28-pretrained"),
        ({"model": VIT, "method": "linear-probe"}, "28-frozen"),
        ({"model": VIT, "size": 224}, "224-pretrained"),
        ({"model": VIT, "size": 224, "method": "knn"}, "224-frozen"),
        ({"size": 224}, "224-scratch"),
        ({"size": 64}, "other-size"),
        ({"shots": 5}, ""),
        ({"fraction": 1.0}, "official"),
    ],
)
def test_the_protocol_of_a_run(options: dict[str, Any], expected: str) -> None:
    assert protocol_of(make_recipe({"dataset": "breastmnist", **options})) == expected


def test_errors_are_of_the_interval_and_of_the_seeds(tmp_path: Path) -> None:
    own = own_mean("mine", result_of(tmp_path / "one", [0.9]))
    assert (own.name, own.auc, own.acc) == ("mine", 0.9, 0.8)
    assert own.auc_error == own.acc_error == pytest.approx(0.1 / 2 / 1.959964, rel=1e-6)
    several = own_mean("", result_of(tmp_path / "two", [0.9, 0.8]))
    assert several.auc_error == pytest.approx(math.hypot(own.auc_error, 0.1 / 2), rel=1e-6)
    assert math.isnan(interval_standard_error(math.nan, math.nan))


def test_a_run_and_the_leaderboard_give_the_same_place(tmp_path: Path) -> None:
    for options in ({}, {"model": VIT, "size": 224}):
        for auc in (0.99, 0.85, 0.5):
            result = result_of(tmp_path / f"{auc}-{len(options)}", [auc], **options)
            name = protocol_of(result.recipe)
            (line,) = (
                line
                for line in leaderboard("breastmnist", name, [own_mean("mine", result)]).ranked
                if line.result is None
            )
            rank = rank_of(result)
            assert rank is not None and rank == result.rank
            assert (rank.auc, rank.acc, rank.protocol) == (line.auc_rank, line.acc_rank, name)


def test_a_protocol_without_published_results_has_no_board() -> None:
    assert board_of(make_recipe({"dataset": "breastmnist", "size": 64})) is None
    assert board_of(make_recipe({"dataset": "breastmnist", "shots": 5})) is None
