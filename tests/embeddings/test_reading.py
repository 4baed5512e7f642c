"""`load_features` gives what was stored, and names a store that is missing, damaged, or of another model or data."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import medmnist_hf
from medmnist_hf.catalog import subset
from medmnist_hf.errors import BuildError, CatalogError, SourceError
from medmnist_hf.files import sha256_of
from medmnist_hf.manifest import MANIFEST_NAME
from medmnist_hf.places.resolver import Build
from tests.conftest import Phantoms
from tests.fixtures.stores import MODEL, WIDTH, features_of_rows, images_of, store


@pytest.fixture(scope="module")
def home(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    for flag in ("breastmnist", "chestmnist"):
        store(images_of(phantoms, folder / "dist", flag), folder / "features")
    return folder


@pytest.fixture(autouse=True)
def in_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


@pytest.mark.parametrize("flag", ["breastmnist", "chestmnist"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_features_and_labels_are_those_of_the_rows(flag: str, split: str) -> None:
    features, labels = medmnist_hf.load_features(flag, 28, split, model=MODEL)
    name = "validation" if split == "val" else split
    expected = medmnist_hf.load_arrays(flag, 28, split, root="dist").labels
    assert labels.dtype == expected.dtype and np.array_equal(labels, expected)
    assert features.dtype == np.float32 and np.array_equal(features, features_of_rows(name, 0, len(labels)))


def test_float16_is_returned_as_stored(tmp_path: Path) -> None:
    images = Build(subset("breastmnist"), 28, Path("dist/breastmnist/28").absolute())
    store(images, tmp_path, dtype="float16")
    features, _ = medmnist_hf.load_features("breastmnist-28", root=tmp_path, model=MODEL)
    assert features.dtype == np.float16 and np.array_equal(features, features_of_rows("train", 0, 16))


def test_synthetic_images_log_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        medmnist_hf.load_features("breastmnist", model=MODEL)
    messages = [record.message for record in caplog.records]
    assert [text for text in messages if text.startswith("features/breastmnist/28-timm-test_vit.r160_in1k: SYNTHETIC")]


def test_a_missing_store_names_the_command() -> None:
    with pytest.raises(SourceError) as error:
        medmnist_hf.load_features("breastmnist", 28, model="timm/resnet18")
    assert str(error.value) == (
        "no features of breastmnist at size 28 by timm/resnet18 in features (it has 28-timm-test_vit.r160_in1k): run "
        "medmnist-hf embed breastmnist --size 28 --model timm/resnet18 --out features"
    )
    with pytest.raises(SourceError, match="no folder features/bloodmnist"):
        medmnist_hf.load_features("bloodmnist", model=MODEL)


def test_a_name_that_is_not_a_subset_is_refused() -> None:
    with pytest.raises(SourceError, match="needs the name of a subset"):
        medmnist_hf.load_features("you/breastmnist", model=MODEL)
    with pytest.raises(CatalogError):
        medmnist_hf.load_features("breastmnist", 30, model=MODEL)
    with pytest.raises(CatalogError, match="unknown split"):
        medmnist_hf.load_features("breastmnist", 28, "dev", model=MODEL)


def test_other_data_is_named(phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images_of(phantoms, tmp_path / "other", "breastmnist", rows=12)
    with pytest.raises(BuildError, match=r"of other data than .*other/breastmnist/28 \(16 train rows, not 12"):
        medmnist_hf.load_features("breastmnist", model=MODEL, data=tmp_path / "other/breastmnist")
    monkeypatch.setenv("MEDMNIST_DATA", str(tmp_path / "other"))  # the build that is found by default
    with pytest.raises(BuildError, match="of other data than"):
        medmnist_hf.load_features("breastmnist", model=MODEL)
    assert len(medmnist_hf.load_features("breastmnist", model=MODEL, data="dist/breastmnist").labels) == 16


def test_without_a_build_the_store_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(medmnist_hf.load_features("breastmnist", root=home / "features", model=MODEL).features) == 16


@pytest.mark.parametrize("damage", ["missing", "changed", "other type"])
def test_a_damaged_shard_is_named(damage: str, home: Path, tmp_path: Path) -> None:
    written = store(Build(subset("breastmnist"), 28, home / "dist/breastmnist/28"), tmp_path)
    shard = written.manifest.splits["train"].shards[0]
    path = written.folder / shard.name
    table = pq.read_table(path)
    if damage == "missing":
        path.unlink()
    elif damage == "changed":
        content = bytearray(path.read_bytes())
        content[60] ^= 1
        path.write_bytes(content)
    else:
        other = table.column("features").cast(pa.list_(pa.float64(), WIDTH))
        pq.write_table(table.set_column(0, "features", other), path, use_dictionary=False, compression="none")
        # The digest in the manifest is that of this file.
        text = (written.folder / MANIFEST_NAME).read_text().replace(shard.sha256, sha256_of(path))
        text = text.replace(f'"bytes": {shard.bytes}', f'"bytes": {path.stat().st_size}', 1)
        (written.folder / MANIFEST_NAME).write_text(text)
    reason = {"missing": "No such file", "changed": "not the shard", "other type": "double"}[damage]
    with pytest.raises(BuildError, match=f"cannot read .*{shard.name} .*{reason}.*make the features again"):
        medmnist_hf.load_features("breastmnist", root=tmp_path, model=MODEL)
