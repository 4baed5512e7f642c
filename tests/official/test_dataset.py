"""The classes give the values, texts and files of the official ones, with torch and without it."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import medmnist as official
import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader

import medmnist_hf.official as medmnist
from medmnist_hf.catalog import Subset, subset, subsets
from medmnist_hf.errors import CatalogError
from medmnist_hf.official.errors import ArgumentError, RootError
from tests.fixtures.paths import ROOT
from tests.official.conftest import Root

SPLITS = ("train", "val", "test")
FAST = {("chestmnist", 28), ("retinamnist", 28), ("organmnist3d", 28)}
"""Multi-label, color, volumes; all others run as slow tests."""

EVERY = [
    pytest.param(entry, size, id=f"{entry.flag}-{size}", marks=() if (entry.flag, size) in FAST else pytest.mark.slow)
    for entry in subsets()
    for size in entry.sizes
]
Theirs = Callable[..., Any]


def assert_equal_items(left: tuple[Any, Any], right: tuple[Any, Any]) -> None:
    (image, target), (other, label) = left, right
    assert type(image) is type(other)
    if isinstance(image, PIL.Image.Image):
        assert (image.mode, image.size, image.tobytes()) == (other.mode, other.size, other.tobytes())
    else:
        assert image.dtype == other.dtype
        np.testing.assert_array_equal(image, other)
    assert target.dtype == label.dtype and target.tolist() == label.tolist()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_prose(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("    Description: ")]


def compare(entry: Subset, size: int, root: str, theirs: Any, out: Path) -> None:
    name, suffix = entry.python_class, "jpg" if entry.ndim == 2 else "gif"
    for split in SPLITS:
        mine: Any = getattr(medmnist, name)(split, root=root, size=size)
        other: Any = getattr(theirs, name)(split, root=root, size=size)
        mine.info = {**mine.info, "n_samples": other.info["n_samples"]}  # the counts of a phantom
        for attribute in ("flag", "size", "size_flag", "split", "root", "as_rgb", "available_sizes", "transform"):
            assert getattr(mine, attribute) == getattr(other, attribute)
        for array, expected in ((mine.imgs, other.imgs), (mine.labels, other.labels)):
            assert (type(array), array.dtype) == (type(expected), expected.dtype)
            np.testing.assert_array_equal(array, expected)
            assert array.flags.writeable
        assert without_prose(repr(mine)) == without_prose(repr(other))
        assert len(mine) == len(other)
        for as_rgb in (False, True):
            mine.as_rgb = other.as_rgb = as_rgb
            for index in (0, len(mine) // 2, -1, np.int64(1), torch.tensor(2)):
                assert_equal_items(mine[index], other[index])
        for data, folder in ((mine, out / "mine"), (other, out / "theirs")):
            folder.mkdir(parents=True, exist_ok=True)
            if split != "train":
                data.save(str(folder / "images"))
            np.random.seed(3)
            data.montage(length=2, save_folder=str(folder / "pictures"))
            data.montage(length=3, replace=True, save_folder=str(folder / "more"))
            assert (folder / f"pictures/{entry.flag}{mine.size_flag}_{split}_montage.{suffix}").is_file()
    assert files(out / "mine") == files(out / "theirs")


@pytest.mark.parametrize(("entry", "size"), EVERY)
def test_everything_equals_the_official_package(
    entry: Subset, size: int, root: Root, theirs: Theirs, tmp_path: Path
) -> None:
    compare(entry, size, root(entry.flag, size=size), theirs(root()), tmp_path)


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_real_files_give_the_official_items(flag: str, real_data: Path) -> None:
    name = subset(flag).python_class
    for split in ("val", "test"):
        mine, other = (getattr(each, name)(split, root=str(real_data)) for each in (medmnist, official))
        assert without_prose(repr(mine)) == without_prose(repr(other))
        for index in range(0, len(other), 7):
            assert_equal_items(mine[index], other[index])
        np.testing.assert_array_equal(mine.imgs, other.imgs)
        np.testing.assert_array_equal(mine.labels, other.labels)


def test_every_class_of_the_catalog_is_a_torch_data_set() -> None:
    from medmnist_hf.official import dataset

    for entry in subsets():
        kind = getattr(medmnist, medmnist.INFO[entry.flag]["python_class"])
        base = medmnist.MedMNIST2D if entry.ndim == 2 else medmnist.MedMNIST3D
        assert issubclass(kind, base) and issubclass(kind, torch.utils.data.Dataset)
        assert (kind.__name__, kind.__module__, kind.flag) == (entry.python_class, dataset.__name__, entry.flag)
        assert kind.available_sizes == list(entry.sizes) == getattr(official, kind.__name__).available_sizes
        assert kind is getattr(dataset, kind.__name__)
    for name in ("Axial", "Coronal", "Sagittal"):
        theirs = getattr(official.dataset, f"OrganMNIST{name}")
        assert getattr(dataset, f"OrganMNIST{name}").__name__ == theirs.__name__


def test_transforms_are_applied_in_the_official_way(root: Root, theirs: Theirs) -> None:
    folder = root("dermamnist")

    def items(module: Any) -> list[Any]:
        options = {"transform": lambda image: np.asarray(image).sum(), "target_transform": lambda label: label[0] + 5}
        return [module.DermaMNIST("val", root=folder, **options)[index] for index in range(4)]

    assert items(medmnist) == items(theirs(folder))


@pytest.mark.slow
@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_processes_of_a_torch_loader_read_it(root: Root, cache: Path, mmap_mode: str | None) -> None:
    data = medmnist.BreastMNIST("train", np.asarray, root=root("breastmnist"), mmap_mode=mmap_mode)
    batches = list(DataLoader(data, 8, num_workers=2, multiprocessing_context="spawn"))
    np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), data.imgs)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), data.labels)


def test_torch_takes_it_for_its_own(root: Root) -> None:
    data = medmnist.AdrenalMNIST3D("train", root=root("adrenalmnist3d"))
    images, labels = next(iter(DataLoader(data, len(data))))
    np.testing.assert_array_equal(images.numpy()[:, 0], data.imgs / 255)
    assert images.dtype == torch.float64 and labels.shape == (len(data), 1)
    both = data + data
    assert isinstance(both, ConcatDataset) and len(both) == 2 * len(data)


def test_it_works_without_torch(root: Root, tmp_path: Path) -> None:
    """Also when torch is missing, all that needs no tensor does the same."""
    code = """
import sys
sys.modules["torch"] = None
import numpy as np, medmnist_hf.official as medmnist
data = medmnist.RetinaMNIST("val", root=sys.argv[1], transform=np.asarray)
assert data[0][0].shape == (28, 28, 3) and len(list(data)) == len(data) == len(data.imgs)
data.save("images"); data.montage(2, save_folder="pictures")
evaluator = medmnist.Evaluator("retinamnist", "val", root=sys.argv[1])
evaluator.evaluate(evaluator.get_dummy_prediction(), "scores", run="mine")
assert not {name for name, module in sys.modules.items() if name.startswith("torch") and module}
"""
    command = [sys.executable, "-c", code, root("retinamnist")]
    subprocess.run(command, check=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)})
    assert {path.name for path in tmp_path.iterdir()} == {"npz", "images", "pictures", "scores"}


# What differs


@pytest.mark.parametrize("mmap_mode", ["r", "c"])
def test_mapped_images_are_those_in_memory(root: Root, cache: Path, mmap_mode: str) -> None:
    folder = root("chestmnist", "organmnist3d")
    for kind in (medmnist.ChestMNIST, medmnist.OrganMNIST3D):
        data, expected = kind("val", root=folder, mmap_mode=mmap_mode), kind("val", root=folder)
        assert isinstance(data.imgs, np.memmap) and data.imgs.flags.writeable is (mmap_mode == "c")
        np.testing.assert_array_equal(data.imgs, expected.imgs)
        np.testing.assert_array_equal(data.labels, expected.labels)
        assert data.labels.dtype == np.uint8
        for index in (0, -1):
            assert_equal_items(data[index], expected[index])


def sent(data: Any) -> Any:
    """A data set as it arrives in another process."""
    return pickle.loads(pickle.dumps(data))  # noqa: S301 - made here


def test_mapped_images_are_passed_to_processes_by_their_place(root: Root, cache: Path) -> None:
    folder = root("pathmnist", rows=64)
    data = medmnist.PathMNIST("train", root=folder, mmap_mode="r")
    for twin in (sent(data), copy.deepcopy(data)):
        assert isinstance(twin.imgs, np.memmap) and twin.imgs.filename == data.imgs.filename
        np.testing.assert_array_equal(twin.imgs, data.imgs)
        assert sent(twin).imgs.shape == data.imgs.shape
    assert len(pickle.dumps(data)) < 5_000 < data.imgs.nbytes
    data.imgs = data.imgs[3:5]  # as who keeps some rows does
    np.testing.assert_array_equal(sent(data).imgs, data.imgs)
    in_memory = medmnist.PathMNIST("train", root=folder)
    np.testing.assert_array_equal(sent(in_memory).imgs, in_memory.imgs)


PEAK = """
import re, sys
from pathlib import Path
from {package} import BreastMNIST
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
before = peak()
data = BreastMNIST("train", root=sys.argv[1], size=224, mmap_mode="r")
data[0], data[1999]
print(peak() - before)
"""
"""Prints by how many MB the peak of the memory grows as a split of 100 MB is opened."""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux states the peak of a process")
def test_mapped_images_take_no_memory(tmp_path: Path) -> None:
    """Neither when they are decoded for the first use nor later; the official package reads them into memory."""
    arrays = {}
    for split, rows in (("train", 2000), ("val", 2), ("test", 2)):
        arrays[f"{split}_images"] = np.zeros((rows, 224, 224), np.uint8)
        arrays[f"{split}_labels"] = np.zeros((rows, 1), np.uint8)
    np.savez_compressed(tmp_path / "breastmnist_224.npz", **arrays)  # type: ignore[arg-type]
    environment = {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "MEDMNIST_ARRAYS": str(tmp_path / "arrays")}

    def peak(package: str) -> int:
        command = [sys.executable, "-c", PEAK.format(package=package), str(tmp_path)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)

    first, later, theirs = peak("medmnist_hf.official"), peak("medmnist_hf.official"), peak("medmnist")
    assert theirs > 95
    assert later < 60 and first < 90, "mostly imported libraries"


def test_a_mode_that_would_change_the_file_is_refused(root: Root) -> None:
    for mode in ("r+", "w+", "x"):
        with pytest.raises(ArgumentError, match=r"^mmap_mode '.*' is not valid: choose r or c, which never change"):
            medmnist.BreastMNIST("train", root=root() if mode != "r+" else root("breastmnist"), mmap_mode=mode)


def test_a_file_of_other_rows_is_reported(root: Root, caplog: pytest.LogCaptureFixture) -> None:
    """With the official package, its `len` fails."""
    folder = root("breastmnist")
    assert len(medmnist.BreastMNIST("val", root=folder)) == 4
    assert "the data was built from a file whose MD5 is not the official one" in caplog.text
    with pytest.raises(AssertionError):
        len(official.BreastMNIST("val", root=folder))


def test_a_class_that_reads_nothing_itself_is_shown(root: Root) -> None:
    """As those that join subsets, which call no ``__init__`` and have no flag."""
    part = medmnist.BreastMNIST("val", root=root("breastmnist"))

    class Joined(medmnist.MedMNIST2D):  # type: ignore[misc]
        def __init__(self) -> None:
            self.__dict__ |= vars(part) | {
                "imgs": np.concatenate([part.imgs] * 2),
                "labels": np.tile(part.labels, (2, 1)),
            }

    data = Joined()
    assert len(data) == 8 and data[5][0].size == (28, 28)
    assert str(data).startswith("Dataset Joined of size 28 (Ellipsis)")


def test_flags_are_those_of_the_catalog(root: Root) -> None:
    kind = type("OwnMNIST", (medmnist.MedMNIST2D,), {"flag": "ownmnist"})
    with pytest.raises(CatalogError, match="unknown subset 'ownmnist'"):
        kind("val", root=root())


def test_saving_a_split_again_replaces_its_lines(root: Root, theirs: Theirs, tmp_path: Path) -> None:
    folder = root("breastmnist")
    for module in (medmnist, theirs(folder)):
        for split in ("val", "test", "val"):
            module.BreastMNIST(split, root=folder).save(str(tmp_path / module.__name__))
    mine, other = (
        (tmp_path / name / "breastmnist.csv").read_text().splitlines() for name in (medmnist.__name__, "medmnist")
    )
    assert len(set(other)) == len(set(mine)) == len(mine) < len(other)
    assert set(mine) == set(other)


def test_wrong_arguments_are_one_line_and_the_official_kind(root: Root, tmp_path: Path) -> None:
    folder = root("breastmnist")
    kind = medmnist.BreastMNIST
    with pytest.raises(ValueError, match=r"^unknown split 'dev': choose from train, val, test$"):
        kind("dev", root=folder)
    with pytest.raises(ArgumentError, match="breastmnist has no size 32: choose from 28, 64, 128, 224"):
        kind("val", root=folder, size=32)
    with pytest.raises(RuntimeError, match=r"^no folder .*: create it, or name another root$"):
        kind("val", root=tmp_path / "none")
    with pytest.raises(RootError, match=r"^neither breastmnist_64\.npz nor a build .*: pass download=True to Breast"):
        kind("val", root=folder, size=64)
    data = kind("val", root=folder)
    with pytest.raises(
        ValueError, match=r"needs 10000 of the 4 rows: choose a length of 1 to 2, or pass replace=True"
    ):
        data.montage(100)
    with pytest.raises(ValueError, match="images cannot be saved as nii: choose another format, such as png"):
        data.save(tmp_path / "out", "nii")
    assert not (tmp_path / "out").exists()
    volumes = medmnist.NoduleMNIST3D("val", root=root("nodulemnist3d"))
    with pytest.raises(ValueError, match="volumes cannot be saved as png: choose gif"):
        volumes.save(tmp_path / "out", "png")
