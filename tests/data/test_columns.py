"""Reading the columns of a data set in its row order and any format, and the data sets that are rejected."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest
from datasets import Array3D, ClassLabel, Dataset, Features, Image, List, Value
from numpy.typing import NDArray

from medmnist_hf.data.columns import Columns
from medmnist_hf.errors import SourceError

CLASSES = ["a", "b", "c"]


def gray(rows: int, size: int = 6) -> NDArray[np.uint8]:
    return np.random.default_rng(rows).integers(0, 256, (rows, size, size), np.uint8)


def pictures(images: NDArray[Any]) -> list[PIL.Image.Image]:
    return [PIL.Image.fromarray(image) for image in images]


def dataset(images: Any, labels: Any = None, image: Any = None, label: Any = None) -> Dataset:
    features = Features({"image": image or Image(), "label": label or ClassLabel(names=CLASSES), "id": Value("int64")})
    labels = [row % 3 for row in range(len(images))] if labels is None else labels
    return Dataset.from_dict({"image": images, "label": labels, "id": list(range(len(images)))}, features)


def read(data: Dataset) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    columns = Columns(data)
    blocks, labels = columns.decode()
    images = np.concatenate(list(blocks))
    assert images.shape == columns.shape and labels.shape == columns.label_shape
    return images, labels


def by_row(data: Dataset) -> tuple[NDArray[Any], NDArray[Any]]:
    """Every value as iterating over the data set returns it."""
    rows = list(data.with_format(None))
    return np.stack([np.asarray(row["image"], np.uint8) for row in rows]), np.array([row["label"] for row in rows])


def torch_format() -> str:
    """The name of torch's format, where torch is."""
    import torch  # noqa: F401 - the error of `datasets` says of no module that it is missing

    return "torch"


RGB = np.random.default_rng(1).integers(0, 256, (40, 5, 6, 3), np.uint8)
VOLUMES = np.random.default_rng(2).integers(0, 256, (40, 3, 4, 5), np.uint8)
SOURCES: dict[str, Callable[[], Dataset]] = {
    "gray": lambda: dataset(pictures(gray(40)), image=Image(mode="L")),
    "RGB": lambda: dataset(pictures(RGB), image=Image(mode="RGB")),
    "no mode": lambda: dataset(pictures(RGB)),
    "volumes": lambda: dataset(VOLUMES, image=Array3D((3, 4, 5), "uint8")),
}
CHANGES: dict[str, Callable[[Dataset], Dataset]] = {
    "unchanged": lambda data: data,
    "filtered": lambda data: data.filter(lambda row: row["label"] == 1),
    "shuffled": lambda data: data.shuffle(seed=3),
    "selected": lambda data: data.select([5, 5, 0, 39, 7]),
    "shuffled and cut": lambda data: data.shuffle(seed=1).select(range(3, 30)),
    "sorted": lambda data: data.sort("label"),
    "sharded": lambda data: data.shard(3, 1),
    "joined": lambda data: datasets.concatenate_datasets([data.shuffle(seed=2), data.select([4]), data]),
    "flattened": lambda data: data.shuffle(seed=3).flatten_indices(),
    "mapped": lambda data: data.map(lambda row: {"id": row["id"] + 1}),
    "numpy": lambda data: data.with_format("numpy"),
    "torch": lambda data: data.shuffle(seed=1).with_format(torch_format(), columns=["label"]),
    "transformed": lambda data: data.with_transform(lambda batch: {"image": [None] * len(batch["image"])}),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("source", SOURCES)
def test_rows_equal_those_of_the_data_set(monkeypatch: pytest.MonkeyPatch, source: str, change: str) -> None:
    """Blocks have a few rows, so that they end within chunks and indices."""
    monkeypatch.setattr("medmnist_hf.data.columns._BLOCK_BYTES", 700)
    monkeypatch.setattr("medmnist_hf.data.columns._LABEL_ROWS", 7)
    data = CHANGES[change](SOURCES[source]())
    images, labels = read(data)
    expected, ids = by_row(data)
    assert np.array_equal(images, expected) and np.array_equal(labels, ids)
    assert images.dtype == np.uint8 and labels.dtype == np.int64


def test_images_with_decode_false_are_decoded() -> None:
    data = SOURCES["no mode"]()
    assert np.array_equal(read(data.cast_column("image", Image(decode=False)))[0], RGB)


def test_findings_become_multi_hot() -> None:
    data = dataset(pictures(gray(4)), [[0, 2], [], [1], [2]], label=List(ClassLabel(names=CLASSES)))
    _, labels = read(data.select([3, 0, 1, 2]))
    assert labels.tolist() == [[0, 0, 1], [1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_from_a_file_in_batches(tmp_path: Path) -> None:
    """Several Arrow record batches, mapped from the disk."""
    whole = SOURCES["gray"]()
    whole.to_parquet(str(tmp_path / "a.parquet"), batch_size=9)
    data = Dataset.from_parquet(str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / "cache"), split="test")
    assert np.array_equal(read(data.shuffle(seed=1))[0], by_row(data.shuffle(seed=1))[0])
    columns = Columns(data)
    assert (columns.name, columns.split) == ("parquet", "test")
    assert (Columns(whole).name, Columns(whole).split) == ("dataset", "")


def test_fingerprint_and_features_identify_a_data_set() -> None:
    data = SOURCES["gray"]()
    others = [
        data,
        data.shuffle(seed=1),
        data.select(range(20)),
        dataset(pictures(gray(40) + 1), image=Image(mode="L")),
    ]
    assert len({Columns(each).fingerprint for each in others}) == 4
    assert Columns(data).fingerprint == Columns(data).fingerprint
    assert Columns(data).features != Columns(SOURCES["RGB"]()).features


def jpeg(tmp_path: Path) -> str:
    path = tmp_path / "a.jpg"
    PIL.Image.fromarray(gray(1)[0]).save(path)
    return str(path)


MIXED = [*pictures(gray(5)), *pictures(gray(1, 7))]
REJECTED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "splits": (
        lambda _: datasets.DatasetDict(),
        "to_arrays takes a datasets.Dataset, not DatasetDict: choose a split",
    ),
    "stream": (
        lambda _: SOURCES["gray"]().to_iterable_dataset(),
        "not IterableDataset: load it without streaming=True",
    ),
    "array": (lambda _: gray(3), "not ndarray: load it with datasets.load_dataset"),
    "other columns": (lambda _: SOURCES["gray"]().rename_column("label", "y"), "no column label, only image, y, id"),
    "no rows": (lambda _: SOURCES["gray"]().select([]), "has no rows"),
    "plain labels": (lambda _: dataset(pictures(gray(3)), label=Value("int64")), "neither ClassLabel nor a list"),
    "plain images": (lambda _: dataset([1, 2], image=Value("int64")), "neither Image nor Array3D of a fixed shape"),
    "any depth": (
        lambda _: dataset(VOLUMES.tolist(), image=Array3D((None, 4, 5), "uint8")),
        "neither Image nor Array3D of a fixed shape",
    ),
    "another mode": (
        lambda _: dataset(pictures(gray(3)), image=Image(mode="RGB")),
        r"row 0 of the data set holds an image of shape \(6, 6\), but the mode of its feature is RGB: convert it with",
    ),
    "alpha": (
        lambda _: dataset(pictures(np.zeros((2, 5, 5, 4), np.uint8))),
        r"row 0 of the data set holds an image of shape \(5, 5, 4\): convert it",
    ),
    "JPEG": (lambda tmp_path: dataset([{"bytes": Path(jpeg(tmp_path)).read_bytes(), "path": None}]), "neither PNG"),
    "link": (lambda tmp_path: dataset([jpeg(tmp_path)]), "row 0 of the data set holds a link to a file"),
    "another size": (
        lambda _: dataset(MIXED).select([1, 2, 5, 3]),
        r"row 2 of the data set holds an image of shape \(7, 7\), not \(6, 6\): convert it with map, or leave it out",
    ),
    "no image": (lambda _: dataset([*pictures(gray(2)), None]), "row 2 of the data set holds no image"),
    "int64 voxels": (lambda _: dataset(VOLUMES, image=Array3D((3, 4, 5), "int64")), "voxels of int64, not uint8"),
    "no label": (lambda _: dataset(pictures(gray(3)), [0, 1, None]), "row 2 of the data set holds no label"),
    "unknown label": (lambda _: dataset(pictures(gray(3)), [0, -1, 1]), "row 1 .* a label outside 0 to 2"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_rejected_data_sets(tmp_path: Path, name: str) -> None:
    make, match = REJECTED[name]
    with pytest.raises(SourceError, match=match) as caught:
        read(make(tmp_path))
    assert "\n" not in str(caught.value)
