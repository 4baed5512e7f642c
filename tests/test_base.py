"""The builders as builders of `datasets`: configs, features, tables cut to row groups, streaming, processes."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from builders import base
from builders.base import MedMNISTBuilder
from builders.medmnist2d import MedMNIST2D
from builders.medmnist3d import MedMNIST3D
from builders.plan import RowRange, row_groups, rows_per_group
from builders.source import SourceFile
from medmnist_hf.catalog import SPLITS, Subset, Task, subset, subsets
from medmnist_hf.errors import BuildError, CatalogError, ReadError, SourceError
from medmnist_hf.features import features_of
from tests.conftest import Phantoms
from tests.fixtures.npz import NpzFile, arrays_of, source_file
from tests.fixtures.tables import assert_equals_npz, images_of, labels_of

UInt8 = npt.NDArray[np.uint8]


def builder_of(entry: Subset, size: int, cache: Path, **config: str) -> MedMNISTBuilder:
    cls = MedMNIST3D if entry.ndim == 3 else MedMNIST2D
    return cls(config_name=f"{entry.flag}-{size}", cache_dir=str(cache), **config)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's cache folder of its own, where ``source="phantom"`` puts its files."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_sixty_configs() -> None:
    names = [config.name for cls in (MedMNIST2D, MedMNIST3D) for config in cls.BUILDER_CONFIGS]
    assert names == [f"{entry.flag}-{size}" for entry in subsets() for size in entry.sizes]
    assert len(set(names)) == 60
    assert {config.codec for config in MedMNIST2D.BUILDER_CONFIGS} == {"png"}
    assert all(config.description for config in MedMNIST2D.BUILDER_CONFIGS + MedMNIST3D.BUILDER_CONFIGS)


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_info(entry: Subset, tmp_path: Path) -> None:
    for size in entry.sizes:
        builder = builder_of(entry, size, tmp_path)
        features = builder.info.features
        assert features == features_of(entry, size)
        assert list(features) == ["image", "label"]
        if entry.ndim == 3:
            assert features["image"] == datasets.Array3D((size, size, size), "uint8")
        else:
            assert features["image"] == datasets.Image(mode="RGB" if entry.channels == 3 else "L")
        label = datasets.ClassLabel(names=list(entry.labels))
        assert features["label"] == (datasets.List(label) if entry.task is Task.MULTI_LABEL else label)
        assert builder.info.description == entry.description
        assert "medmnist" in builder.info.homepage
        wanted = "NonCommercial" if entry.flag == "dermamnist" else "Attribution 4.0"
        assert wanted in builder.info.license.replace("-", "")


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_as_a_builder_of_datasets(real_data: Path, tmp_path: Path, flag: str) -> None:
    entry = subset(flag)
    builder = builder_of(entry, 28, tmp_path, source=str(real_data))
    builder.download_and_prepare()
    built = builder.as_dataset()
    assert list(built) == list(SPLITS)
    assert {split: built[split].num_rows for split in built} == {split: entry.counts[split] for split in SPLITS}
    assert all(dataset.features == features_of(entry, 28) for dataset in built.values())
    tables = {split: dataset.with_format("arrow")[:] for split, dataset in built.items()}
    assert_equals_npz(tables, real_data / f"{flag}.npz", entry, 28)
    assert builder.info.splits["train"].num_examples == entry.counts.train


@pytest.mark.parametrize(("flag", "size"), [("chestmnist", 64), ("bloodmnist", 28), ("organmnist3d", 28)])
def test_streaming(home: Path, tmp_path: Path, flag: str, size: int) -> None:
    entry = subset(flag)
    builder = builder_of(entry, size, tmp_path, source="phantom")
    (prefix, split) = ("val", "validation")
    rows = list(builder.as_streaming_dataset(split=split))
    (path,) = home.glob("**/*.npz")
    with np.load(path) as npz:
        assert np.array_equal(np.stack([np.asarray(row["image"]) for row in rows]), npz[f"{prefix}_images"])
        labels = pa.chunked_array([pa.array([row["label"] for row in rows])])
        assert np.array_equal(labels_of(labels, entry), npz[f"{prefix}_labels"])


def test_several_processes(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "DEFAULT_SHARD_SIZE", 20_000)
    entry = subset("pathmnist")
    builder = builder_of(entry, 28, tmp_path, source="phantom")
    builder.download_and_prepare(num_proc=2)
    tables = {split: dataset.with_format("arrow")[:] for split, dataset in builder.as_dataset().items()}
    (path,) = home.glob("**/*.npz")
    assert_equals_npz(tables, path, entry, 28)


def all_tables(
    builder: MedMNISTBuilder, file: SourceFile, split: str, shards: list[RowRange]
) -> list[tuple[int, int, pa.Table]]:
    with ThreadPoolExecutor(3) as pool:
        return list(builder.tables(builder.open(file), split, shards, pool))


@pytest.mark.parametrize(
    ("flag", "size", "count"), [("pathmnist", 224, 240), ("organcmnist", 128, 40), ("nodulemnist3d", 64, 48)]
)
def test_each_table_is_a_row_group(phantoms: Phantoms, tmp_path: Path, flag: str, size: int, count: int) -> None:
    entry, file = subset(flag), phantoms(flag, size, count)
    builder = builder_of(entry, size, tmp_path)
    assert file.counts is not None
    shape, rows = entry.file(size).image_shape, file.counts.train
    shards = [RowRange(0, rows // 4), RowRange(rows // 4, rows)]
    found = all_tables(builder, file, "train", shards)
    groups = [(i, row_groups(shard, shape, entry.ndim)) for i, shard in enumerate(shards)]
    wanted = [(i, j, len(group)) for i, parts in groups for j, group in enumerate(parts)]
    assert [(shard, group, len(table)) for shard, group, table in found] == wanted
    assert any(group > 0 for _, group, _ in wanted) or flag == "organcmnist"
    assert {table.schema for _, _, table in found} == {builder.info.features.arrow_schema}
    with np.load(file.path) as npz:
        pixels = pa.concat_tables([table for _, _, table in found])["image"]
        assert np.array_equal(images_of(pixels, entry, size), npz["train_images"])


def test_wanted_shards_only(phantoms: Phantoms, tmp_path: Path) -> None:
    """Rows between wanted shards are read past; every block is shown all the same, in row order."""
    entry, file = subset("bloodmnist"), phantoms("bloodmnist", 28, 400)
    builder = builder_of(entry, 28, tmp_path)
    reader = builder.open(file)
    with np.load(file.path) as npz:
        pixels, labels = npz["train_images"], npz["train_labels"]
    for shards in (
        [RowRange(10, 20), RowRange(20, 25), RowRange(390, 400)],
        [RowRange(0, 1)],
        [],
        [RowRange(399, 400)],
    ):
        seen: list[UInt8] = []
        with ThreadPoolExecutor(2) as pool:
            tables = list(builder.tables(reader, "train", shards, pool, seen.append))
        assert np.array_equal(np.concatenate(seen), pixels)
        assert [shard for shard, _, _ in tables] == list(range(len(shards)))
        for (_, _, table), rows in zip(tables, shards, strict=True):
            assert np.array_equal(images_of(table["image"], entry, 28), pixels[rows.start : rows.stop])
            assert np.array_equal(labels_of(table["label"], entry), labels[rows.start : rows.stop])


def test_findings(tmp_path: Path) -> None:
    entry = subset("chestmnist")
    arrays = arrays_of(entry)
    labels = np.zeros((7, 14), np.uint8)
    labels[1, [0, 13]] = labels[3, 5] = labels[4] = 1
    arrays["train_labels"] = labels
    NpzFile(arrays).write(tmp_path / "a.npz")
    builder = builder_of(entry, 28, tmp_path)
    ((_, _, table),) = all_tables(builder, source_file(tmp_path / "a.npz"), "train", [RowRange(0, 7)])
    assert table["label"].to_pylist() == [[], [0, 13], [], [5], list(range(14)), [], []]
    ((_, _, table),) = all_tables(builder, source_file(tmp_path / "a.npz"), "train", [RowRange(2, 4)])
    assert table["label"].to_pylist() == [[], [5]]


def test_volumes_hold_no_more_than_their_voxels(phantoms: Phantoms, tmp_path: Path) -> None:
    entry, file = subset("vesselmnist3d"), phantoms("vesselmnist3d", 64)
    builder = builder_of(entry, 64, tmp_path)
    ((_, _, table),) = all_tables(builder, file, "test", [RowRange(0, 8)])
    assert 8 * 64**3 < table["image"].nbytes < 8 * 64**3 * 1.1


@pytest.mark.parametrize("workers", [1, 5])
def test_the_pool_is_never_flooded(phantoms: Phantoms, tmp_path: Path, workers: int) -> None:
    """Blocks are read no further ahead than a constant, however slowly tables are taken."""
    entry, file = subset("pathmnist"), phantoms("pathmnist", 224, 240)
    builder = builder_of(entry, 224, tmp_path)
    read = itertools.count()
    rows = 0

    def on_rows(block: UInt8) -> None:
        nonlocal rows
        next(read)
        rows += len(block)

    most = rows_per_group((224, 224, 3), 2)
    with ThreadPoolExecutor(workers) as pool:
        stream = builder.tables(builder.open(file), "train", [RowRange(0, 240)], pool, on_rows)
        _, _, first = next(stream)
        assert len(first) <= most
        assert rows <= len(first) + 14 * max(1, (1 << 20) // (224 * 224 * 3)) < 240
        del stream  # closes it, so that the pool has nothing left to do


def test_errors_of_the_source_come_through(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no folder"):
        builder_of(subset("breastmnist"), 28, tmp_path, source="/no/such/folder").as_streaming_dataset(split="test")
    with pytest.raises(BuildError, match="unknown codec 'jpeg': choose from png, webp"):
        builder_of(subset("breastmnist"), 28, tmp_path, codec="jpeg")
    with pytest.raises(BuildError, match="webp is for RGB"):
        builder_of(subset("breastmnist"), 28, tmp_path, codec="webp")
    with pytest.raises(ValueError, match="pathmnist-29"):
        MedMNIST2D(config_name="pathmnist-29", cache_dir=str(tmp_path))
    with pytest.raises(CatalogError, match="has no size 32"):
        MedMNIST2D(config_name="pathmnist-28", size=32, cache_dir=str(tmp_path))
    NpzFile(arrays_of(subset("breastmnist"))).write(tmp_path / "a.npz")
    with pytest.raises(ReadError, match="7 rows where the catalogue has 546"):
        builder = builder_of(subset("breastmnist"), 28, tmp_path)
        builder.open(source_file(tmp_path / "a.npz", subset("breastmnist").counts))
