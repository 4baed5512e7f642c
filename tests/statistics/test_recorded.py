"""Recorded statistics agree with the catalog, and differences from them are described."""

import pytest

from medmnist_hf.catalog import SPLITS, subset
from medmnist_hf.statistics.recorded import (
    FileStatistics,
    SplitStatistics,
    difference_from_recorded,
    parse_recorded,
    recorded_statistics,
    text_of_recorded,
)
from medmnist_hf.statistics.sums import PixelSums


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_recorded_files_are_those_of_the_catalog(flag: str) -> None:
    entry = subset(flag)
    recorded = recorded_statistics(entry.file(28).md5)
    assert recorded is not None
    assert tuple(recorded.splits) == SPLITS
    for split, own in recorded.splits.items():
        assert tuple(own.label_counts) == entry.labels
        assert sum(own.label_counts.values()) == entry.counts[split]
        assert len(own.pixels.mean) == entry.channels
    assert recorded_statistics(entry.file(64).md5) is None


def test_differences_are_described() -> None:
    entry = subset("breastmnist").file(28)
    recorded = recorded_statistics(entry.md5)
    assert recorded is not None
    assert difference_from_recorded(entry.md5, recorded.splits) == ""
    assert difference_from_recorded("0" * 32, recorded.splits) == ""
    train = recorded.splits["train"]
    counts = SplitStatistics(train.pixels, train.label_counts | {"malignant": 1})
    assert difference_from_recorded(entry.md5, {"train": counts}).startswith("the label counts of train")
    one_more = PixelSums(train.pixels.values, (train.pixels.sums[0] + 1,), train.pixels.squares)
    difference = difference_from_recorded(entry.md5, {"train": SplitStatistics(one_more, train.label_counts)})
    assert difference == "the sums over the pixels of train are not the recorded ones"


def test_the_record_survives_a_round_trip() -> None:
    files = {"a.npz": FileStatistics("0" * 32, {"train": SplitStatistics(PixelSums(1, (2,), (4,)), {"x": 1})})}
    assert parse_recorded(text_of_recorded(files)) == files
    with pytest.raises(ValueError, match=r"values is 0, must be an integer"):
        parse_recorded(text_of_recorded(files).replace('"values": 1', '"values": 0'))
