"""Cards side by side: the tests of differences, what is shared, and what is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from medmnist_hf.errors import ScoreError, TrainingError
from medmnist_hf.scoring.delong import delong_compare
from medmnist_hf.training.scorecard.card import CARD_NAME
from medmnist_hf.training.scorecard.card_page import write_card
from medmnist_hf.training.scorecard.compare import compare_cards, read_card
from medmnist_hf.training.scorecard.gather import predictions_on_test
from tests.conftest import Phantoms
from tests.fixtures.scorecards import FLAGS, invented_card, make_card, make_home


def test_shared_protocols_are_tested_on_the_same_rows(home: Path) -> None:
    folders = home / "first", home / "second"
    comparison = compare_cards(folders)
    (pair,) = comparison.pairs
    assert pair.protocols == ("knn", "shots-5") and pair.subsets == FLAGS
    assert "only one of them has shots-1 on breastmnist" in pair.apart
    found = next(each for each in pair.differences if each.protocol == "knn" and each.subsets == ("breastmnist",))
    parts = [read_card(folder).subsets[0] for folder in folders]
    one, two = (
        predictions_on_test(folder, part, part.results[0])[0] for folder, part in zip(folders, parts, strict=True)
    )
    direct = delong_compare(one, two)["auc"]
    assert (found.first, found.difference, found.p) == (direct.first, direct.difference.estimate, direct.p)
    assert all(each.adjusted >= each.p or math.isnan(each.p) for each in (*pair.differences, *pair.means))
    assert [(each.protocol, each.measure) for each in pair.means] == [
        (protocol, measure) for protocol in ("knn", "shots-5") for measure in ("auc", "acc")
    ]
    assert {each.seeds for each in pair.means} == {1, 5}
    table = json.loads(comparison.to_json())
    assert table["cards"] == ["timm/test_resnet", "timm/test_efficientnet"]
    assert len(table["pairs"][0]["differences"]) == 4


def test_three_cards_are_compared_with_the_first(home: Path, tmp_path: Path) -> None:
    third = make_card(home, tmp_path / "third", "knn")
    comparison = compare_cards([home / "first", home / "second", third])
    assert comparison.names == (
        f"timm/test_resnet ({home}/first)",
        "timm/test_efficientnet",
        f"timm/test_resnet ({third})",
    )
    same = comparison.pairs[1]
    assert same.protocols == ("knn",) and {each.difference for each in same.differences} == {0}
    assert {each.adjusted for each in (*same.differences, *same.means)} == {1}


def test_cards_of_other_data_or_sizes_are_refused(home: Path, phantoms: Phantoms, tmp_path: Path) -> None:
    other = make_home(phantoms, tmp_path, "breastmnist", rows=48)
    card = make_card(other, other / "card", "knn", flags=["breastmnist"])
    with pytest.raises(ScoreError, match=r"card read different data of breastmnist: compare cards of the same data"):
        compare_cards([home / "first", card])
    made = read_card(card)
    part = replace(made.subsets[0], size=64)
    (card / CARD_NAME).write_text(replace(made, subsets=(part,)).to_json())
    with pytest.raises(ScoreError, match=r"breastmnist at size 28, .*card at size 64: compare cards of one size"):
        compare_cards([home / "first", card])


def test_cards_that_share_nothing_are_refused(home: Path, tmp_path: Path) -> None:
    first = home / "first"
    for folders, message in (
        ([first], "a comparison needs two score cards"),
        ([first, first], "the same score card is named twice"),
        ([first, tmp_path], r"cannot read .*scorecard\.json"),
    ):
        with pytest.raises(TrainingError, match=message):
            compare_cards(folders)
    write_card(replace(invented_card(), subsets=invented_card().subsets[1:], means=()), tmp_path)
    with pytest.raises(TrainingError, match="share no subset with results"):
        compare_cards([first, tmp_path])
    card = read_card(home / "second")
    renamed = [replace(each, protocol=f"other-{each.protocol}") for each in card.subsets[0].results]
    other = replace(card.subsets[0], results=tuple(renamed))
    (tmp_path / "labels").symlink_to(home / "second/labels")
    (tmp_path / CARD_NAME).write_text(replace(card, subsets=(other,), means=()).to_json())
    with pytest.raises(TrainingError, match="share no protocol: compare cards of one preset"):
        compare_cards([first, tmp_path])


def test_data_of_different_provenance_is_not_averaged(home: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        for path in (home / name).iterdir():
            (folder / path.name).symlink_to(path)
        card = read_card(folder)
        part = card.subsets[0]
        assert part.data is not None
        other = replace(part, data=replace(part.data, source=replace(part.data.source, kind="zenodo")))
        (folder / CARD_NAME).unlink()
        (folder / CARD_NAME).write_text(replace(card, subsets=(other, *card.subsets[1:])).to_json())
    (pair,) = compare_cards([tmp_path / "first", tmp_path / "second"]).pairs
    assert [each.provenance for each in pair.differences[:2]] == ["unverified", "synthetic"]
    assert not pair.means and "means of knn, shots-5, as data of different provenance is not averaged" in pair.apart
