"""`take`: the chosen rows of a split, of all splits, and of arrays."""

import logging
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDatasetDict, Value

import medmnist_hf
from medmnist_hf.data.arrays import Arrays
from medmnist_hf.errors import SourceError
from medmnist_hf.sampling.rows import choose_rows
from tests.sampling.test_stratify import classes

RNG = np.random.default_rng(0)


def split(rows: int, **options: Any) -> Dataset:
    features = Features({"label": ClassLabel(names=["a", "b", "c"]), "id": Value("int64")})
    labels = np.concatenate([[0, 1, 2], RNG.integers(0, 2, size=rows - 3)])
    return Dataset.from_dict({"label": labels, "id": range(rows)}, features, **options)


def test_rows_of_a_split_in_their_order() -> None:
    data = split(200)
    rows = choose_rows(np.array(data["label"][:]), fraction=0.1, seed=3)
    taken = medmnist_hf.take(data, fraction=0.1, seed=3)
    assert isinstance(taken, Dataset) and taken["id"][:] == rows.tolist() and len(taken) == 20
    assert medmnist_hf.take(data.with_format("torch"), fraction=0.1, seed=3)["id"][:].tolist() == rows.tolist()


def test_train_is_reduced_and_test_never() -> None:
    data = DatasetDict({name: split(100) for name in ("train", "validation", "test")})
    assert medmnist_hf.take(data, fraction=0.1).num_rows == {"train": 10, "validation": 100, "test": 100}
    both = medmnist_hf.take(data, fraction=0.1, few_validation=True)
    assert isinstance(both, DatasetDict) and both.num_rows == {"train": 10, "validation": 10, "test": 100}
    assert both["validation"]["id"][:] == medmnist_hf.take(data["validation"], fraction=0.1)["id"][:]


def test_rows_of_arrays() -> None:
    labels = classes(90, 3)
    images = RNG.integers(0, 255, size=(90, 4, 4), dtype=np.uint8)
    rows = choose_rows(labels, shots=4)
    taken = medmnist_hf.take(Arrays(images, labels), shots=4)
    assert isinstance(taken, Arrays)
    assert np.array_equal(taken.images, images[rows]) and np.array_equal(taken.labels, labels[rows])


def test_shots_above_the_rows_of_a_class(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        taken = medmnist_hf.take(DatasetDict(train=split(50)), shots=3)
    assert np.bincount(taken["train"]["label"][:]).tolist() == [3, 3, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "train has 1 row of c, fewer than 3 shots: all of them are used"
    ]


def test_what_cannot_be_taken_from() -> None:
    data = split(20)
    refused: tuple[tuple[Any, dict[str, Any], str], ...] = (
        (data.to_iterable_dataset(), {}, "take needs all labels at once"),
        (IterableDatasetDict(train=data.to_iterable_dataset()), {}, "take needs all labels at once"),
        (DatasetDict(test=data), {}, "has no split train, only test: pass one of them"),
        (DatasetDict(train=data), {"few_validation": True}, "has no split validation, only train"),
        (data, {"few_validation": True}, "few_validation is for a DatasetDict"),
        ([1, 2], {}, "take takes a datasets.Dataset, not list"),
        (data, {"by": "group"}, "has no column group: give the name of a column; medmnist-hf build --source-ids adds"),
        (Arrays(np.zeros((4, 2, 2), np.uint8), np.arange(4)), {"by": "group"}, "arrays have no column group"),
    )
    for given, options, fault in refused:
        with pytest.raises(SourceError) as error:
            medmnist_hf.take(given, shots=1, **options)
        assert fault in str(error.value)
    with pytest.raises(SourceError, match="give either fraction"):
        medmnist_hf.take(data)


def test_shots_above_the_groups_of_a_class(caplog: pytest.LogCaptureFixture) -> None:
    data = split(50).add_column("group", [f"p{row // 10}" for row in range(50)])
    with caplog.at_level(logging.WARNING):
        taken = medmnist_hf.take(data, shots=10**9, by="group")
    assert len(taken) == 50
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert messages[0] == "the split has 5 groups of a, fewer than 1000000000 shots: all of them are used"


def test_groups_are_taken_as_a_whole() -> None:
    data = split(300)
    patients = [f"p{row // 7}" for row in range(300)]
    data = data.add_column("group", patients)
    taken = medmnist_hf.take(data, fraction=0.2, seed=1, by="group")
    assert len(set(taken["group"])) == 9  # of 43
    assert all(patients.count(name) == list(taken["group"]).count(name) for name in taken["group"])
    smaller = medmnist_hf.take(data, fraction=0.1, seed=1, by="group")
    assert set(smaller["group"]) < set(taken["group"])
    shots = medmnist_hf.take(data, shots=1, by="group")
    assert set(shots["label"]) == {0, 1, 2} and len(set(shots["group"])) <= 3
    with pytest.raises(SourceError, match="without gaps"):
        medmnist_hf.take(split(4).add_column("group", ["a", None, "b", "b"]), shots=1, by="group")
