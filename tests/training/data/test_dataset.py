"""``medmnist_hf.training.data.dataset``: a batch is one gather, from memory or from a file."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.data.dataset import ArrayDataset, mixed_seed

SHAPES = ((9, 7), (9, 7, 3), (4, 5, 6))


def images_of(shape: tuple[int, ...], count: int = 20) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def mapped(path: Path, images: np.ndarray) -> np.ndarray:
    np.save(path, images)
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_is_what_the_arrays_hold(shape: tuple[int, ...]) -> None:
    images, labels = images_of(shape), np.arange(20, dtype=np.uint8)
    data = ArrayDataset(images, labels)
    chosen = [3, 3, 19, 0]
    batch = data.gather(chosen, epoch=5)
    assert batch.images.dtype == torch.uint8
    assert batch.labels.dtype == batch.indices.dtype == torch.int64
    np.testing.assert_array_equal(batch.images, images[chosen])
    assert batch.labels.tolist() == batch.indices.tolist() == chosen
    assert batch.epoch == 5
    assert data.image_shape == shape


@pytest.mark.parametrize("kind", [np.int64, np.float32])  # as people hold them, and as `load_arrays` gives them
def test_several_labels_a_sample_become_float(kind: type[np.generic]) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (20, 14)).astype(kind)
    batch = ArrayDataset(images_of((4, 4)), labels).gather(range(5))
    assert batch.labels.dtype == torch.float32
    np.testing.assert_array_equal(batch.labels, labels[:5])


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
def test_torchs_own_collation_gives_batches(workers: int) -> None:
    images = images_of((4, 4, 3))
    data = ArrayDataset(images, np.arange(20))
    batches = list(DataLoader(data, batch_size=8, num_workers=workers))
    assert [len(batch["labels"]) for batch in batches] == [8, 8, 4]
    np.testing.assert_array_equal(torch.cat([batch["images"] for batch in batches]), images)


def test_subsets_and_concatenations_of_torch_work() -> None:
    data = ArrayDataset(images_of((4, 4)), np.arange(20))
    some = next(iter(DataLoader(Subset(data, [4, 2]), batch_size=2)))
    assert some["indices"].tolist() == [4, 2]
    both = next(iter(DataLoader(ConcatDataset([data, data]), batch_size=40)))
    assert both["labels"].tolist() == [*range(20), *range(20)]


def test_a_mapped_file_is_read_where_it_is_needed(tmp_path: Path) -> None:
    """A file of 2 GB, nearly all of it a hole: reading it whole would show in the memory of the process."""
    path = tmp_path / "images.npy"
    stored = np.lib.format.open_memmap(path, "w+", np.uint8, (40_000, 224, 224))
    stored[39_999] = 7
    stored.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = ArrayDataset(np.load(path, mmap_mode="r"), np.zeros(40_000, np.int64))
    before = psutil.Process().memory_info().rss
    batch = data.gather([0, 39_999])
    content = pickle.dumps(data.gather.__self__)  # type: ignore[attr-defined]
    assert (batch.images[0] == 0).all()
    assert (batch.images[1] == 7).all()
    assert psutil.Process().memory_info().rss - before < 40 << 20
    assert len(content) < 40_000 * 8 + 4000


@pytest.mark.parametrize("part", [slice(None), slice(3, 17)])
def test_a_pickled_mapping_opens_the_file_again(tmp_path: Path, part: slice) -> None:
    images = images_of((5, 6))
    array = mapped(tmp_path / "images.npy", images)[part]
    data = ArrayDataset(np.asarray(array), np.arange(len(array)))
    content = pickle.dumps(data)
    assert images[part].tobytes()[:40] not in content
    again = pickle.loads(content)  # noqa: S301  (made above)
    np.testing.assert_array_equal(again.gather(range(len(array))).images, images[part])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again))[2]["images"], images[part][2])  # noqa: S301


@pytest.mark.slow
def test_a_spawned_worker_reads_the_mapping(tmp_path: Path) -> None:
    images = images_of((5, 6))
    data = ArrayDataset(mapped(tmp_path / "images.npy", images), np.arange(20))
    loader = DataLoader(data, batch_size=20, num_workers=1, multiprocessing_context="spawn")
    np.testing.assert_array_equal(next(iter(loader))["images"], images)


def test_arrays_in_memory_survive_pickling() -> None:
    images = images_of((5, 6))
    again = pickle.loads(pickle.dumps(ArrayDataset(images[::2], np.arange(10))))  # noqa: S301  (made here)
    np.testing.assert_array_equal(again.gather(range(10)).images, images[::2])


@pytest.mark.parametrize(
    ("images", "labels", "said"),
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
def test_arrays_of_another_kind_are_refused_in_one_line(images: np.ndarray, labels: np.ndarray, said: str) -> None:
    with pytest.raises(TrainingError) as caught:
        ArrayDataset(images, labels)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_seeds_depend_on_all_parts() -> None:
    seeds = [mixed_seed(0), mixed_seed(1), mixed_seed(0, 1), mixed_seed(1, 0), mixed_seed(0, b"1", 2), mixed_seed(12)]
    seeds += [mixed_seed(1, 2), mixed_seed(0, b"12"), mixed_seed(-1)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert mixed_seed(3, 4, b"x") == mixed_seed(3, 4, b"x")


@pytest.mark.parametrize("written", [True, False])
def test_a_pickled_copy_has_what_was_written_to_the_mapping(tmp_path: Path, written: bool) -> None:
    np.save(tmp_path / "images.npy", images_of((64, 64)))
    images = np.load(tmp_path / "images.npy", mmap_mode="c")
    if written:
        images[3] = 255 - images[3]
    content = pickle.dumps(ArrayDataset(images, np.arange(20)))
    again = pickle.loads(content)  # noqa: S301  (made above)
    np.testing.assert_array_equal(again[3]["images"], images[3])
    assert (len(content) > images.nbytes) == written, "rows travel only if they must"
