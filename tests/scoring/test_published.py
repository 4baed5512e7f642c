"""The results of the benchmark are complete, have their notes, and are compared with a user's own result."""

import csv
from collections import Counter
from dataclasses import FrozenInstanceError
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmnist_hf.catalog import subset, subsets
from medmnist_hf.errors import CatalogError
from medmnist_hf.scoring.confidence import Interval
from medmnist_hf.scoring.published import (
    PublishedResult,
    compare_with_published,
    published_notes,
    published_results,
    published_split,
)

FLAGS = [entry.flag for entry in subsets()]
ALL = [row for flag in FLAGS for row in published_results(flag)]
IN_BOTH = {"auto-sklearn", "AutoKeras"}
TEST_ROWS_BEFORE = {"organcmnist": "8,268", "organsmnist": "8,829"}
TEST_ROWS_KEPT = {"organamnist", "organmnist3d", "vesselmnist3d"}


def test_every_row_of_the_file_is_returned_once() -> None:
    text = resources.files("medmnist_hf.scoring").joinpath("published_results.csv").read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines()))
    assert rows[0] == ["method", "subset", "auc", "acc"]
    returned = Counter((row.method, row.subset, f"{row.auc:.3f}", f"{row.acc:.3f}") for row in ALL)
    assert returned == Counter(tuple(row) for row in rows[1:])
    assert len(ALL) == 12 * 7 + 6 * 8 == 132
    assert len({(row.method, row.subset) for row in ALL}) == 132


@pytest.mark.parametrize("flag", FLAGS)
def test_each_subset_has_the_methods_of_its_table(flag: str) -> None:
    peers = [entry.flag for entry in subsets() if entry.ndim == subset(flag).ndim]
    methods = [row.method for row in published_results(flag)]
    assert len(methods) == (7 if subset(flag).ndim == 2 else 8)
    assert all([row.method for row in published_results(peer)] == methods for peer in peers)
    assert {row.subset for row in published_results(flag)} == {flag}


def test_methods_shared_by_both_tables() -> None:
    flat, volume = ({row.method for row in published_results(flag)} for flag in ("pathmnist", "organmnist3d"))
    assert flat & volume == IN_BOTH


def test_scores_are_shares() -> None:
    assert all(0.5 < row.auc < 1 and 0 < row.acc < 1 for row in ALL)


def test_known_rows() -> None:
    assert published_results("breastmnist")[0] == PublishedResult("ResNet-18 (28)", "breastmnist", 0.901, 0.863)
    assert PublishedResult("AutoKeras", "synapsemnist3d", 0.538, 0.724) in published_results("synapsemnist3d")


def test_results_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(ALL[0], "auc", 1.0)  # noqa: B010


def test_any_letter_case() -> None:
    assert published_results("BreastMNIST") == published_results("breastmnist") != ()
    assert published_notes("OrganCMNIST") == published_notes("organcmnist") != ()


@pytest.mark.parametrize("flag", FLAGS)
def test_the_note_on_224_is_given_for_subsets_with_such_rows(flag: str) -> None:
    rows = any("(224)" in row.method for row in published_results(flag))
    notes = [note for note in published_notes(flag) if "(224)" in note]
    assert len(notes) == rows == (subset(flag).ndim == 2)
    assert all("nearest neighbor" in note and "28" in note for note in notes)


@pytest.mark.parametrize("flag", FLAGS)
def test_the_note_on_release_2_2_4_is_given_for_five_subsets(flag: str) -> None:
    notes = [note for note in published_notes(flag) if "2.2.4" in note]
    assert len(notes) == (flag in TEST_ROWS_KEPT or flag in TEST_ROWS_BEFORE)
    if flag in TEST_ROWS_BEFORE:
        assert TEST_ROWS_BEFORE[flag] in notes[0] and f"{subset(flag).counts.test:,}" in notes[0]
    if flag in TEST_ROWS_KEPT:
        assert "the test split kept its size" in notes[0]


def test_no_other_notes() -> None:
    assert Counter(len(published_notes(flag)) for flag in FLAGS) == {0: 4, 1: 11, 2: 3}


def test_adrenal_caveat_counts_the_rows_below_its_floor() -> None:
    below = sum(row.acc < 0.7685 for row in published_results("adrenalmnist3d"))
    assert below == 6
    assert any("six of the eight published" in caveat for caveat in subset("adrenalmnist3d").caveats)


def test_fracture_caveat_gives_the_published_range() -> None:
    scores = [row.acc for row in published_results("fracturemnist3d")]
    caveats = " ".join(subset("fracturemnist3d").caveats)
    assert f"between {min(scores):.3f} and {max(scores):.3f}" in caveats


def test_sagittal_caveat_on_the_published_order_holds_for_every_method() -> None:
    assert any("lowest of the three planes" in caveat for caveat in subset("organsmnist").caveats)
    planes = (published_results(f"organ{plane}mnist") for plane in "acs")
    assert all(sagittal.acc < min(axial.acc, coronal.acc) for axial, coronal, sagittal in zip(*planes, strict=True))


@given(st.text().filter(lambda text: text.lower() not in FLAGS))
def test_an_unknown_subset_gives_a_one_line_error(flag: str) -> None:
    for lookup in (published_results, published_notes):
        with pytest.raises(CatalogError) as caught:
            lookup(flag)
        assert len(str(caught.value).splitlines()) == 1


def test_published_rows_are_of_the_test_split() -> None:
    assert published_split() == "test"


def test_a_result_equal_to_a_published_row_does_not_differ_from_it() -> None:
    for flag in FLAGS:
        for row in published_results(flag):
            (same,) = (each for each in compare_with_published(flag, row.auc, row.acc) if each.published == row)
            assert (same.auc_difference, same.acc_difference, same.auc_covered) == (0, 0, None)


def test_a_real_result_compared_with_the_published() -> None:
    first = compare_with_published("BreastMNIST", 0.9129072681704261, 0.8461538461538461)[0]
    assert first.published.method == "ResNet-18 (28)"
    assert (first.auc_difference, first.acc_difference) == (0.012, -0.017)


def test_an_interval_covers_scores_that_round_into_it() -> None:
    def covered(low: float, high: float) -> bool | None:
        interval = Interval((low + high) / 2, low, high, 0.95, 0.01, "DeLong")
        return compare_with_published("breastmnist", interval, 0.5)[0].auc_covered

    assert published_results("breastmnist")[0].auc == 0.901
    assert covered(0.85, 0.95) is True
    assert covered(0.9014, 0.95) is covered(0.85, 0.9006) is True, "0.901 covers 0.9005 to 0.9015"
    assert covered(0.9016, 0.95) is covered(0.85, 0.9004) is False
    assert covered(float("nan"), float("nan")) is None
    assert compare_with_published("breastmnist", 0.9, 0.9)[0].acc_covered is None


def test_an_unpublished_subset_has_no_comparisons(unpublished: str) -> None:
    assert not published_results(unpublished) and compare_with_published(unpublished, 0.9, float("nan")) == ()
