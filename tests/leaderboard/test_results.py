"""Published results equal their sources to the last digit, and each states what decides its protocol."""

import csv
import hashlib
import math
from collections import Counter
from importlib import resources

import pytest

from medmnist_hf.catalog import subset, subsets
from medmnist_hf.errors import CatalogError
from medmnist_hf.leaderboard.results import Result, results, sources
from medmnist_hf.scoring.published import published_results

ALL = [result for entry in subsets() for result in results(entry.flag)]


def of(source: str) -> list[Result]:
    return [result for result in ALL if result.source == source]


@pytest.mark.parametrize("key", sources())
def test_the_figures_of_a_source_are_those_that_were_read(key: str) -> None:
    assert hashlib.sha256(sources()[key].read()).hexdigest() == sources()[key].sha256


def test_every_result_is_there_once() -> None:
    assert Counter(result.source for result in ALL) == {"medmnist_v2": 132, "mayo_2026": 320, "others": 52}
    assert max(Counter((each.source, each.method, each.subset) for each in ALL).values()) == 1


def test_the_rows_of_the_benchmark_are_those_that_are_ranked_elsewhere() -> None:
    for entry in subsets():
        rows = [(each.method, each.auc, each.acc) for each in of("medmnist_v2") if each.subset == entry.flag]
        assert rows == [(row.method, row.auc, row.acc) for row in published_results(entry.flag)]


def test_aggregated_rows_equal_their_table_to_the_last_digit() -> None:
    text = resources.files("medmnist_hf.leaderboard").joinpath("sources/mayo_2026.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    by_key = {(each.subset, each.method): each for each in of("mayo_2026")}
    assert len(by_key) == len(rows)
    for row in rows:
        end = "last" if row["unfrozen_from"] == "end" else "first"
        names = {"LP": "linear probe", "full": "all weights"}
        name = names.get(row["strategy"], f"{end} {row['unfrozen_percent']} % of the blocks")
        result = by_key[row["subset"], f"{row['backbone']}, {name}"]
        for column, value in (("auc", result.auc), ("acc", result.acc)):
            for part, number in (("mean", value), ("std", getattr(result, f"{column}_std"))):
                printed = row[f"{column}_{part}"]
                assert (f"{number:.4f}" == printed) if printed else math.isnan(number)
        assert (result.seeds, result.size, result.selected_on) == (10, 224, "validation")


def test_what_the_sources_leave_out_is_said_in_the_row() -> None:
    chest = [each for each in of("mayo_2026") if each.subset == "chestmnist"]
    assert len(chest) == 32 and all(math.isnan(each.acc) and "another measure" in each.note for each in chest)
    chosen_on_test = [each for each in ALL if each.selected_on == "test"]
    assert {each.method for each in chosen_on_test} == {"MedViTV2-L"} and len(chosen_on_test) == 11
    assert all("on the test set" in each.note for each in chosen_on_test)
    (probe,) = (each for each in of("mayo_2026") if each.auc < 0.5)
    assert (probe.subset, probe.method) == ("breastmnist", "resnet18, linear probe") and "batch norms" in probe.note


def test_the_number_of_test_rows_is_that_of_the_release() -> None:
    rows = {(each.source, each.subset): each.test_rows for each in ALL}
    assert rows["medmnist_v2", "organcmnist"] == 8268 and rows["mayo_2026", "organcmnist"] == 8216
    assert rows["medmnist_v2", "organsmnist"] == 8829 and rows["medmnist_v2", "pathmnist"] == 7180
    others = {key: count for key, count in rows.items() if key[1] not in {"organcmnist", "organsmnist"}}
    assert all(count == subset(flag).counts.test for (_, flag), count in others.items())


def test_only_results_with_all_facts_are_clean() -> None:
    assert {each.source for each in ALL if each.is_clean} == {"medmnist_v2", "mayo_2026", "others"}
    assert not any(each.is_clean for each in ALL if each.method in {"MedMamba", "MedViTV2-L", "ResNet-18"})


def test_an_unknown_subset_is_an_error() -> None:
    with pytest.raises(CatalogError, match="did you mean 'breastmnist'"):
        results("brestmnist")
