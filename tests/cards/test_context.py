"""``medmnist_hf.cards.context``: the values that cards print."""

import pytest

from medmnist_hf.cards.context import context, human_bytes, picture_name
from medmnist_hf.catalog import subset

RETINA = subset("retinamnist")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (16_100_000_000, "16.1 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_bytes_are_formatted_in_decimal_units(number: int, text: str) -> None:
    assert human_bytes(number) == text


def test_only_volumes_have_animated_pictures() -> None:
    assert picture_name(subset("pathmnist")) == "montage.png"
    assert picture_name(subset("organmnist3d")) == "montage.gif"


def test_papers_about_the_data_are_cited_but_not_credited() -> None:
    papers = context(subset("dermamnist"), (), "medmnist", {})["papers"]
    assert [paper.key for paper in papers["source"]] == ["dermamnist1", "dermamnist2"]
    assert [paper.key for paper in papers["all"]][-2:] == ["dermamnist-quality", "dermamnist-corrected"]
    assert context(subset("adrenalmnist3d"), (), "medmnist", {})["papers"]["source"] == []


def test_recorded_statistics_are_shown_without_a_build() -> None:
    names = context(RETINA, (), "medmnist", {})
    assert names["statistics"]["rows"] == [['`"28"`', "0.3984, 0.2447, 0.1558", "0.2983, 0.2005, 0.1507"]]
    assert sum(int(row[2].replace(",", "")) for row in names["labels"]["rows"]) == RETINA.counts.train
    assert context(subset("pathmnist"), (), "medmnist", {})["statistics"]["rows"] == []


def test_tables_are_rectangular() -> None:
    names = context(subset("pathmnist"), (), "medmnist", {})
    for table in (names["sizes"], names["labels"], names["files"], context(RETINA, (), "m", {})["statistics"]):
        widths = {len(table["header"]), len(table["rule"]), *map(len, table["rows"])}
        assert len(widths) == 1
