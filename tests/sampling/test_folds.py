"""Folds: each row held out once, stratified, groups kept together, the same on any machine."""

from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from numpy.typing import NDArray

import medmnist_hf
from medmnist_hf.data.arrays import Arrays
from medmnist_hf.errors import SourceError
from medmnist_hf.sampling.folds import fold_of_rows
from medmnist_hf.sampling.rows import rows_sha256
from tests.sampling.test_rows import DIGESTS, made
from tests.sampling.test_stratify import classes, findings

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("labels", [classes(1003), findings(1003)])
def test_folds_have_the_class_frequencies_of_all_rows(labels: NDArray[Any]) -> None:
    fold = fold_of_rows(labels, 5, seed=1)
    hot = labels if labels.ndim == 2 else labels[:, None] == np.unique(labels)
    counts = np.array([hot[fold == at].sum(0) for at in range(5)])
    assert np.ptp(np.bincount(fold, minlength=5)) <= 1
    assert np.ptp(counts, axis=0).max() <= (1 if labels.ndim == 1 else 2)
    assert not np.array_equal(fold, fold_of_rows(labels, 5, seed=2))


@pytest.mark.parametrize("labels", [classes(2000), findings(2000)])
def test_a_group_is_in_one_fold(labels: NDArray[Any]) -> None:
    groups = RNG.integers(0, 300, size=2000)
    fold = fold_of_rows(labels, 4, groups=groups)
    assert all(len(set(fold[groups == group].tolist())) == 1 for group in np.unique(groups))
    hot = labels if labels.ndim == 2 else labels[:, None] == np.unique(labels)
    shares = np.array([hot[fold == at].mean(0) for at in range(4)])
    assert np.abs(shares - hot.mean(0)).max() < 0.01
    assert np.ptp(np.bincount(fold)) < 20
    renamed = [f"patient {group:03d}" for group in groups]
    assert np.array_equal(fold_of_rows(labels, 4, groups=renamed), fold)


def test_folds_of_made_labels() -> None:
    found = {name: rows_sha256(fold_of_rows(labels, 5)) for name, labels in made(2000).items()}
    found |= {
        f"{name} in groups": rows_sha256(fold_of_rows(labels, 5, groups=np.arange(2000) // 7))
        for name, labels in made(2000).items()
    }
    assert found == DIGESTS["folds"]


def test_folds_of_a_data_set_and_of_arrays() -> None:
    features = Features({"label": ClassLabel(names=["a", "b"]), "patient": Value("string")})
    data = Dataset.from_dict({"label": [0, 1] * 10, "patient": [f"p{row // 4}" for row in range(20)]}, features)
    pairs = medmnist_hf.folds(data, 5)
    assert sorted(row for _, held_out in pairs for row in held_out.tolist()) == list(range(20))
    assert all(np.array_equal(np.union1d(train, held_out), np.arange(20)) for train, held_out in pairs)
    assert all(sorted(data.select(held_out)["label"][:]) == [0, 0, 1, 1] for _, held_out in pairs)
    same = medmnist_hf.folds(Arrays(np.zeros((20, 2, 2), np.uint8), np.array([0, 1] * 10)), 5)
    assert all(
        np.array_equal(one, two) for a, b in zip(pairs, same, strict=True) for one, two in zip(a, b, strict=True)
    )
    for train, held_out in medmnist_hf.folds(data, k=5, groups="patient"):
        assert not set(data.select(train)["patient"][:]) & set(data.select(held_out)["patient"][:])
    with pytest.raises(SourceError, match="has no column site"):
        medmnist_hf.folds(data, groups="site")
    with pytest.raises(SourceError, match="folds needs all labels at once"):
        medmnist_hf.folds(data.to_iterable_dataset())


@pytest.mark.parametrize(
    ("k", "groups", "fault"),
    [
        (1, None, "k is 1: must be 2 or more folds"),
        (7, None, "6 rows for 7 folds: use a smaller k"),
        (3, [1, 1, 1, 2, 2, 2], "2 groups for 3 folds"),
        (2, [1, 2], "groups have shape (2,) but there are 6 rows"),
        (2, [None, "a", 1, "b", "c", None], "groups mix text, numbers or None"),
    ],
)
def test_rejected_folds(k: int, groups: Any, fault: str) -> None:
    with pytest.raises(SourceError) as error:
        fold_of_rows(np.array([0, 1, 0, 1, 0, 1]), k, groups=groups)
    assert fault in str(error.value)
