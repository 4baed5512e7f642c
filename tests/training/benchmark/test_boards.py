"""Boards of runs on disk: means and deviations against numpy, places, the choice on validation, damaged files."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.leaderboard.board import leaderboard
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.published import published_results
from medmnist_hf.training.benchmark.boards import gather, protocol
from medmnist_hf.training.benchmark.rows import Board, Row, best_on_validation
from medmnist_hf.training.recipe import Recipe, make_recipe
from tests.fixtures.benchmarks import leave_run


def chosen(board: Board) -> Row:
    """The chosen row of a board."""
    assert board.chosen is not None
    return board.chosen


def recipe_of(preset: str | None = None, **options: Any) -> Recipe:
    return make_recipe({"dataset": "breastmnist", **options}, preset=preset)


def test_scores_are_means_over_seeds_with_deviation_and_interval(tmp_path: Path) -> None:
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
    assert math.isnan(chosen(board).auc.std) and chosen(board).auc.mean == 0.8


def test_rows_are_ranked_among_published_ones_and_chosen_on_validation(tmp_path: Path) -> None:
    scores = {"best on test": (0.95, 0.80), "chosen": (0.90, 0.85), "as published": (0.871, 0.5)}
    for epochs, (name, (test, validation)) in enumerate(scores.items(), 1):
        leave_run(tmp_path / name, test=[test], validation=[validation], dataset="breastmnist", epochs=epochs)
    (board,) = gather(tmp_path)
    aucs = [row.auc for row in published_results("breastmnist")]
    own = [test for test, _ in scores.values()]
    assert [row.auc.mean for row in board.rows] == sorted(aucs + own, reverse=True)
    assert {row.folder: row.place for row in board.own} == {"best on test": 1, "chosen": 1, "as published": 1}
    lines = {line.name: line.auc_rank for line in leaderboard("breastmnist", "official").ranked}
    assert {row.model: row.place for row in board.published} == lines and lines["auto-sklearn"] == 7
    assert board.provenance is Provenance.VERIFIED and board.name == "BreastMNIST"
    assert chosen(board).folder == "chosen" and [row for row in board.rows if row.chosen] == [board.chosen]
    assert (chosen(board).place, chosen(board).places, chosen(board).ranked_in) == (1, 8, "official")
    assert len(board.rows) == len(board.own) + 7
    assert any("enlarged to 224 by nearest neighbor" in note for note in board.notes)


def test_boards_follow_the_catalog_and_rank_each_run_in_its_protocol(tmp_path: Path) -> None:
    vit: dict[str, Any] = {"size": 224, "model": "timm/vit_tiny_patch16_224"}
    leave_run(tmp_path / "r", test=[0.7], validation=[0.7], dataset="breastmnist", **vit)
    leave_run(tmp_path / "s", test=[0.9], validation=[0.7], dataset="breastmnist")
    leave_run(tmp_path / "t", test=[0.95], validation=[0.7], dataset="breastmnist", size=64)
    leave_run(tmp_path / "p", test=[0.9], validation=[0.9], dataset="pathmnist")
    path, breast = gather(tmp_path)
    assert (path.subset.flag, breast.subset.flag) == ("pathmnist", "breastmnist")
    kinds = [("224-pretrained", 224), ("official", 28), ("other-size", 64)]
    assert [row.comparable for row in sorted(breast.own, key=lambda row: row.folder)] == kinds
    counts = Counter(row.comparable for row in breast.published)
    assert set(counts) == set(kinds[:2])
    expected = {kind: counts[kind] + 1 if kind in counts else 0 for kind in kinds}
    assert {row.comparable: row.places for row in breast.own} == expected
    assert "Published rows of 224-pretrained that were selected on test are left out: 1." in breast.notes
    assert not any(row.model == "MedViTV2-L" for row in breast.rows)
    assert any("Rows of different protocols" in note for note in breast.notes)
    assert not any("Rows of different protocols" in note for note in path.notes)


@pytest.mark.parametrize("provenance", Provenance)
def test_a_variant_of_a_subset_has_a_board_without_published_results(tmp_path: Path, provenance: Provenance) -> None:
    for name in ("dermamnist-corrected", "dermamnist"):
        leave_run(tmp_path / name, test=[0.9], validation=[0.8], dataset=name, provenance=provenance)
    usual, corrected = gather(tmp_path)
    assert (usual.subset.flag, corrected.subset.flag) == ("dermamnist", "dermamnist-corrected")
    assert corrected.published == () and chosen(corrected).place is None
    assert bool(usual.published) == provenance.comparable


def test_runs_without_test_scores_have_no_place_and_lowest_precedence(tmp_path: Path) -> None:
    for epochs, (validation, tested) in enumerate([(0.95, False), (0.80, True), (0.85, True)], 1):
        test = [0.9] if tested else []
        leave_run(tmp_path / str(epochs), test=test, validation=[validation], dataset="breastmnist", epochs=epochs)
    (board,) = gather(tmp_path)
    assert chosen(board).folder == "3" and len(board.own) == 3
    untested = board.rows[-1]
    assert untested.folder == "1" and untested.place is None and math.isnan(untested.auc.mean)
    assert untested.validation_auc.mean == 0.95 and "test False" in untested.protocol


def test_a_board_without_any_test_scores(tmp_path: Path) -> None:
    for epochs, validation in enumerate([0.6, 0.7], 1):
        leave_run(tmp_path / str(epochs), test=[], validation=[validation], dataset="breastmnist", epochs=epochs)
    (board,) = gather(tmp_path)
    assert chosen(board).folder == "2" and chosen(board).place is None


def test_undefined_scores_stay_undefined(tmp_path: Path) -> None:
    leave_run(tmp_path / "run", test=[0.8, math.nan], validation=[math.nan, math.nan], dataset="breastmnist")
    (board,) = gather(tmp_path)
    assert math.isnan(chosen(board).auc.mean) and math.isnan(chosen(board).auc.std) and chosen(board).place is None
    assert math.isnan(chosen(board).validation_auc.mean)


def test_a_folder_without_runs_has_no_boards(tmp_path: Path) -> None:
    assert gather(tmp_path) == ()


def test_a_measure_that_all_configurations_selected_by_comes_before_the_auc(tmp_path: Path) -> None:
    for epochs, (auc, f1) in enumerate([(0.9, 0.5), (0.8, 0.7)], 1):
        facts = {"best_epoch": 1, "history": [{"epoch": 1.0, "eval_f1": f1}]}
        recipe: dict[str, Any] = {"dataset": "breastmnist", "epochs": epochs, "select": "f1"}
        leave_run(tmp_path / str(epochs), test=[0.5], validation=[auc], facts=facts, **recipe)
    assert chosen(gather(tmp_path)[0]).validation_auc.mean == 0.8
    leave_run(tmp_path / "other", test=[0.5], validation=[0.85], dataset="breastmnist")
    assert chosen(gather(tmp_path)[0]).validation_auc.mean == 0.9


def test_a_protocol_is_the_nearest_preset_and_the_differences() -> None:
    assert protocol(recipe_of()) == "defaults"
    assert protocol(recipe_of(epochs=3, seeds=[1], root="dist")) == "defaults, epochs 3"
    assert protocol(recipe_of(preset="medmnist_v2")) == "medmnist_v2"
    description = protocol(recipe_of(preset="foundation", epochs=2, root="dist"), hidden=("seeds",))
    assert description.startswith("foundation, ") and {"epochs 2", "root dist"} <= set(description.split(", "))


def test_the_source_of_data_is_shown_if_it_differs(tmp_path: Path) -> None:
    leave_run(tmp_path / "a", test=[0.8], validation=[0.7], dataset="breastmnist", root="one")
    assert chosen(gather(tmp_path)[0]).protocol == "defaults"
    leave_run(tmp_path / "b", test=[0.8], validation=[0.7], dataset="breastmnist", root="two")
    assert {row.protocol for row in gather(tmp_path)[0].own} == {"defaults, root one", "defaults, root two"}


def test_a_damaged_file_gives_a_one_line_error(tmp_path: Path) -> None:
    leave_run(tmp_path / "run", test=[0.8], validation=[0.7], dataset="breastmnist")
    (tmp_path / "run" / "results.json").write_text("{", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"run.results\.json is damaged .*: remove it and run again") as caught:
        gather(tmp_path)
    assert "\n" not in str(caught.value)


SEARCH: dict[str, Any] = {"dataset": "breastmnist", "model": "pixels", "method": "flaml"}
PARTIAL = {"partial": "stopped after 3 s"}


def test_an_interrupted_search_is_never_chosen_and_has_no_place(tmp_path: Path) -> None:
    leave_run(tmp_path / "whole", test=[0.7], validation=[0.6], time_budget=60, **SEARCH)
    leave_run(tmp_path / "cut", test=[0.99], validation=[0.99], facts=PARTIAL, time_budget=90, **SEARCH)
    (board,) = gather(tmp_path)
    assert chosen(board).folder == "whole" and chosen(board).place == 8
    last = board.rows[-1]
    assert (last.folder, last.partial, last.place, last.chosen) == ("cut", (0,), None, False)


def test_nothing_is_chosen_if_all_searches_were_interrupted(tmp_path: Path) -> None:
    leave_run(tmp_path / "cut", test=[0.99], validation=[0.99], facts=PARTIAL, **SEARCH)
    (board,) = gather(tmp_path)
    assert board.chosen is None and best_on_validation(board.own) is None and best_on_validation([]) is None


def test_a_run_that_lacks_a_seed_is_partial(tmp_path: Path) -> None:
    leave_run(tmp_path / "run", test=[0.99], validation=[0.99], dataset="breastmnist")
    path = tmp_path / "run" / "results.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    table["recipe"]["seeds"] = [0, 1]
    path.write_text(json.dumps(table), encoding="utf-8")
    (board,) = gather(tmp_path)
    assert board.chosen is None and board.own[0].partial == (1,)


@pytest.mark.parametrize("provenance", [Provenance.UNVERIFIED, Provenance.SYNTHETIC])
def test_runs_on_unverified_data_have_a_separate_board_without_places(tmp_path: Path, provenance: Provenance) -> None:
    rows = {"train": 64, "validation": 16, "test": 32}
    leave_run(tmp_path / "real", test=[0.7], validation=[0.6], dataset="breastmnist")
    leave_run(
        tmp_path / "other", test=[0.99], validation=[0.99], dataset="breastmnist", provenance=provenance, rows=rows
    )
    real, other = gather(tmp_path)
    assert (real.provenance, other.provenance) == (Provenance.VERIFIED, provenance)
    assert [row.folder for row in real.own] == ["real"] and len(real.published) == 7 and chosen(real).place == 8
    assert [row.folder for row in other.rows] == ["other"] and other.notes == ()
    assert (chosen(other).place, chosen(other).test_rows, chosen(real).test_rows) == (None, 32, 156)
    assert other.name == f"{provenance.name}: BreastMNIST"


def test_runs_on_few_labels_have_separate_boards_without_places(tmp_path: Path) -> None:
    """The best of 10 % is not compared with all labels, even where it is better."""
    few: dict[str, dict[str, Any]] = {
        "all": {},
        "whole": {"fraction": 1.0},
        "tenth": {"fraction": 0.1},
        "hundredth": {"fraction": 0.01},
        "fixed": {"fraction": 0.1, "label_seed": 3},
        "shots": {"shots": 5},
        "few validation": {"shots": 5, "few_validation": True},
    }
    for at, (name, options) in enumerate(few.items()):
        leave_run(tmp_path / name, test=[0.9 + at / 100], validation=[0.9], dataset="breastmnist", **options)
    boards = gather(tmp_path)
    assert [(board.labels, sorted(row.folder for row in board.own)) for board in boards] == [
        ("", ["all", "whole"]),
        ("fraction 0.1", ["fixed", "tenth"]),
        ("fraction 0.01", ["hundredth"]),
        ("shots 5", ["shots"]),
        ("shots 5, few_validation", ["few validation"]),
    ]
    assert [{row.places for row in board.own} for board in boards] == [{8}, {0}, {0}, {0}, {0}]
    assert all(row.place is None for board in boards[1:] for row in board.rows)
    assert [len(board.published) for board in boards] == [7, 0, 0, 0, 0]
    assert chosen(boards[3]).protocol == "defaults, shots 5 (10 train rows)"
    assert boards[1].name == "BreastMNIST (fraction 0.1)"
    assert boards[1].notes == ("Published rows used all labels of train, so they are not compared with these.",)


def test_the_hardware_of_every_seed_is_listed(tmp_path: Path) -> None:
    """Times are means over seeds that may have run on different machines."""
    facts = {"hardware": {"processor": "one", "cores": 2, "gpus": []}}
    leave_run(tmp_path / "run", test=[0.7, 0.8], validation=[0.6, 0.7], facts=facts, dataset="breastmnist")
    path = tmp_path / "run" / "results.json"
    assert gather(tmp_path)[0].own[0].hardware == "one, 2 cores"
    table = json.loads(path.read_text(encoding="utf-8"))
    table["runs"][0]["facts"]["hardware"]["gpus"] = ["T4"]
    path.write_text(json.dumps(table), encoding="utf-8")
    assert gather(tmp_path)[0].own[0].hardware == "T4; one, 2 cores"


def test_numbers_that_differ_between_seeds_are_unknown(tmp_path: Path) -> None:
    leave_run(tmp_path / "run", test=[0.7, 0.8], validation=[0.6, 0.7], facts={"parameters": 5}, **SEARCH)
    path = tmp_path / "run" / "results.json"
    assert gather(tmp_path)[0].own[0].parameters == 5
    path.write_text(path.read_text(encoding="utf-8").replace('"parameters": 5', '"parameters": 6', 1))
    assert gather(tmp_path)[0].own[0].parameters is None


def test_presets_of_an_engine_apply_to_that_engine_only() -> None:
    options: dict[str, Any] = {"model": "pixels", "trials": 20, "epochs": 20}
    assert protocol(recipe_of(**options, method="autokeras", time_budget="24h")) == "automl_autokeras"
    assert protocol(recipe_of(**options, method="flaml")) == "defaults, epochs 20, trials 20"


def test_nothing_is_chosen_if_runs_of_a_size_read_different_files(tmp_path: Path) -> None:
    options: dict[str, Any] = {"dataset": "breastmnist", "provenance": Provenance.UNVERIFIED}
    leave_run(tmp_path / "a", test=[0.8], validation=[0.8], **options)
    leave_run(tmp_path / "b", test=[0.7], validation=[0.7], size=64, md5="1" * 32, **options)
    (board,) = gather(tmp_path)
    assert chosen(board).folder == "a" and not board.notes, "different sizes have different files"
    leave_run(tmp_path / "c", test=[0.9], validation=[0.9], md5="2" * 32, **options)
    (board,) = gather(tmp_path)
    assert board.chosen is None and not any(row.chosen for row in board.rows)
    assert board.notes[0].startswith("Runs of the same size read different files: none is chosen")


def test_runs_that_differ_only_in_seeds_are_one_configuration(tmp_path: Path) -> None:
    test, validation = [0.80, 0.85, 0.93], [0.70, 0.75, 0.71]
    for name, seed in (("c", 0), ("a", 1), ("b", 2)):
        tracker = "tensorboard" if seed else "none"
        scores: dict[str, Any] = {"test": [test[seed]], "validation": [validation[seed]], "report_to": tracker}
        leave_run(tmp_path / name, dataset="breastmnist", seeds=[seed], **scores)
    (board,) = gather(tmp_path)
    (row,) = board.own
    assert (row.seeds, row.folder, row.partial, board.tried) == ((0, 1, 2), "c; a; b", (), 1)
    assert row.auc.mean == pytest.approx(np.mean(test)) and row.auc.std == pytest.approx(np.std(test, ddof=1))
    assert row.auc.low == pytest.approx(np.mean(test) - 0.05)
    assert row.validation_auc.mean == pytest.approx(np.mean(validation))
    assert [links[0].text for links in row.links] == ["c", "a", "b"]
    assert all(links[-1].address == f"./{links[0].text}/results.json" for links in row.links)
    assert not any("share a seed" in note for note in board.notes)


def test_runs_that_share_a_seed_are_separate_rows_of_one_configuration(tmp_path: Path) -> None:
    for name, seeds in (("first", [0, 1]), ("again", [1, 2]), ("third", [3])):
        scores: dict[str, Any] = {"test": [0.8] * len(seeds), "validation": [0.7] * len(seeds)}
        leave_run(tmp_path / name, dataset="breastmnist", seeds=seeds, **scores)
    leave_run(tmp_path / "other", test=[0.8], validation=[0.7], dataset="breastmnist", epochs=3)
    (board,) = gather(tmp_path)
    assert {row.folder: row.seeds for row in board.own} == {
        "first": (0, 1),
        "again": (1, 2),
        "third": (3,),
        "other": (0,),
    }
    assert board.tried == 2 and board.notes[0].endswith("(first, again, third).")
    assert board.notes[0].startswith("resnet18 finetune, defaults: runs of this configuration share a seed")


@pytest.mark.parametrize("other", [{"epochs": 3}, {"size": 64}, {"test": []}, {"md5": "1" * 32}])
def test_other_recipes_and_other_data_are_other_configurations(tmp_path: Path, other: dict[str, Any]) -> None:
    options: dict[str, Any] = {"dataset": "breastmnist", "validation": [0.7], "provenance": Provenance.UNVERIFIED}
    leave_run(tmp_path / "a", test=[0.8], seeds=[0], **options)
    leave_run(tmp_path / "b", seeds=[1], **({"test": [0.8]} | options | other))
    (board,) = gather(tmp_path)
    assert board.tried == 2 and sorted(row.folder for row in board.own) == ["a", "b"]


@pytest.mark.parametrize("shared", [False, True])
def test_a_partial_run_does_not_keep_complete_runs_from_being_chosen(tmp_path: Path, shared: bool) -> None:
    leave_run(tmp_path / "g", test=[0.9], validation=[0.8], seeds=[0], **SEARCH)
    leave_run(tmp_path / "again", test=[0.88], validation=[0.7], seeds=[0 if shared else 2], **SEARCH)
    leave_run(tmp_path / "h", test=[0.99], validation=[0.1], facts=PARTIAL, seeds=[1], **SEARCH)
    leave_run(tmp_path / "other", test=[0.8], validation=[0.5], **{**SEARCH, "method": "autokeras"})
    (board,) = gather(tmp_path)
    (partial,) = (row for row in board.own if row.folder == "h")
    assert (partial.partial, partial.place, board.tried) == ((1,), None, 2) and board.own[-1] == partial
    assert chosen(board).folder == ("g" if shared else "g; again") and chosen(board).place is not None
    assert chosen(board).auc.mean == pytest.approx(0.9 if shared else 0.89)
    notes = [note for note in board.notes if "runs of this configuration" in note]
    assert notes[-1].endswith("are not part of the mean (h).") and len(notes) == 1 + shared
    assert not shared or notes[0].endswith("(again, g).")


def test_a_run_that_lacks_a_seed_is_separate_from_complete_runs(tmp_path: Path) -> None:
    for name, seed in (("first", 0), ("rest", 1)):
        leave_run(tmp_path / name, test=[0.9], validation=[0.8], dataset="breastmnist", seeds=[seed])
    path = tmp_path / "first" / "results.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    table["recipe"]["seeds"] = [0, 2]
    path.write_text(json.dumps(table), encoding="utf-8")
    (board,) = gather(tmp_path)
    assert [(row.seeds, row.partial) for row in board.own] == [((1,), ()), ((0,), (2,))]
    assert chosen(board).folder == "rest" and board.tried == 1
