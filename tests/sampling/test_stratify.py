"""The beginnings of a stratified order have the class frequencies of all rows, for both kinds of labels."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medmnist_hf.errors import SourceError
from medmnist_hf.sampling.stratify import check_labels, first_rows, parts, priorities, stratified_order
from tests.conftest import Phantoms

RNG = np.random.default_rng(0)
CHEST = (0.102, 0.025, 0.118, 0.177, 0.051, 0.056, 0.012, 0.047, 0.042, 0.022, 0.023, 0.015, 0.029, 0.002)
"""Share of rows of each finding of ChestMNIST."""


def findings(rows: int) -> NDArray[np.float32]:
    """Findings with the shares of ChestMNIST that occur together, as `load_arrays` returns them."""
    severity = RNG.normal(size=(rows, 1))
    score = severity + RNG.normal(size=(rows, len(CHEST)))
    cut = [np.quantile(column, 1 - share) for column, share in zip(score.T, CHEST, strict=True)]
    return (score > cut).astype(np.float32)


def classes(rows: int, number: int = 9) -> NDArray[np.int64]:
    return RNG.choice(number, size=rows, p=RNG.dirichlet(np.ones(number)))


def test_any_beginning_has_the_class_frequencies_of_all_rows() -> None:
    labels = classes(5000)
    order = stratified_order(labels, 3)
    assert np.array_equal(np.sort(order), np.arange(5000))
    hot = labels[order, None] == np.unique(labels)
    expected = np.arange(1, 5001)[:, None] * hot.mean(0)
    off = np.abs(hot.cumsum(0) - expected)
    assert off[200:].max() < 1.6  # rounding; at first, one row of each class is more than its share
    assert len(set(labels[order[: hot.shape[1]]].tolist())) == hot.shape[1]


def test_any_beginning_has_the_share_of_every_finding() -> None:
    labels = findings(8000)
    order = stratified_order(labels, 0)
    assert np.array_equal(np.sort(order), np.arange(8000))
    for count in (80, 160, 400, 800, 1600, 2000, 4000):
        off = np.abs(labels[order[:count]].sum(0) - count * labels.mean(0))
        bound = 1.5 if count in {80, 800} else 4
        assert off.max() < bound, count
    random = RNG.permutation(8000)[:800]
    assert np.abs(labels[random].sum(0) - 800 * labels.mean(0)).max() > 6  # what the bound excludes


def test_phantom_of_chestmnist(phantoms: Phantoms) -> None:
    with np.load(phantoms("chestmnist", 28, 400).path) as arrays:
        labels = arrays["train_labels"]
    beginning = labels[stratified_order(labels, 0)[:40]]
    assert np.abs(beginning.sum(0) - 40 * labels.mean(0)).max() < 1.5
    assert beginning.any(0).tolist() == labels.any(0).tolist()


@pytest.mark.parametrize("rows", [1, 2, 9, 10, 11, 37])
def test_few_rows(rows: int) -> None:
    for labels in (classes(rows, 3), (RNG.random((rows, 4)) < 0.3).astype(np.uint8)):
        assert np.array_equal(np.sort(stratified_order(labels, 1)), np.arange(rows))


def test_a_class_of_one_row_comes_first() -> None:
    labels = np.zeros(1000, np.int64)
    labels[517] = 4
    assert 517 in stratified_order(labels, 0)[:2]
    hot = np.zeros((1000, 3), np.float32)
    hot[:, 0], hot[517, 2] = 1, 1  # the finding 1 does not occur
    order = stratified_order(hot, 0)
    assert order[0] == 517  # which has both findings
    assert np.array_equal(np.sort(order), np.arange(1000))


def test_the_order_does_not_depend_on_the_type_of_labels_or_on_generators() -> None:
    for labels in (classes(300), findings(300)):
        order = stratified_order(labels, 7)
        np.random.seed(5)
        kinds: list[Any] = [np.uint8, np.int32, np.float64]
        assert all(np.array_equal(stratified_order(labels.astype(kind), 7), order) for kind in kinds)
        assert not np.array_equal(stratified_order(labels, 8), order)


def test_priorities_are_digests_of_seed_and_row() -> None:
    assert priorities(3, 5).tolist() == priorities(10, 5)[:3].tolist()
    assert priorities(2, 0).tolist() == [7120306904099482837, 5509842535781378034]


def test_first_rows_share_findings() -> None:
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]])
    keys = np.arange(5, dtype=np.uint64)
    assert first_rows(labels, keys).tolist() == [1, 2]  # row 1 has two findings


def test_parts_have_equal_numbers_of_rows_and_findings() -> None:
    labels = findings(3000)
    part = parts(labels, 7, priorities(3000, 0), first=[4, 5])
    assert np.ptp(np.bincount(part)) <= 1 and part[[4, 5]].tolist() == [0, 0]
    counts = np.array([labels[part == at].sum(0) for at in range(7)])
    assert np.ptp(counts, axis=0).max() <= 2


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        (np.zeros((0,), int), "labels are int64 of shape (0,)"),
        (np.zeros((3, 2, 2), int), "of shape (3, 2, 2)"),
        (np.array(["a", "b"]), "labels are <U1"),
        (np.array([[0, 2], [1, 0]]), "values other than 0 and 1"),
        (np.array([0.5, 1.0]), "not whole numbers"),
        (np.array([np.nan, 1.0]), "not whole numbers"),
    ],
)
def test_rejected_labels(labels: NDArray[Any], fault: str) -> None:
    with pytest.raises(SourceError) as error:
        check_labels(labels)
    assert fault in str(error.value)
