"""Runs on disk as boards: means and deviations against numpy, places, the choice on validation, and damaged files."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmnist_hf.errors import TrainingError
from medmnist_hf.scoring.published import published_results
from medmnist_hf.training.benchmark.boards import best_on_validation, gather, protocol
from medmnist_hf.training.recipe import Recipe, make_recipe
from tests.fixtures.benchmarks import leave_run


def recipe_of(preset: str | None = None, **options: Any) -> Recipe:
    return make_recipe({"dataset": "breastmnist", **options}, preset=preset)


def test_scores_are_means_over_seeds_with_sample_deviation_and_mean_ends(tmp_path: Path) -> None:
    test, validation = [0.80, 0.85, 0.93], [0.70, 0.75, 0.71]
    facts = {"parameters": 100, "trained_parameters": 10}
    leave_run(tmp_path / "a" / "b", test=test, validation=validation, facts=facts, dataset="breastmnist", epochs=3)
    (board,) = gather(tmp_path)
    (row,) = board.own
    assert row.auc.mean == pytest.approx(np.mean(test)) and row.auc.std == pytest.approx(np.std(test, ddof=1))
    assert row.auc.low == pytest.approx(np.mean(test) - 0.05) and row.auc.high == pytest.approx(np.mean(test) + 0.05)
    assert row.acc.mean == pytest.approx(np.mean(test) - 0.1)
    assert row.validation_auc.mean == pytest.approx(np.mean(validation)) and math.isnan(row.validation_auc.low)
    assert (row.folder, row.seeds, row.seconds) == ("a/b", (0, 1, 2), 11.0)
    assert (row.parameters, row.trained_parameters) == (100, 10)
    assert (row.model, row.method, row.size, row.chosen) == ("resnet18", "finetune", 28, True)


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    leave_run(tmp_path / "run", test=[0.8], validation=[0.7], dataset="breastmnist")
    (board,) = gather(tmp_path)
    assert math.isnan(board.chosen.auc.std) and board.chosen.auc.mean == 0.8


def test_places_are_among_published_rows_and_own_and_the_choice_is_on_validation(tmp_path: Path) -> None:
    scores = {"best on test": (0.95, 0.80), "chosen": (0.90, 0.85), "as published": (0.871, 0.5)}
    for epochs, (name, (test, validation)) in enumerate(scores.items(), 1):
        leave_run(tmp_path / name, test=[test], validation=[validation], dataset="breastmnist", epochs=epochs)
    (board,) = gather(tmp_path)
    aucs = [row.auc for row in published_results("breastmnist")] + [test for test, _ in scores.values()]
    assert [row.place for row in board.rows] == [1 + sum(auc > row.auc.mean for auc in aucs) for row in board.rows]
    assert [row.auc.mean for row in board.rows] == sorted(aucs, reverse=True)
    assert {row.folder: row.place for row in board.own} == {"best on test": 1, "chosen": 4, "as published": 6}
    assert board.chosen.folder == "chosen" and [row for row in board.rows if row.chosen] == [board.chosen]
    assert (board.published_place, board.published_places) == (3, 8)
    assert len(board.rows) == len(board.own) + 7
    assert any("enlarged to 224 by nearest neighbour" in note for note in board.notes)


def test_boards_are_in_the_order_of_the_catalogue_and_other_sizes_are_noted(tmp_path: Path) -> None:
    leave_run(tmp_path / "r", test=[0.7], validation=[0.7], dataset="retinamnist", size=224)
    leave_run(tmp_path / "p", test=[0.9], validation=[0.9], dataset="pathmnist")
    path, retina = gather(tmp_path)
    assert (path.subset.flag, retina.subset.flag) == ("pathmnist", "retinamnist")
    assert "files of size 28; rows of size 224 read others" in retina.notes[0]
    assert not any("rows of size" in note for note in path.notes)


def test_runs_without_test_scores_are_listed_without_a_place_and_never_chosen_before_others(tmp_path: Path) -> None:
    for epochs, (validation, tested) in enumerate([(0.95, False), (0.80, True), (0.85, True)], 1):
        test = [0.9] if tested else []
        leave_run(tmp_path / str(epochs), test=test, validation=[validation], dataset="breastmnist", epochs=epochs)
    (board,) = gather(tmp_path)
    assert board.chosen.folder == "3" and len(board.own) == 3
    untested = board.rows[-1]
    assert untested.folder == "1" and untested.place is None and math.isnan(untested.auc.mean)
    assert untested.validation_auc.mean == 0.95 and "test False" in untested.protocol


def test_a_board_of_runs_without_test_scores_alone(tmp_path: Path) -> None:
    for epochs, validation in enumerate([0.6, 0.7], 1):
        leave_run(tmp_path / str(epochs), test=[], validation=[validation], dataset="breastmnist", epochs=epochs)
    (board,) = gather(tmp_path)
    assert board.chosen.folder == "2" and board.published_place is None


def test_scores_that_are_not_defined_stay_so(tmp_path: Path) -> None:
    leave_run(tmp_path / "run", test=[0.8, math.nan], validation=[math.nan, math.nan], dataset="breastmnist")
    (board,) = gather(tmp_path)
    assert math.isnan(board.chosen.auc.mean) and math.isnan(board.chosen.auc.std) and board.chosen.place is None
    assert math.isnan(board.chosen.validation_auc.mean)


def test_a_folder_without_runs_has_no_boards(tmp_path: Path) -> None:
    assert gather(tmp_path) == ()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=6))
def test_the_choice_is_the_best_validation_of_those_tested(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[float, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    for epochs, (validation, tested) in enumerate(runs, 1):
        test = [0.5] if tested else []
        leave_run(folder / str(epochs), test=test, validation=[validation], dataset="breastmnist", epochs=epochs)
    (board,) = gather(folder)
    tested_alone = [validation for validation, tested in runs if tested]
    best = best_on_validation(board.own)
    assert best == board.chosen
    assert best.validation_auc.mean == pytest.approx(max(tested_alone or [validation for validation, _ in runs]))


def test_a_protocol_is_the_nearest_preset_and_what_differs() -> None:
    assert protocol(recipe_of()) == "defaults"
    assert protocol(recipe_of(epochs=3, seeds=[1], root="dist")) == "defaults, epochs 3"
    assert protocol(recipe_of(preset="medmnist_v2")) == "medmnist_v2"
    told = protocol(recipe_of(preset="foundation", epochs=2, root="dist"), hidden=("seeds",))
    assert told.startswith("foundation, ") and {"epochs 2", "root dist"} <= set(told.split(", "))


def test_where_the_data_is_from_is_told_if_runs_differ_in_it(tmp_path: Path) -> None:
    leave_run(tmp_path / "a", test=[0.8], validation=[0.7], dataset="breastmnist", root="one")
    assert gather(tmp_path)[0].chosen.protocol == "defaults"
    leave_run(tmp_path / "b", test=[0.8], validation=[0.7], dataset="breastmnist", root="two")
    assert {row.protocol for row in gather(tmp_path)[0].own} == {"defaults, root one", "defaults, root two"}


def test_a_damaged_file_is_named_in_one_line(tmp_path: Path) -> None:
    leave_run(tmp_path / "run", test=[0.8], validation=[0.7], dataset="breastmnist")
    (tmp_path / "run" / "results.json").write_text("{", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"run.results\.json is damaged .*: remove it and run again") as caught:
        gather(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_search_that_was_broken_off_is_marked(tmp_path: Path) -> None:
    options: dict[str, Any] = {"dataset": "breastmnist", "model": "pixels", "method": "flaml", "time_budget": 60}
    leave_run(tmp_path / "run", test=[0.8], validation=[0.7], facts={"partial": "stopped after 3 s"}, **options)
    (board,) = gather(tmp_path)
    assert board.chosen.protocol == "defaults, time_budget 60.0; partial: seed 0"


def test_presets_of_an_engine_are_for_that_engine_alone() -> None:
    options: dict[str, Any] = {"model": "pixels", "trials": 20, "epochs": 20}
    assert protocol(recipe_of(**options, method="autokeras", time_budget="24h")) == "automl_autokeras"
    assert protocol(recipe_of(**options, method="flaml")) == "defaults, epochs 20, trials 20"
