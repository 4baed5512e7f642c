"""Readers of an exported ImageFolder assign the class ids of the catalog."""

from pathlib import Path

import datasets
import numpy as np
import pytest

from medmnist_hf.catalog import NPZ_SPLITS, SPLITS, Subset, subset, subsets
from medmnist_hf.data.rows import open_rows
from medmnist_hf.exporting.export import export
from medmnist_hf.exporting.imagefolder import class_folder
from medmnist_hf.features import features_of
from tests.conftest import Phantoms
from tests.fixtures.exports import arrays_of, refused


@pytest.mark.parametrize(("flag", "size"), [("breastmnist", 28), ("bloodmnist", 64)])
def test_an_imagefolder_keeps_the_ids(root: Path, phantoms: Phantoms, tmp_path: Path, flag: str, size: int) -> None:
    entry, source = subset(flag), arrays_of(phantoms(flag, size).path)
    (folder,) = export(open_rows(flag, size, root=root), tmp_path / "test-val", "imagefolder").paths
    loaded = datasets.load_dataset("imagefolder", data_dir=str(folder))
    assert list(loaded) == list(SPLITS)
    for split, data in loaded.items():
        assert data.features["label"].names == [class_folder(entry, label) for label in range(len(entry.labels))]
        relabeled = data.cast_column("label", features_of(entry, size)["label"])
        paths = [Path(each["path"]).name for each in data.cast_column("image", datasets.Image(decode=False))["image"]]
        assert sorted(paths) == [f"{split}{i:0{len(str(len(paths) - 1))}d}.png" for i in range(len(paths))]
        for path, row in zip(paths, relabeled, strict=True):
            index = int(path.removeprefix(split).removesuffix(".png"))
            assert row["label"] == source[f"{NPZ_SPLITS[split]}_labels"][index, 0]
            assert np.array_equal(np.asarray(row["image"]), source[f"{NPZ_SPLITS[split]}_images"][index])


def test_an_imagefolder_of_findings(root: Path, phantoms: Phantoms, tmp_path: Path) -> None:
    """Rows hold lists of ids; with the catalog's features, columns and order equal those of the build."""
    source = arrays_of(phantoms("chestmnist").path)
    (folder,) = export(open_rows("chestmnist", root=root), tmp_path, "imagefolder").paths
    for features in (None, features_of(subset("chestmnist"), 28)):
        loaded = datasets.load_dataset("imagefolder", data_dir=str(folder), features=features)
        for split, prefix in NPZ_SPLITS.items():
            data = loaded[split]
            assert features is None or data.features == features
            labels = source[f"{prefix}_labels"]
            assert list(data["label"]) == [np.flatnonzero(row).tolist() for row in labels]
            assert [] in list(data["label"])
            images = np.stack([np.asarray(image) for image in data["image"]])
            assert np.array_equal(images, source[f"{prefix}_images"])


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_class_folders_sort_by_id_and_have_safe_names(entry: Subset) -> None:
    folders = [class_folder(entry, label) for label in range(len(entry.labels))]
    assert folders == sorted(set(folders))
    words = {word for keywords in datasets.data_files.SPLIT_KEYWORDS.values() for word in keywords}
    for folder in folders:
        assert folder.replace("_", "").replace("-", "").isalnum()
        assert not words & set(folder.lower().replace("_", "-").split("-")), "would be read as a split"


def test_a_class_without_rows_is_an_error(root: Path, tmp_path: Path) -> None:
    rows = open_rows("breastmnist", root=root)
    labels = rows.labels
    rows.labels = lambda split: np.zeros_like(labels(split))  # type: ignore[method-assign]
    refused("has no row of class 'normal, benign'", lambda: export(rows, tmp_path, "imagefolder"))
    assert list(tmp_path.iterdir()) == []
