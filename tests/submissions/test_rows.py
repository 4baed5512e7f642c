"""Rows of entries: their file, their digests, and which of them are the same."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from medmnist_hf.errors import ScoreError
from medmnist_hf.scoring.predictions import check
from medmnist_hf.submissions.entry import claimed, entry_text, parse_entry
from medmnist_hf.submissions.rows import Row, ScoredFile, digest_of, parse_rows, row_of, rows_text
from tests.submissions.test_entry import VALUES

FILES = [ScoredFile(seed, f"{seed}.csv", 0.9 + seed / 100, 0.8, f"{seed}" * 64) for seed in (1, 0)]


def row(**values: object) -> Row:
    results = {"breastmnist": claimed([0.9, 0.91], [0.8, 0.8])}
    entry = parse_entry(entry_text(VALUES | {"seeds": 2, "results": results} | values))
    return row_of("mine", entry, "breastmnist", 156, FILES)


def test_a_row_is_the_mean_over_its_seeds() -> None:
    mine = row()
    assert math.isclose(mine.auc, 0.905) and math.isclose(mine.auc_std, 0.01 / math.sqrt(2)) and mine.acc_std == 0
    assert [file.seed for file in mine.files] == [0, 1] and (mine.seeds, mine.test_rows) == (2, 156)
    result = mine.result()
    assert (result.method, result.auc, result.source, result.locator) == (
        *(mine.method, mine.auc),
        *("entries", "entries/mine"),
    )


def test_rows_are_read_as_they_were_written() -> None:
    one = row_of("mine", parse_entry(entry_text(VALUES)), "breastmnist", 156, FILES[:1])
    text = rows_text([row(), one])
    assert text.count("\n") == 2 and json.loads(text.splitlines()[1])["auc_std"] is None
    read = parse_rows(text.encode(), "results.jsonl")
    assert read[0] == row() and read[1].is_like(one) and not read[0].is_like(one)
    assert row().is_like(replace(row(), auc=row().auc + 1e-12))
    assert not row().is_like(replace(row(), auc=row().auc + 1e-6))
    assert not row().is_like(replace(row(), method="Other"))


@pytest.mark.parametrize("text", ["{}", "[1]", "{", rows_text([row()]).replace('"acc"', '"f1"'), b"\xff"])
def test_damaged_rows_are_one_line(text: str | bytes) -> None:
    with pytest.raises(ScoreError, match=r"^results.jsonl is not valid: "):
        parse_rows(text, "results.jsonl")


def test_the_same_protocol_however_it_is_spelled() -> None:
    mine = row(method="ResNet-18 (28)")
    for method in ("resnet18 28", "ResNet\u201118 (28)", "ＲesNet-18_28"):
        assert mine.has_same_protocol(row(method=method))
    assert not mine.has_same_protocol(row(method="ResNet-50 (28)"))
    assert not mine.has_same_protocol(replace(mine, subset="retinamnist"))
    assert not mine.has_same_protocol(row(selected_on="unknown"))
    few = row(labels="few", note="5 rows per class")
    assert few.has_same_protocol(few) and not few.has_same_protocol(row(labels="few", note="10 rows per class"))


def test_a_digest_is_that_of_the_scores_not_of_their_text() -> None:
    truth, scores = np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.123456789, 0.0])

    def digest(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
        return digest_of(check(truth, values, "binary-class"))

    assert digest(scores) == digest(scores + 1e-12) == digest(np.stack([1 - scores, scores], 1))
    assert digest(scores) == digest(np.where(scores == 0, -0.0, scores))
    assert digest(scores) != digest(scores + 1e-4)
