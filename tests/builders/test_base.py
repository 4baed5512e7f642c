"""The builders as used with `datasets`: configs, features, streaming, several processes."""

from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest

from builders import base
from builders.base import MedMNISTBuilder
from builders.medmnist2d import MedMNIST2D
from builders.medmnist3d import MedMNIST3D
from medmnist_hf.catalog import SPLITS, Subset, Task, subset, subsets
from medmnist_hf.errors import BuildError, CatalogError, SourceError
from medmnist_hf.features import features_of
from tests.fixtures.tables import assert_equals_npz, labels_of


def make_builder(entry: Subset, size: int, cache: Path, **config: str) -> MedMNISTBuilder:
    cls = MedMNIST3D if entry.ndim == 3 else MedMNIST2D
    return cls(config_name=f"{entry.flag}-{size}", cache_dir=str(cache), **config)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A separate user cache folder, where ``source="phantom"`` writes its files."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_there_are_sixty_official_configs_and_those_of_variants() -> None:
    names = [config.name for cls in (MedMNIST2D, MedMNIST3D) for config in cls.BUILDER_CONFIGS]
    assert set(names) == {f"{entry.flag}-{name}" for entry in subsets() for name in entry.config_names}
    assert len(names) == len(set(names)) == 60 + 4
    assert {config.codec for config in MedMNIST2D.BUILDER_CONFIGS} == {"png"}
    assert all(config.description for config in MedMNIST2D.BUILDER_CONFIGS + MedMNIST3D.BUILDER_CONFIGS)


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_builders_describe_their_data_set(entry: Subset, tmp_path: Path) -> None:
    for size in entry.sizes:
        builder = make_builder(entry, size, tmp_path)
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
        assert "medmnist" in builder.info.homepage and str(builder.info.version) == "3.0.0"
        license_words = "NonCommercial" if entry.flag == "dermamnist" else "Attribution 4.0"
        assert license_words in builder.info.license.replace("-", "")


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_prepared_data_equals_the_official_file(real_data: Path, tmp_path: Path, flag: str) -> None:
    entry = subset(flag)
    builder = make_builder(entry, 28, tmp_path, source=str(real_data))
    builder.download_and_prepare()
    built = builder.as_dataset()
    assert list(built) == list(SPLITS)
    assert {split: built[split].num_rows for split in built} == {split: entry.counts[split] for split in SPLITS}
    assert all(dataset.features == features_of(entry, 28) for dataset in built.values())
    tables = {split: dataset.with_format("arrow")[:] for split, dataset in built.items()}
    assert_equals_npz(tables, real_data / f"{flag}.npz", entry, 28)
    assert builder.info.splits["train"].num_examples == entry.counts.train


@pytest.mark.parametrize(("flag", "size"), [("chestmnist", 64), ("bloodmnist", 28), ("organmnist3d", 28)])
def test_streamed_rows_equal_the_source(home: Path, tmp_path: Path, flag: str, size: int) -> None:
    entry = subset(flag)
    builder = make_builder(entry, size, tmp_path, source="phantom")
    (prefix, split) = ("val", "validation")
    rows = list(builder.as_streaming_dataset(split=split))
    (path,) = home.glob("**/*.npz")
    with np.load(path) as npz:
        assert np.array_equal(np.stack([np.asarray(row["image"]) for row in rows]), npz[f"{prefix}_images"])
        labels = pa.chunked_array([pa.array([row["label"] for row in rows])])
        assert np.array_equal(labels_of(labels, entry), npz[f"{prefix}_labels"])


def test_several_processes_prepare_the_same_data(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "DEFAULT_SHARD_SIZE", 20_000)
    entry = subset("pathmnist")
    builder = make_builder(entry, 28, tmp_path, source="phantom")
    builder.download_and_prepare(num_proc=2)
    tables = {split: dataset.with_format("arrow")[:] for split, dataset in builder.as_dataset().items()}
    (path,) = home.glob("**/*.npz")
    assert_equals_npz(tables, path, entry, 28)


def test_errors_of_sources_and_codecs_are_raised(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no folder"):
        make_builder(subset("breastmnist"), 28, tmp_path, source="/no/such/folder").as_streaming_dataset(split="test")
    with pytest.raises(BuildError, match="unknown codec 'jpeg': choose from png, webp"):
        make_builder(subset("breastmnist"), 28, tmp_path, codec="jpeg")
    with pytest.raises(BuildError, match="webp is for RGB"):
        make_builder(subset("breastmnist"), 28, tmp_path, codec="webp")
    with pytest.raises(ValueError, match="pathmnist-29"):
        MedMNIST2D(config_name="pathmnist-29", cache_dir=str(tmp_path))
    with pytest.raises(CatalogError, match="has no size 32"):
        MedMNIST2D(config_name="pathmnist-28", size=32, cache_dir=str(tmp_path))
