"""Tables of a report: texts, sort keys, marks, and empty cells for unknown values."""

import math
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.manifest import Provenance
from medmnist_hf.training.benchmark.boards import gather
from medmnist_hf.training.benchmark.rows import Board, BoardScore
from medmnist_hf.training.benchmark.tables import (
    ABSENT,
    PLACE,
    Table,
    TableCell,
    board_table,
    chosen_table,
    digits,
    models_table,
    score_cell,
    unfinished_table,
)
from tests.fixtures.benchmarks import leave_run


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Board, ...]:
    folder = tmp_path_factory.mktemp("bench")
    facts = {"parameters": 2_000_000, "trained_parameters": 1_234_567}
    leave_run(folder / "a", test=[0.95, 0.93], validation=[0.7, 0.7], facts=facts, dataset="breastmnist", epochs=3)
    leave_run(folder / "b", test=[0.90], validation=[0.8], dataset="breastmnist", method="knn", size=64)
    leave_run(folder / "c", test=[0.60], validation=[0.9], dataset="retinamnist", epochs=3)
    leave_run(folder / "d", test=[0.80], validation=[0.5], dataset="retinamnist", epochs=4)
    leave_run(folder / "e", test=[], validation=[0.99], dataset="retinamnist", model="resnet50")
    return gather(folder)


def column(table: Table, name: str) -> list[TableCell]:
    (at,) = (at for at, each in enumerate(table.columns) if each.name == name)
    return [line.cells[at] for line in table.lines]


def test_every_line_has_one_cell_per_column(boards: tuple[Board, ...]) -> None:
    for table in [*map(board_table, boards), chosen_table(boards), models_table(boards)]:
        assert {len(line.cells) for line in table.lines} == {len(table.columns)}
        assert len(table.foot) in {0, len(table.columns)}


def test_a_board_lists_all_rows_by_auc(boards: tuple[Board, ...]) -> None:
    table = board_table(boards[1])
    assert [line.kind for line in table.lines] == ["own", "published", "published", "chosen", *["published"] * 5]
    assert table.columns[table.sorted_by or 0].name == "Test AUC"
    assert [cell.text for cell in column(table, PLACE)] == ["1 of 8", "1", "1", ABSENT, *["1"] * 4, "7"], (
        "no results are published for size 64"
    )
    first, second, fourth = (table.lines[at].cells for at in (0, 1, 3))
    assert [cell.text for cell in first] == [
        *("1 of 8", "resnet18", "finetune", "28", "0.940 ± 0.014", "0.840 ± 0.014", "0.700 ± 0.000", "2"),
        *("defaults, epochs 3", "1,234,567", "10.5"),
    ]
    assert first[4].detail == "0.890 to 0.990" and first[4].key == pytest.approx(0.94)
    assert second[1] == TableCell("Google AutoML Vision", "published", "Google AutoML Vision")
    assert [cell.text for cell in second[6:]] == [ABSENT] * 5 and {cell.key for cell in second[6:]} == {None}
    assert fourth[1].detail == "chosen"
    assert [cells[7].detail for cells in (first, second, fourth)] == ["seeds 0, 1", "", "seed 0"]


def test_the_best_of_each_column_of_a_board_is_marked(boards: tuple[Board, ...], tmp_path: Path) -> None:
    def marked(table: Table) -> list[tuple[str, str]]:
        names = [column.name for column in table.columns]
        return [(names[at], cell.text) for line in table.lines for at, cell in enumerate(line.cells) if cell.best]

    table = board_table(boards[1])
    assert table.caption == "BreastMNIST by test AUC; the best scores in bold"
    best_acc = max(row.acc.mean for row in boards[1].rows if row.ranked_in == "official")
    assert marked(table) == [("Test AUC", "0.940 ± 0.014"), ("Test ACC", digits(best_acc))]
    options: dict[str, Any] = {"dataset": "breastmnist", "provenance": Provenance.UNVERIFIED}
    leave_run(tmp_path / "a", test=[0.9], validation=[0.7], **options)
    (alone,) = gather(tmp_path)
    assert board_table(alone).caption == "UNVERIFIED: BreastMNIST by test AUC" and not marked(board_table(alone))
    leave_run(tmp_path / "b", test=[0.8], validation=[0.8], epochs=3, **options)
    leave_run(tmp_path / "cut", test=[0.99], validation=[0.9], epochs=4, facts={"partial": "stopped"}, **options)
    (several,) = gather(tmp_path)
    assert marked(board_table(several)) == [("Test AUC", "0.900"), ("Test ACC", "0.800")]
    leave_run(tmp_path / "c", test=[0.95], validation=[0.9], epochs=5, md5="1" * 32, **options)
    (unlike,) = gather(tmp_path)
    assert not marked(board_table(unlike)), "scores on different files are not compared"
    leave_run(tmp_path / "knn", test=[0.9], validation=[0.7], method="knn", **options)
    unlike_boards = gather(tmp_path)
    assert {cell.text for cell in models_table(unlike_boards).lines[0].cells[1:]} == {ABSENT}
    assert column(chosen_table(unlike_boards), "Chosen")[0] == TableCell(ABSENT, "runs read different files")


def test_an_untested_run_is_listed_without_a_place(boards: tuple[Board, ...]) -> None:
    last = board_table(boards[0]).lines[-1]
    assert last.kind == "own" and [cell.text for cell in last.cells][:8] == [
        *(ABSENT, "resnet50", "finetune", "28", ABSENT, ABSENT, "0.990", "1")
    ]
    assert last.cells[0].key is None and last.cells[4].key is None


def test_the_results_are_chosen_on_validation(boards: tuple[Board, ...]) -> None:
    table = chosen_table(boards)
    retina, breast = ([cell.text for cell in line.cells] for line in table.lines)
    assert retina == ["retinamnist", "resnet18", "0.600", "0.500", "0.900", "3", "8 of 8", "0.750"]
    assert breast == ["breastmnist", "resnet18", "0.900", "0.800", "0.800", "2", ABSENT, ABSENT]
    assert column(table, "Chosen")[1].detail == "knn, 64"
    assert [[link.text for link in group] for group in column(table, "Chosen")[1].links] == [["b"]]
    assert column(table, "Best published AUC")[0].detail == "Google AutoML Vision"
    assert column(table, PLACE)[0].detail == "official"


@pytest.mark.parametrize("provenance", [Provenance.UNVERIFIED, Provenance.SYNTHETIC])
def test_tables_of_unverified_data_have_no_published_results(tmp_path: Path, provenance: Provenance) -> None:
    leave_run(tmp_path / "run", test=[0.9], validation=[0.9], dataset="breastmnist", provenance=provenance)
    boards = gather(tmp_path)
    for table in (board_table(boards[0]), chosen_table(boards), models_table(boards)):
        assert table.caption.startswith(f"{provenance.name}: ") and table.sorted_by is None
        assert not any("published" in column.name or "lace" in column.name for column in table.columns)
        assert len(table.lines) == 1 and len(table.lines[0].cells) == len(table.columns)


def test_a_table_requires_boards_of_one_provenance(tmp_path: Path) -> None:
    for at, provenance in enumerate(Provenance):
        leave_run(tmp_path / str(at), test=[0.9], validation=[0.9], dataset="breastmnist", provenance=provenance)
    for table in (chosen_table, models_table):
        with pytest.raises(ValueError, match="too many values"):
            table(gather(tmp_path))


def test_an_interrupted_search_is_marked_and_nothing_is_chosen(tmp_path: Path) -> None:
    facts = {"partial": "stopped after 3 s"}
    options: dict[str, Any] = {"dataset": "breastmnist", "model": "pixels", "method": "flaml"}
    leave_run(tmp_path / "run", test=[0.9], validation=[0.9], facts=facts, **options)
    boards = gather(tmp_path)
    last = board_table(boards[0]).lines[-1]
    assert (last.kind, last.cells[0].text, last.cells[1].detail) == ("own", ABSENT, "partial: seed 0")
    (line,) = chosen_table(boards).lines
    assert [cell.text for cell in line.cells][1:7] == [*[ABSENT] * 4, "1", ABSENT]
    assert line.cells[1].detail == "none is complete"
    assert [cell.text for cell in models_table(boards).lines[0].cells] == ["breastmnist", ABSENT]


def test_a_choice_without_test_scores_has_no_place(tmp_path: Path) -> None:
    leave_run(tmp_path / "run", test=[], validation=[0.9], dataset="breastmnist")
    (line,) = chosen_table(gather(tmp_path)).lines
    assert [cell.text for cell in line.cells][2:7] == [ABSENT, ABSENT, "0.900", "1", ABSENT]


def test_models_have_a_column_and_a_mean_if_all_subsets_have_them(boards: tuple[Board, ...]) -> None:
    table = models_table(boards)
    assert [one.name for one in table.columns] == ["Subset", "resnet18 finetune", "resnet18 knn", "resnet50 finetune"]
    assert [[cell.text for cell in line.cells] for line in table.lines] == [
        ["retinamnist", "0.600 / 0.500", ABSENT, ABSENT],
        ["breastmnist", "0.940 / 0.840", "0.900 / 0.800", ABSENT],
    ]
    assert [cell.text for cell in table.foot] == ["mean of 2 subsets", "0.770 / 0.670", ABSENT, ABSENT]
    assert models_table(boards[:1]).foot == ()


def test_the_caption_mentions_bold_only_if_there_is_any(boards: tuple[Board, ...], tmp_path: Path) -> None:
    assert "in bold" in models_table(boards).caption
    leave_run(tmp_path / "alone", test=[0.9], validation=[0.5], dataset="retinamnist")
    assert "in bold" not in models_table(gather(tmp_path)).caption


def test_the_best_of_each_line_is_marked_including_ties(tmp_path: Path) -> None:
    for at, (model, test) in enumerate(
        (("resnet18", 0.9001), ("resnet50", 0.9004), ("timm/a", 0.8), ("timm/b", 0.8994))
    ):
        leave_run(tmp_path / str(at), test=[test], validation=[0.5], dataset="breastmnist", model=model)
    leave_run(tmp_path / "alone", test=[0.9], validation=[0.5], dataset="retinamnist", model="timm/a")
    table = models_table(gather(tmp_path))
    alone, several = ([cell.best for cell in line.cells] for line in table.lines)
    assert several == [False, True, True, False, False] and not any(alone)
    assert [cell.best for cell in table.foot] == [False] * 5


def test_lines_and_columns_have_facets(boards: tuple[Board, ...]) -> None:
    assert board_table(boards[0]).lines[0].facets == (("model", "resnet18"), ("method", "finetune"))
    published = [line for line in board_table(boards[0]).lines if line.kind == "published"]
    assert published and not any(line.facets for line in published), "filters keep them"
    assert dict(chosen_table(boards).lines[1].facets) == {
        "subset": "breastmnist",
        "model": "resnet18",
        "method": "knn",
    }
    columns = models_table(boards).columns
    assert [dict(one.facets).get("method") for one in columns] == [None, "finetune", "knn", "finetune"]


def test_unfinished_cells_have_state_and_reason() -> None:
    table = unfinished_table([("one", "failed", "no memory"), ("two", "waiting", "")])
    assert [[cell.text for cell in line.cells] for line in table.lines] == [
        ["one", "failed", "no memory"],
        ["two", "waiting", ABSENT],
    ]


def test_a_score_shows_its_known_parts() -> None:
    assert score_cell(BoardScore(math.nan)) == TableCell(ABSENT)
    assert score_cell(BoardScore(0.12349)) == TableCell("0.123", "", 0.12349)
    assert score_cell(BoardScore(0.5, 0.1)) == TableCell("0.500 ± 0.100", "", 0.5)
    assert score_cell(BoardScore(0.5, math.nan, 0.4, 0.6)) == TableCell("0.500", "0.400 to 0.600", 0.5)
    assert digits(math.nan) == ABSENT
