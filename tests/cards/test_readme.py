"""Committed static cards and the README's table match what the catalog renders."""

from pathlib import Path

import pytest

from medmnist_hf.cards import readme
from medmnist_hf.cards.readme import stale_cards, subset_table, update_table, write_static_cards
from medmnist_hf.cards.render import card
from medmnist_hf.catalog import Subset, subsets
from medmnist_hf.errors import BuildError
from tests.fixtures.paths import ROOT

CARDS = ROOT / "cards"


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_static_card_is_up_to_date(entry: Subset) -> None:
    committed = (CARDS / f"{entry.flag}.md").read_text(encoding="utf-8")
    assert committed == card(entry), f"{entry.flag}.md is stale: run python scripts/render_cards.py"


def test_no_committed_card_is_stale_or_foreign() -> None:
    assert stale_cards(CARDS) == [], "run python scripts/render_cards.py"


def test_stale_missing_and_foreign_cards_are_detected_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readme, "subsets", lambda: subsets()[:4])
    paths = write_static_cards(tmp_path)
    assert stale_cards(tmp_path) == []
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}
    (tmp_path / "pathmnist.md").write_text("old", encoding="utf-8")
    (tmp_path / "octmnist.md").unlink()
    (tmp_path / "moonmnist.md").touch()
    assert stale_cards(tmp_path) == ["moonmnist.md", "octmnist.md", "pathmnist.md"]
    write_static_cards(tmp_path)
    assert stale_cards(tmp_path) == []


def test_cards_that_cannot_be_written_are_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"cannot write the cards in .*missing"):
        write_static_cards(tmp_path / "missing")


def test_the_table_has_a_row_per_subset() -> None:
    lines = subset_table().splitlines()
    assert [line.split("]")[0].removeprefix("| [") for line in lines[2:-2]] == [entry.flag for entry in subsets()]


def test_sizes_and_licenses_are_named_once_with_their_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [entry for entry in subsets() if entry.flag in {"pathmnist", "dermamnist", "octmnist", "organmnist3d"}]
    monkeypatch.setattr(readme, "subsets", lambda: entries)
    assert subset_table().endswith(
        "\n\nSizes of images: 28, 64, 128, 224. Sizes of volumes: 28, 64. "
        "License: cc-by-4.0; cc-by-nc-4.0 (dermamnist).\n"
    )


def test_a_readme_without_markers_of_the_table_is_refused() -> None:
    with pytest.raises(BuildError, match="does not mark the table"):
        update_table("# Nothing here\n")
