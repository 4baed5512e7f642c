"""Statistics recorded for official files, with which builds of them are compared.

``recorded.json`` holds them. ``python scripts/record_statistics.py`` writes it from builds of official files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from medmnist_hf.statistics.sums import PixelSums
from medmnist_hf.typed_json import Count, Md5, Name, decode_versioned, text_of

FORMAT: Final = 1
RECORD_NAME: Final = "recorded.json"


@dataclass(frozen=True, slots=True)
class SplitStatistics:
    """Statistics of one split.

    Attributes:
        pixels: Sums over its pixels.
        label_counts: Label name -> number of rows with that label.
    """

    pixels: PixelSums
    label_counts: dict[Name, Count]


@dataclass(frozen=True, slots=True)
class FileStatistics:
    """Statistics of one official file, recorded from a build.

    Attributes:
        md5: MD5 of the file.
        splits: Split name -> its statistics.
    """

    md5: Md5
    splits: dict[Name, SplitStatistics]


def parse_recorded(text: str | bytes) -> dict[str, FileStatistics]:
    """Parse the text of ``recorded.json``: file name -> statistics; raises `ValueError` if it is not valid."""
    files: dict[str, FileStatistics] = decode_versioned(text, _Recorded, FORMAT).files
    return files


@dataclass(frozen=True, slots=True)
class _Recorded:
    files: dict[Name, FileStatistics]


@cache
def _by_md5() -> dict[str, FileStatistics]:
    text = resources.files("medmnist_hf.statistics").joinpath(RECORD_NAME).read_text(encoding="utf-8")
    return {file.md5: file for file in parse_recorded(text).values()}


def recorded_statistics(md5: str) -> FileStatistics | None:
    """Look up the statistics recorded for an official file by its MD5; None if nobody has recorded them yet."""
    return _by_md5().get(md5)


def difference_from_recorded(md5: str, splits: Mapping[str, SplitStatistics]) -> str:
    """Describe the first difference from the statistics recorded for an official file, as a clause.

    Args:
        md5: MD5 of the file.
        splits: Split name -> its statistics, as read from the file.

    Returns:
        E.g. "the mean of train is 0.32740 where 0.32758 is recorded"; empty if nothing differs or is recorded.
    """
    recorded = recorded_statistics(md5)
    for split, own in splits.items() if recorded else ():
        other = recorded.splits[split] if recorded else own
        if own.label_counts != other.label_counts:
            return f"the label counts of {split} are not the recorded ones"
        for name in ("mean", "std"):
            values, expected = (
                ", ".join(f"{value:.5f}" for value in getattr(each.pixels, name)) for each in (own, other)
            )
            if values != expected:
                return f"the {name} of {split} is {values} where {expected} is recorded"
        if own != other:
            return f"the sums over the pixels of {split} are not the recorded ones"
    return ""


def text_of_recorded(files: Mapping[str, FileStatistics]) -> str:
    """The text of ``recorded.json`` for files, sorted by name."""
    return text_of({"format": FORMAT, "files": dict(sorted(files.items()))})
