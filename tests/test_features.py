import pytest
from datasets import Array3D, ClassLabel, Image, List

from medmnist_hf.catalog import Subset, Task, subsets
from medmnist_hf.errors import CatalogError
from medmnist_hf.features import features_of


@pytest.mark.parametrize("subset", subsets(), ids=lambda subset: subset.flag)
def test_columns_of_every_subset_and_size(subset: Subset) -> None:
    for size in subset.sizes:
        features = features_of(subset, size)
        assert list(features) == ["image", "label"]
        if subset.ndim == 3:
            assert features["image"] == Array3D((size, size, size), "uint8")
        else:
            assert features["image"] == Image(mode={1: "L", 3: "RGB"}[subset.channels])
        names = ClassLabel(names=list(subset.labels))
        assert features["label"] == (List(names) if subset.task is Task.MULTI_LABEL else names)


def test_only_chestmnist_has_lists_of_labels() -> None:
    lists = [s.flag for s in subsets() if isinstance(features_of(s, 28)["label"], List)]
    assert lists == ["chestmnist"]


def test_unknown_size() -> None:
    volumes = next(subset for subset in subsets() if subset.ndim == 3)
    with pytest.raises(CatalogError, match=r"no size 224: choose from 28, 64"):
        features_of(volumes, 224)
