"""Near duplicates by split: leaks first, exact duplicates apart, groups, counts of rows."""

import json
from pathlib import Path

import numpy as np
import pytest

from medmnist_hf.conversion.checks.audit import Audit, audit_config
from medmnist_hf.conversion.near.report import NearPair, pairs_to_json
from tests.fixtures.near import ALTERED, textures
from tests.fixtures.planted import ROWS, Planted


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """A build with near duplicates across splits, within train, and an exact duplicate."""
    planted = Planted("dermamnist")
    for seed, (split, count) in enumerate(ROWS.items()):
        planted.images[split] = textures(count, (28, 28, 3), seed)
        planted.labels[split][:] = 1
    train, test = planted.images["train"], planted.images["test"]
    test[4], test[9] = ALTERED["all"](train[7]), ALTERED["mirrored"](train[20])
    train[31], test[15] = ALTERED["brightened"](train[7]), train[30]
    planted.labels["test"][9] = 3
    return planted.build(tmp_path)


def test_leaks_of_near_duplicates_are_reported(leaking: Path) -> None:
    pairs: list[NearPair] = []
    audit = audit_config(leaking, near=pairs.extend)
    named = {(pair.first.split, pair.first.row, pair.second.split, pair.second.row): pair for pair in pairs}
    assert set(named) == {
        ("train", 7, "test", 4),
        ("train", 31, "test", 4),
        ("train", 20, "test", 9),
        ("train", 30, "test", 15),
        ("train", 7, "train", 31),
    }
    assert [pair.leaks for pair in pairs] == [True] * 4 + [False]
    assert named["train", 30, "test", 15].identical and named["train", 20, "test", 9].turned
    near = audit.near
    assert near is not None
    assert (near.pairs, near.leaks, near.groups) == (4, 3, 3)
    assert (near.rows("train", "test"), near.rows("test", "train"), near.rows("train", "train")) == (3, 2, 2)
    assert (near.rows("test", "validation"), near.overlaps[0].conflicting, len(near.listed)) == (0, 1, 4)
    assert audit.findings[:2] == (
        "3 images of train are near duplicates of 2 of test (3 pairs, 1 with different labels)",
        "2 images of train are near duplicates of others of the same split (1 pair)",
    )
    assert Audit.from_json(audit.to_json()) == audit
    assert json.loads(pairs_to_json("dermamnist", 28, pairs))["pairs"][-1]["first"]["row"] == 7


def test_an_audit_without_the_search_is_as_before(leaking: Path) -> None:
    audit = audit_config(leaking)
    assert audit.near is None and "near" not in json.loads(audit.to_json())
    assert audit.duplicates.rows == 2


def test_different_images_are_no_near_duplicates(tmp_path: Path) -> None:
    planted = Planted("breastmnist")
    planted.images = {split: textures(rows, (28, 28), rows) for split, rows in ROWS.items()}
    audit = audit_config(planted.build(tmp_path), near=lambda pairs: None)
    assert audit.findings[0] == "no two images are near duplicates at a similarity of 0.85"
    assert np.isclose(audit.near.threshold if audit.near else 0, 0.85)
