"""Fractions and shots: nested, stratified, complete for rare classes, and the same rows on any machine."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medmnist_hf.errors import SourceError
from medmnist_hf.sampling.rows import choose_rows, rows_sha256, warn_if_scarce
from medmnist_hf.sampling.stratify import priorities
from tests.sampling.test_stratify import classes, findings

RNG = np.random.default_rng(0)
DIGESTS = json.loads(Path(__file__).with_name("rows.json").read_text(encoding="utf-8"))
"""Data -> choice -> SHA-256 of its rows, for the train splits of official files and for made labels."""

CHOICES = [{"fraction": value} for value in (0.01, 0.1)] + [{"shots": value} for value in (1, 5, 10)]


def made(rows: int) -> dict[str, NDArray[Any]]:
    """Labels that need no generator: class ids and findings."""
    key = priorities(rows, 123)
    rare = np.arange(2, 16, dtype=np.uint64)
    return {"made-classes": (key % 7).astype(np.int64), "made-findings": (key[:, None] % rare == 0).astype(np.float32)}


def digests(labels: NDArray[Any]) -> dict[str, str]:
    return {
        f"{name} {value} seed {seed}": rows_sha256(choose_rows(labels, **{name: value}, seed=seed))  # type: ignore[arg-type]
        for choice in CHOICES
        for name, value in choice.items()
        for seed in (0, 1)
    }


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_rows_of_official_files(real_data: Path, flag: str) -> None:
    with np.load(real_data / f"{flag}.npz") as arrays:
        assert digests(arrays["train_labels"][:, 0]) == DIGESTS[flag]


def test_rows_of_made_labels() -> None:
    assert {name: digests(labels) for name, labels in made(2000).items()} == {
        name: DIGESTS[name] for name in DIGESTS if name.startswith("made")
    }


@pytest.mark.parametrize("labels", [classes(700), findings(700), classes(60, 4)])
def test_smaller_choices_are_part_of_larger_ones(labels: NDArray[Any]) -> None:
    for name, values in {
        "fraction": (1e-6, 0.001, 0.01, 0.02, 0.015, 0.05, 0.1, 0.25, 0.333, 0.5, 0.9, 1.0),
        "shots": (1, 2, 3, 5, 8, 10, 50, 1000),
    }.items():
        earlier: set[int] = set()
        for value in sorted(values):
            rows = choose_rows(labels, **{name: value}, seed=2)  # type: ignore[arg-type]
            assert earlier <= set(rows.tolist()) and np.all(np.diff(rows) > 0)
            earlier = set(rows.tolist())
        assert len(earlier) == len(labels)


def test_number_of_rows_of_a_fraction() -> None:
    labels = classes(1000)
    present = len(np.unique(labels))
    for fraction in (0.02, 0.1, 0.1234, 0.5):
        rows = choose_rows(labels, fraction=fraction)
        assert len(rows) == round(1000 * fraction)
        off = np.bincount(labels[rows], minlength=9) - fraction * np.bincount(labels, minlength=9)
        assert np.abs(off).max() < 1.6
    least = choose_rows(labels, fraction=1e-9)
    assert len(least) == len(set(labels[least].tolist())) == present


def test_every_finding_is_in_any_fraction() -> None:
    labels = findings(900)
    rows = choose_rows(labels, fraction=1e-9)
    assert labels[rows].any(0).tolist() == labels.any(0).tolist() and len(rows) <= labels.shape[1]


def test_shots_of_classes() -> None:
    labels = np.repeat([0, 1, 3], [100, 3, 20])
    assert np.bincount(labels[choose_rows(labels, shots=5)]).tolist() == [5, 3, 0, 5]


def test_a_row_counts_for_each_of_its_findings() -> None:
    labels = findings(4000)
    rows = choose_rows(labels, shots=5)
    without = int((labels[rows].sum(1) == 0).sum())
    assert labels[rows].sum(0).min() == 5 and without == 5
    assert len(rows) < 5 * 15
    twins = np.ones((10, 2), np.float32)
    assert len(choose_rows(twins, shots=4)) == 4


def test_other_seeds_choose_other_rows() -> None:
    labels = np.arange(2000) % 9
    first, second = (choose_rows(labels, shots=20, seed=seed) for seed in (0, 1))
    assert len(np.intersect1d(first, second)) < 40  # 16 are expected of independent choices


def test_scarce_classes_are_reported_by_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_if_scarce(np.array([0, 0, 0, 1]), 3, ["cyst", "tumor", "stone"], "train")
        warn_if_scarce(np.array([[1, 0], [1, 0]]), 2, ["mass", "hernia"], "validation")
        warn_if_scarce(np.array([0, 0, 1]), 2, ["cyst", "tumor"], "train", np.array([5, 5, 4]))
        warn_if_scarce(np.array([[1, 0], [0, 1], [0, 0]]), 1, ["mass", "hernia"], "train", np.array([0, 0, 1]))
    assert [record.getMessage() for record in caplog.records] == [
        "train has 1 row of tumor, fewer than 3 shots: all of them are used",
        "train has 0 rows of stone, fewer than 3 shots: all of them are used",
        "validation has 0 rows of hernia, fewer than 2 shots: all of them are used",
        "validation has 0 rows of no finding, fewer than 2 shots: all of them are used",
        "train has 1 group of cyst, fewer than 2 shots: all of them are used",
        "train has 1 group of tumor, fewer than 2 shots: all of them are used",
    ]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "give either fraction, of the rows, or shots"),
        ({"fraction": 0.1, "shots": 5}, "give either fraction, of the rows, or shots"),
        ({"fraction": 0.0}, "fraction is 0: must be more than 0 and at most 1"),
        ({"fraction": 1.5}, "fraction is 1.5: must be"),
        ({"fraction": float("nan")}, "fraction is nan: must be"),
        ({"shots": 0}, "shots is 0: must be 1 or more"),
        ({"shots": 1, "seed": -1}, "seed is -1: must be 0 or more"),
    ],
)
def test_rejected_choices(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(SourceError) as error:
        choose_rows(np.array([0, 1]), **options)
    assert fault in str(error.value)
