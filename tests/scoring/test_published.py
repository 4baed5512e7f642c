"""The published results are complete, have their notes, and rank a user's own result."""

import csv
from collections import Counter
from dataclasses import FrozenInstanceError
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmnist_hf.catalog import subset, subsets
from medmnist_hf.errors import CatalogError
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.confidence import Interval
from medmnist_hf.scoring.published import (
    PublishedResult,
    Standing,
    leaderboard,
    published_notes,
    published_results,
    published_size,
    published_split,
    rank,
    stand,
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


def test_published_rows_are_of_the_test_split_at_28() -> None:
    assert (published_split(), published_size()) == ("test", 28)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 1))
def test_rank_counts_the_scores_that_round_higher(others: list[float], value: float) -> None:
    text = f"{value:.3f}"
    place = rank(value, others)
    assert place == 1 + len([other for other in others if float(f"{other:.3f}") > float(text)])
    assert 1 <= place <= len(others) + 1


def test_an_undefined_score_or_an_unpublished_subset_has_no_rank() -> None:
    assert rank(float("nan"), [0.2, 0.9]) is None and rank(0.5, []) is None
    assert rank(0.1, [float("nan"), 0.9]) == 2


def standing_of(flag: str, auc: float | Interval, acc: float | Interval) -> Standing:
    """The standing of a result on verified data."""
    standing = stand(flag, auc, acc, provenance=Provenance.VERIFIED)
    assert standing is not None
    return standing


def test_ranks_of_the_published_rows_themselves() -> None:
    """A result equal to a published row shares its rank; a perfect result is first, a score of 0 last."""
    for flag in FLAGS:
        rows = published_results(flag)
        for row in rows:
            own = standing_of(flag, row.auc, row.acc)
            assert own.auc_rank == 1 + sum(other.auc > row.auc for other in rows)
            assert own.acc_rank == 1 + sum(other.acc > row.acc for other in rows)
            (same,) = (each for each in own.comparisons if each.published == row)
            assert (same.auc_difference, same.acc_difference, same.auc_covered) == (0, 0, None)
        assert (standing_of(flag, 1.0, 1.0).auc_rank, standing_of(flag, 0.0, 0.0).acc_rank) == (1, len(rows) + 1)
        assert standing_of(flag, 1.0, 1.0).places == len(rows) + 1


def test_a_real_result_among_the_published() -> None:
    own = standing_of("BreastMNIST", 0.9129072681704261, 0.8461538461538461)
    assert (own.auc_rank, own.acc_rank, own.places) == (2, 3, 8)
    assert own.comparisons[0].published.method == "ResNet-18 (28)"
    assert (own.comparisons[0].auc_difference, own.comparisons[0].acc_difference) == (0.012, -0.017)


def test_an_interval_covers_scores_that_round_into_it() -> None:
    def covered(low: float, high: float) -> bool | None:
        interval = Interval((low + high) / 2, low, high, 0.95, 0.01, "DeLong")
        return standing_of("breastmnist", interval, 0.5).comparisons[0].auc_covered

    assert published_results("breastmnist")[0].auc == 0.901
    assert covered(0.85, 0.95) is True
    assert covered(0.9014, 0.95) is covered(0.85, 0.9006) is True, "0.901 covers 0.9005 to 0.9015"
    assert covered(0.9016, 0.95) is covered(0.85, 0.9004) is False
    assert covered(float("nan"), float("nan")) is None
    assert standing_of("breastmnist", 0.9, 0.9).comparisons[0].acc_covered is None


def test_a_rank_depends_on_the_published_rows_only() -> None:
    """A rank is the same in a leaderboard of many results, of one result, and in a standing."""
    own = [("mine", 0.9129, 0.8462), ("other", 0.901, 0.0), ("best", 0.99, 0.99), ("undefined", float("nan"), 0.5)]
    table = leaderboard("breastmnist", own, provenance=Provenance.VERIFIED)
    assert [row.name for row in table if row.own] == ["best", "mine", "other", "undefined"]
    assert [row.auc for row in table[:-1]] == sorted((row.auc for row in table[:-1]), reverse=True)
    places = [row.auc_rank for row in table[:-1] if row.auc_rank is not None]
    assert len(places) == len(table) - 1 and places == sorted(places) and table[-1].auc_rank is None
    by_name = {row.name: row for row in table}
    for name, auc, acc in own:
        standing = standing_of("breastmnist", auc, acc)
        assert (by_name[name].auc_rank, by_name[name].acc_rank) == (standing.auc_rank, standing.acc_rank)
        (alone,) = (
            row for row in leaderboard("breastmnist", [(name, auc, acc)], provenance=Provenance.VERIFIED) if row.own
        )
        assert (alone.auc_rank, alone.acc_rank) == (standing.auc_rank, standing.acc_rank)
    assert by_name["mine"].auc_rank == 2 and by_name["other"].acc_rank == standing.places == 8
    assert by_name["other"].auc_rank == by_name["ResNet-18 (28)"].auc_rank == 2, "the ranks of published rows stay"
    bare = {row.name: row.auc_rank for row in leaderboard("breastmnist", provenance=Provenance.VERIFIED)}
    assert bare == {row.name: row.auc_rank for row in table if not row.own}
    assert bare.keys() == {row.method for row in published_results("breastmnist")}


@pytest.mark.parametrize("provenance", [Provenance.UNVERIFIED, Provenance.SYNTHETIC])
def test_results_on_unverified_data_are_not_ranked(provenance: Provenance) -> None:
    assert stand("breastmnist", 0.99, 0.99, provenance=provenance) is None
    (row,) = leaderboard("breastmnist", [("mine", 0.99, 0.99)], provenance=provenance)
    assert (row.own, row.auc_rank, row.acc_rank) == (True, None, None)


def test_a_result_on_an_unpublished_subset_is_listed_alone(unpublished: str) -> None:
    assert not published_results(unpublished) and not leaderboard(unpublished, provenance=Provenance.VERIFIED)
    assert stand(unpublished, 0.9, float("nan"), provenance=Provenance.VERIFIED) is None
    (row,) = leaderboard(unpublished, [("mine", 0.9, 0.8)], provenance=Provenance.VERIFIED)
    assert (row.name, row.auc_rank, row.acc_rank) == ("mine", None, None)
