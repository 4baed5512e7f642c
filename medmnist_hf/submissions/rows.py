"""The recomputed results of an entry: a row per subset, as they are published, compared and ranked."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np

from medmnist_hf.documents import parse_json
from medmnist_hf.errors import ScoreError
from medmnist_hf.leaderboard.results import Adaptation, Labels, Result, SelectedOn
from medmnist_hf.scoring.predictions import Predictions
from medmnist_hf.submissions.entry import Entry, Note, Resize, Text, Url, mean_and_std
from medmnist_hf.typed_json import Bounds, FileName, Name, OneOf, Sha256, Share, decode, encode

ENTRIES: Final = "entries"
"""Folder of the entries in a repository, and the source of their results."""

_SAME: Final = 1e-9
"""Largest difference between scores that were computed from the same file on two machines."""

_DECIMALS: Final = 6
"""Decimals of scores in a digest, so that a number counts and not how it is written."""


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """A prediction file with its scores.

    Attributes:
        seed: Number of the seed.
        file: Name of the file.
        auc: AUC, 0 to 1.
        acc: ACC, 0 to 1.
        predictions: Digest of the scores, from `digest_of`.
    """

    seed: Annotated[int, Bounds(0)]
    file: FileName
    auc: Share
    acc: Share
    predictions: Sha256


@dataclass(frozen=True, slots=True)
class Row:
    """The result of an entry on one subset; attributes without a description are those of `Entry` and `Result`.

    Attributes:
        entry: Name of the entry.
        files: The files, by seed.
    """

    entry: Name
    subset: Name
    method: Text
    size: Annotated[int, Bounds(1)]
    image_size: Annotated[int, Bounds(1)]
    resize: Resize
    pretraining: Text
    adaptation: Adaptation
    labels: Labels
    selected_on: Annotated[str, OneOf(*SelectedOn)]
    seeds: Annotated[int, Bounds(1)]
    auc: Share
    auc_std: Share
    acc: Share
    acc_std: Share
    test_rows: Annotated[int, Bounds(1)]
    release: Name
    url: Url
    note: Note
    files: tuple[ScoredFile, ...]

    def result(self) -> Result:
        """The row as a result of a leaderboard."""
        return Result(
            method=self.method,
            subset=self.subset,
            size=self.size,
            pretraining=self.pretraining,
            adaptation=self.adaptation,
            labels=self.labels,
            selected_on=self.selected_on,
            seeds=self.seeds,
            auc=self.auc,
            auc_std=self.auc_std,
            acc=self.acc,
            acc_std=self.acc_std,
            test_rows=self.test_rows,
            release=self.release,
            source=ENTRIES,
            locator=f"{ENTRIES}/{self.entry}",
            recomputed_by="medmnist-hf, from the prediction files",
            note=self.note,
        )

    def is_like(self, other: "Row") -> bool:
        """Whether another row has the same values, apart from the last digits of scores."""
        mine, others = (encode(each) for each in (self, other))
        return _are_like(mine, others)

    def has_same_protocol(self, other: "Row") -> bool:
        """Whether another row is of the same method under the same protocol, however it is spelled."""
        names = ("subset", "size", "image_size", "adaptation", "labels", "selected_on")
        texts = ("method", "pretraining", *(["note"] * (self.labels == "few")))
        return all(getattr(self, name) == getattr(other, name) for name in names) and all(
            _plain(getattr(self, name)) == _plain(getattr(other, name)) for name in texts
        )


def row_of(name: str, entry: Entry, flag: str, test_rows: int, files: Iterable[ScoredFile]) -> Row:
    """The row of an entry on one subset.

    Args:
        name: Name of the entry.
        entry: Its description.
        flag: The subset.
        test_rows: Number of rows of its test split.
        files: Its scored files, one or more.
    """
    files = tuple(sorted(files, key=lambda file: file.seed))
    auc, auc_std = mean_and_std([file.auc for file in files])
    acc, acc_std = mean_and_std([file.acc for file in files])
    return Row(
        entry=name,
        subset=flag,
        method=entry.method,
        size=entry.size,
        image_size=entry.image_size,
        resize=entry.resize,
        pretraining=entry.pretraining,
        adaptation=entry.adaptation,
        labels=entry.labels,
        selected_on=entry.selected_on,
        seeds=len(files),
        auc=auc,
        auc_std=auc_std,
        acc=acc,
        acc_std=acc_std,
        test_rows=test_rows,
        release=entry.release,
        url=entry.url,
        note=entry.note,
        files=files,
    )


def digest_of(predictions: Predictions) -> str:
    """SHA-256 of the scores that are scored, rounded to six decimals, as 64 hex digits."""
    rounded = np.round(np.asarray(predictions.columns, np.float64), _DECIMALS) + 0.0  # -0.0 becomes 0.0
    return hashlib.sha256(np.ascontiguousarray(rounded, "<f8").tobytes()).hexdigest()


def rows_text(rows: Iterable[Row]) -> str:
    """The text of ``results.jsonl``: a line of JSON per row."""
    return "".join(f"{json.dumps(encode(row), allow_nan=False)}\n" for row in rows)


def parse_rows(text: str | bytes, where: str) -> list[Row]:
    """Parse the text of a ``results.jsonl``.

    Args:
        text: The text; bytes are UTF-8.
        where: Name of the file in an error message.

    Raises:
        ScoreError: It is not valid.
    """
    try:
        lines = (text.decode() if isinstance(text, bytes) else text).splitlines()
        return [decode(parse_json(line), Row) for line in lines]
    except ValueError as error:
        raise ScoreError(f"{where} is not valid: {error}") from None


def _are_like(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_like(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_are_like, one, other))
    if isinstance(one, float) and isinstance(other, int | float):
        return abs(one - other) <= _SAME
    return one == other


def _plain(text: str) -> str:
    """A text without case, spaces, punctuation and characters that look alike in another form."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())
