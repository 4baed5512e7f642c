"""`medmnist_hf.joint.labels`: global ids, the way back, and subsets that cannot be combined."""

import datasets
import numpy as np
import pytest

import medmnist_hf
from medmnist_hf.catalog import subset, subsets
from medmnist_hf.errors import CatalogError
from medmnist_hf.joint.labels import JointLabels, expand_names


@pytest.mark.parametrize(("name", "ndim", "classes"), [("all-2d", 2, 92), ("all-3d", 3, 22), ("ALL-3D", 3, 22)])
def test_global_ids_are_those_of_the_subsets_in_order(name: str, ndim: int, classes: int) -> None:
    joint = JointLabels.of(name)
    assert list(joint.subsets) == [entry for entry in subsets() if entry.ndim == ndim]
    assert joint.count == len(set(joint.names)) == classes
    assert joint.multi_label == (ndim == 2)
    for number, entry in enumerate(joint.subsets):
        columns = joint.columns(entry.flag)
        assert joint.names[columns] == tuple(f"{entry.flag}/{label}" for label in entry.labels)
        assert np.flatnonzero(joint.mask[number]).tolist() == list(range(classes))[columns]
        for local in range(len(entry.labels)):
            assert joint.split(columns.start + local) == (entry.flag, local)


def test_arrays_of_ids_are_split_at_once() -> None:
    joint = JointLabels.of("breastmnist, PathMNIST")
    assert joint.names[1] == "breastmnist/normal, benign" and joint.names[2] == "pathmnist/adipose"
    numbers, local = joint.split_all([[0, 1], [2, 10]])
    assert numbers.tolist() == [[0, 0], [1, 1]] and local.tolist() == [[0, 1], [0, 8]]
    assert [part.tolist() for part in joint.split_all([])] == [[], []]


@pytest.mark.parametrize(("ids", "says"), [([0, 11], "11 is not a global id: they run from 0 to 10"), ([-1], "-1 is")])
def test_ids_out_of_range(ids: list[int], says: str) -> None:
    with pytest.raises(CatalogError, match=says):
        JointLabels.of(["breastmnist", "pathmnist"]).split_all(ids)
    with pytest.raises(CatalogError, match=r"0\.5 is not a global id"):
        JointLabels.of("breastmnist").split_all([0.5])


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([], r"^no subset is given: name one or more, or all-2d or all-3d$"),
        ("", r"^unknown subset ''"),
        (["pathmnist", "PathMNIST"], r"^pathmnist is given twice: give each subset once$"),
        ("all-2d,pathmnist", r"^pathmnist is given twice"),
        (
            ["organmnist3d", "pathmnist"],
            r"^pathmnist has 2D images and organmnist3d has volumes: combine subsets of one",
        ),
        ("all", r"^all would mix 2D images and volumes: choose all-2d or all-3d$"),
        ("bloodmnist,pathmist", r"^unknown subset 'pathmist': did you mean 'pathmnist'\?$"),
    ],
)
def test_subsets_that_cannot_be_combined(names: str | list[str], says: str) -> None:
    with pytest.raises(CatalogError, match=says):
        JointLabels.of(names)


def test_a_data_set_needs_the_column_subset() -> None:
    plain = datasets.Dataset.from_dict({"label": [0]})
    for source in (plain, datasets.DatasetDict(test=plain), plain.to_iterable_dataset()):
        with pytest.raises(CatalogError, match=r"^the data set has no column subset with the names of subsets"):
            JointLabels.of(source)
    with pytest.raises(CatalogError, match=r"^'bloodmnist' is not among breastmnist: name one of them$"):
        JointLabels.of("breastmnist").columns("bloodmnist")


def test_it_is_public() -> None:
    assert medmnist_hf.JointLabels is JointLabels
    assert JointLabels.of(["breastmnist"]) == JointLabels((subset("breastmnist"),))
    assert expand_names("all-3d,x") == [*(entry.flag for entry in subsets() if entry.ndim == 3), "x"]
