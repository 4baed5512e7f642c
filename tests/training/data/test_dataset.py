"""``medmnist_hf.training.data.dataset``: batches gathered from memory or from a file."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.data.dataset import ArrayDataset, derive_seed

SHAPES = ((9, 7), (9, 7, 3), (4, 5, 6))


def images_of(shape: tuple[int, ...], count: int = 20) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def mapped(path: Path, images: np.ndarray) -> np.ndarray:
    np.save(path, images)
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_holds_the_samples_of_the_arrays(shape: tuple[int, ...]) -> None:
    images, labels = images_of(shape), np.arange(20, dtype=np.uint8)
    data = ArrayDataset(images, labels)
    indices = [3, 3, 19, 0]
    batch = data.gather(indices, epoch=5)
    assert batch.images.dtype == torch.uint8
    assert batch.labels.dtype == batch.indices.dtype == torch.int64
    np.testing.assert_array_equal(batch.images, images[indices])
    assert batch.labels.tolist() == batch.indices.tolist() == indices
    assert batch.epoch == 5
    assert data.image_shape == shape


@pytest.mark.parametrize("kind", [np.int64, np.float32])  # `load_arrays` returns float32
def test_multi_hot_labels_become_float(kind: type[np.generic]) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (20, 14)).astype(kind)
    batch = ArrayDataset(images_of((4, 4)), labels).gather(range(5))
    assert batch.labels.dtype == torch.float32
    np.testing.assert_array_equal(batch.labels, labels[:5])


@pytest.mark.parametrize("on_disk", [False, True])
def test_chosen_rows_are_gathered_batch_by_batch(tmp_path: Path, on_disk: bool) -> None:
    images, labels, rows = images_of((9, 7, 3)), np.arange(20), np.array([2, 5, 17, 11])
    data = ArrayDataset(mapped(tmp_path / "images.npy", images) if on_disk else images, labels, rows)
    assert len(data) == 4 and data.labels.tolist() == rows.tolist()
    for copy in (data, pickle.loads(pickle.dumps(data))):  # noqa: S301  (our own)
        batch = copy.gather([3, 0])
        np.testing.assert_array_equal(batch.images, images[[11, 2]])
        assert batch.labels.tolist() == [11, 2] and batch.indices.tolist() == [3, 0]
        with pytest.raises(IndexError):
            copy.gather([4])
        with pytest.raises(IndexError):
            copy.gather([-1])
    for wrong in ([], [20], [-1], [0.5], [[1]]):
        with pytest.raises(TrainingError, match=r"rows are not row numbers of 20 images: give integers in 0\.\.19"):
            ArrayDataset(images, labels, np.array(wrong))


def test_one_sample_is_a_copy() -> None:
    images = images_of((4, 4))
    data = ArrayDataset(images, np.arange(20))
    sample = data[-1]
    np.testing.assert_array_equal(sample["images"], images[19])
    assert sample["labels"].item() == sample["indices"].item() == 19
    before = images.copy()
    sample["images"].zero_()
    np.testing.assert_array_equal(images, before)
    assert len(data) == 20
    with pytest.raises(IndexError):
        data[20]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_default_collation_of_torch_gives_batches(workers: int) -> None:
    images = images_of((4, 4, 3))
    data = ArrayDataset(images, np.arange(20))
    batches = list(DataLoader(data, batch_size=8, num_workers=workers))
    assert [len(batch["labels"]) for batch in batches] == [8, 8, 4]
    np.testing.assert_array_equal(torch.cat([batch["images"] for batch in batches]), images)


def test_subsets_and_concatenations_of_torch_work() -> None:
    data = ArrayDataset(images_of((4, 4)), np.arange(20))
    part = next(iter(DataLoader(Subset(data, [4, 2]), batch_size=2)))
    assert part["indices"].tolist() == [4, 2]
    both = next(iter(DataLoader(ConcatDataset([data, data]), batch_size=40)))
    assert both["labels"].tolist() == [*range(20), *range(20)]


def test_only_requested_rows_of_a_mapped_file_are_read(tmp_path: Path) -> None:
    """The file is sparse and has 2 GB: reading all of it would show in the memory of the process."""
    path = tmp_path / "images.npy"
    stored = np.lib.format.open_memmap(path, "w+", np.uint8, (40_000, 224, 224))
    stored[39_999] = 7
    stored.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = ArrayDataset(np.load(path, mmap_mode="r"), np.zeros(40_000, np.int64))
    memory = psutil.Process().memory_info().rss
    batch = data.gather([0, 39_999])
    content = pickle.dumps(data.gather.__self__)  # type: ignore[attr-defined]
    assert (batch.images[0] == 0).all()
    assert (batch.images[1] == 7).all()
    assert psutil.Process().memory_info().rss - memory < 40 << 20
    assert len(content) < 40_000 * 8 + 4000


@pytest.mark.parametrize("part", [slice(None), slice(3, 17)])
def test_a_pickled_mapping_reopens_the_file(tmp_path: Path, part: slice) -> None:
    images = images_of((5, 6))
    array = mapped(tmp_path / "images.npy", images)[part]
    data = ArrayDataset(np.asarray(array), np.arange(len(array)))
    content = pickle.dumps(data)
    assert images[part].tobytes()[:40] not in content
    copy = pickle.loads(content)  # noqa: S301  (pickled above)
    np.testing.assert_array_equal(copy.gather(range(len(array))).images, images[part])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(copy))[2]["images"], images[part][2])  # noqa: S301


@pytest.mark.slow
def test_a_spawned_worker_reads_the_mapping(tmp_path: Path) -> None:
    images = images_of((5, 6))
    data = ArrayDataset(mapped(tmp_path / "images.npy", images), np.arange(20))
    loader = DataLoader(data, batch_size=20, num_workers=1, multiprocessing_context="spawn")
    np.testing.assert_array_equal(next(iter(loader))["images"], images)


def test_arrays_in_memory_survive_pickling() -> None:
    images = images_of((5, 6))
    copy = pickle.loads(pickle.dumps(ArrayDataset(images[::2], np.arange(10))))  # noqa: S301  (pickled here)
    np.testing.assert_array_equal(copy.gather(range(10)).images, images[::2])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 4, 4), np.float32), np.zeros(3, int), "images are float32 of shape"),
        (np.zeros((3, 4), np.uint8), np.zeros(3, int), "images are uint8 of shape (3, 4)"),
        (np.zeros((0, 4, 4), np.uint8), np.zeros(0, int), "N at least 1"),
        (np.zeros((3, 4, 4), np.uint8), np.zeros(2, int), "3 images but 2 labels"),
        (np.zeros((3, 4, 4), np.uint8), np.zeros((3, 1), int), "labels are int64 of shape (3, 1)"),
        (np.zeros((3, 4, 4), np.uint8), np.zeros(3), "labels are float64"),
        (np.zeros((3, 4, 4), np.uint8), [0, 1, 2], "images and labels are ndarray and list"),
    ],
)
def test_invalid_arrays_are_one_line_errors(images: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        ArrayDataset(images, labels)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_derived_seeds_depend_on_all_values() -> None:
    seeds = [
        derive_seed(0),
        derive_seed(1),
        derive_seed(0, 1),
        derive_seed(1, 0),
        derive_seed(0, b"1", 2),
        derive_seed(12),
    ]
    seeds += [derive_seed(1, 2), derive_seed(0, b"12"), derive_seed(-1)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert derive_seed(3, 4, b"x") == derive_seed(3, 4, b"x")


@pytest.mark.parametrize("written", [True, False])
def test_a_pickled_copy_includes_writes_to_a_copy_on_write_mapping(tmp_path: Path, written: bool) -> None:
    np.save(tmp_path / "images.npy", images_of((64, 64)))
    images = np.load(tmp_path / "images.npy", mmap_mode="c")
    if written:
        images[3] = 255 - images[3]
    content = pickle.dumps(ArrayDataset(images, np.arange(20)))
    copy = pickle.loads(content)  # noqa: S301  (pickled above)
    np.testing.assert_array_equal(copy[3]["images"], images[3])
    assert (len(content) > images.nbytes) == written, "rows are pickled only if they were changed"
