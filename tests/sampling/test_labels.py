"""Labels and class names of what rows are chosen from."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from medmnist_hf.data.arrays import Arrays
from medmnist_hf.errors import SourceError
from medmnist_hf.sampling.labels import read_names

IMAGES = np.zeros((3, 2, 2), np.uint8)


def test_arrays_name_classes_by_number() -> None:
    labels, names = read_names(Arrays(IMAGES, np.array([0, 2, 2])), "take")
    assert labels.tolist() == [0, 2, 2] and names == ["class 0", "class 1", "class 2"]
    assert read_names(Arrays(IMAGES, np.eye(3, dtype=np.float32)), "take")[1] == [
        "finding 0",
        "finding 1",
        "finding 2",
    ]


def test_a_data_set_needs_only_labels() -> None:
    features = Features({"label": List(ClassLabel(names=["mass", "hernia"]))})
    labels, names = read_names(Dataset.from_dict({"label": [[1], [], [0, 1]]}, features), "take")
    assert labels.tolist() == [[0, 1], [0, 0], [1, 1]] and names == ["mass", "hernia"]


def test_what_has_no_labels_is_rejected() -> None:
    plain = Dataset.from_dict({"label": [0, 1]}, Features({"label": Value("int64")}))
    for data, fault in (
        (plain, "the column label holds Value"),
        (plain.rename_column("label", "target"), "has no column label, only target: use rename_column"),
        (
            plain.to_iterable_dataset(),
            "take needs all labels at once, which streaming has not: load without streaming",
        ),
        (DatasetDict(train=plain), "take takes a datasets.Dataset, not DatasetDict: choose a split"),
        (np.zeros(3), "take takes a datasets.Dataset, not ndarray"),
        (Arrays(IMAGES, np.array(["a", "b", "c"])), "labels are <U1"),
    ):
        with pytest.raises(SourceError) as error:
            read_names(data, "take")
        assert fault in str(error.value)
