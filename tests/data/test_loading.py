import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import NPZ_SPLITS, subset
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.sources.source import Folder
from medmnist_hf.errors import CatalogError, SourceError
from medmnist_hf.features import features_of
from tests.conftest import Phantoms


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag, size in (("chestmnist", 28), ("chestmnist", 64), ("organmnist3d", 28)):
        write_card(build_config(subset(flag), size, phantoms(flag, size), out).config_dir.parent)
    return out


def test_all_splits_or_one(root: Path) -> None:
    splits = medmnist_hf.load("chestmnist", root=root)
    assert list(splits) == ["train", "validation", "test"]
    one = medmnist_hf.load("ChestMNIST", 64, "train[:5]", root=str(root))
    assert len(one) == 5
    assert one.features == features_of(subset("chestmnist"), 64)
    assert one[0]["image"].size == (64, 64)
    streamed = medmnist_hf.load("chestmnist", 28, "test", root, streaming=True)
    assert isinstance(streamed, datasets.IterableDataset)
    assert next(iter(streamed))["image"].mode == "L"


def test_the_default_config_is_28(root: Path) -> None:
    assert datasets.load_dataset(str(root / "chestmnist"), split="train")[0]["image"].size == (28, 28)


@pytest.mark.parametrize(("flag", "rows"), [("breastmnist", 780), ("retinamnist", 1600), ("adrenalmnist3d", 1584)])
def test_official_files_load_equal_to_the_npz(real_data: Path, tmp_path: Path, flag: str, rows: int) -> None:
    """Every value, through a prepared copy and through streaming, with the types that a user sees."""
    entry = subset(flag)
    write_card(build_config(entry, 28, Folder(real_data).fetch(entry, 28), tmp_path).config_dir.parent)
    arrays = np.load(real_data / f"{flag}.npz")
    seen = 0
    for streaming in (False, True):
        splits = datasets.load_dataset(str(tmp_path / flag), "28", streaming=streaming)
        for split, prefix in NPZ_SPLITS.items():
            data = splits[split]
            assert data.features == features_of(entry, 28)
            if entry.ndim == 3:
                data = data.with_format("numpy") if streaming else data.with_format("numpy", dtype="uint8")
            images, labels = arrays[f"{prefix}_images"], arrays[f"{prefix}_labels"][:, 0]
            count = 0
            for row, image, label in zip(data, images, labels, strict=True):
                pixels = np.asarray(row["image"])
                assert streaming or pixels.dtype == np.uint8
                assert np.array_equal(pixels, image)
                assert row["label"] == label
                count += 1
            seen += count
    assert seen == 2 * rows


def test_what_is_not_built(root: Path) -> None:
    with pytest.raises(SourceError, match=r"no build of chestmnist at size 224 .*\(it has 28, 64\).*--size 224"):
        medmnist_hf.load("chestmnist", 224, root=root)
    with pytest.raises(SourceError, match="nothing is built there"):
        medmnist_hf.load("pathmnist", root=root)


def test_what_does_not_exist(root: Path) -> None:
    with pytest.raises(CatalogError, match="did you mean 'pathmnist'"):
        medmnist_hf.load("pathmnits", root=root)
    with pytest.raises(CatalogError, match="organmnist3d has no size 224"):
        medmnist_hf.load("organmnist3d", 224, root=root)


def test_a_hub_that_cannot_be_reached_is_one_line() -> None:
    """The tests run with HF_HUB_OFFLINE, so that the real client refuses without a request."""
    with pytest.raises(SourceError, match="cannot load medmnist/pathmnist") as caught:
        medmnist_hf.load("pathmnist")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("split", ["val", "val[:10%]", "train+val", "train[:1"])
def test_an_unknown_split_is_one_line(root: Path, split: str, streaming: bool) -> None:
    with pytest.raises(CatalogError, match="of chestmnist: choose from train, validation, test") as caught:
        medmnist_hf.load("chestmnist", root=root, split=split, streaming=streaming)
    assert repr(split) in str(caught.value) and "\n" not in str(caught.value)


def test_expressions_of_splits_are_those_of_datasets(root: Path) -> None:
    counts = {split: len(medmnist_hf.load("chestmnist", root=root, split=split)) for split in NPZ_SPLITS}
    for split, rows in (("train[:25%]", counts["train"] // 4), ("train+test", counts["train"] + counts["test"])):
        assert len(medmnist_hf.load("chestmnist", root=root, split=split)) == rows
    with pytest.raises(ValueError, match="slice"):
        medmnist_hf.load("chestmnist", root=root, split="train[:200%]")


def test_a_build_without_its_card(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "organmnist3d", tmp_path / "organmnist3d")
    (tmp_path / "organmnist3d" / "README.md").unlink()
    with pytest.raises(SourceError, match=r"no README\.md in .*: run scripts/build\.py again, it writes the card"):
        medmnist_hf.load("organmnist3d", root=tmp_path)
