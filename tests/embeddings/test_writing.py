"""Stores have the same bytes however they are written, and are never half written or silently replaced."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from medmnist_hf.catalog import SPLITS
from medmnist_hf.conversion.sharding import RowRange
from medmnist_hf.data.configs import config_at
from medmnist_hf.data.rows import BuiltRows
from medmnist_hf.embeddings import writing
from medmnist_hf.errors import BuildError
from medmnist_hf.files import sha256_of
from medmnist_hf.manifest import README_NAME, WORK_DIR, read_manifest
from tests.conftest import Phantoms
from tests.fixtures.stores import WIDTH, extract, features_of_rows, images_of, store


def files(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("flag", ["breastmnist", "chestmnist", "adrenalmnist3d"])
def test_rows_and_shards_are_those_of_the_images(flag: str, phantoms: Phantoms, tmp_path: Path) -> None:
    images = images_of(phantoms, tmp_path / "dist", flag)
    written = store(images, tmp_path / "features")
    manifest = read_manifest(images.folder)
    for split in SPLITS:
        shards = manifest.splits[split].shards
        assert [(shard.name, shard.rows) for shard in written.manifest.splits[split].shards] == [
            (shard.name, shard.rows) for shard in shards
        ]
        start = 0
        for shard in shards:
            rows, own = (pq.read_table(folder / shard.name) for folder in (images.folder, written.folder))
            assert own["label"].to_pylist() == rows["label"].to_pylist()
            values = np.array(own["features"].to_pylist(), np.float32)
            assert np.array_equal(values, features_of_rows(split, start, start + shard.rows))
            start += shard.rows
    assert written.extracted == written.manifest.rows and not written.reused
    assert not any((written.folder.parent / WORK_DIR).glob("*/"))


def test_datasets_loads_it_as_a_config(phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = images_of(phantoms, tmp_path / "dist", "chestmnist")
    for dtype in ("float32", "float16"):
        written = store(images, tmp_path / dtype, dtype=dtype)
        rows = datasets.load_dataset(str(written.folder.parent), written.folder.name)
        assert rows["train"].features["features"] == datasets.List(datasets.Value(dtype), length=WIDTH)
        expected = features_of_rows("test", 0, len(rows["test"]))
        assert np.array_equal(np.array(rows["test"]["features"]), expected)
        labels = config_at(images)
        assert rows["test"].features["label"].feature.names == list(labels.entry.labels)


def test_groups_do_not_depend_on_blocks(phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_GROUP_BYTES", 2 * WIDTH * 4)
    images = images_of(phantoms, tmp_path / "dist", "breastmnist")

    def at_once(split: str, ranges: Sequence[RowRange]) -> Iterator[NDArray[Any]]:
        yield np.concatenate([features_of_rows(split, part.start, part.stop) for part in ranges])

    first, second = store(images, tmp_path / "a"), store(images, tmp_path / "b", how=at_once)
    assert files(first.folder) == files(second.folder)
    groups = pq.read_metadata(first.folder / first.manifest.splits["train"].shards[0].name).num_row_groups
    assert groups == 2  # 4 rows in groups of 2


def test_an_interrupted_store_is_resumed_with_the_same_bytes(phantoms: Phantoms, tmp_path: Path) -> None:
    images = images_of(phantoms, tmp_path / "dist", "breastmnist")
    whole = store(images, tmp_path / "whole")
    asked: list[tuple[str, list[RowRange]]] = []

    def stopping(split: str, ranges: Sequence[RowRange]) -> Iterator[NDArray[Any]]:
        blocks = extract(split, ranges)
        for _ in range(3):  # one shard, and a part of the next
            yield next(blocks)
        raise KeyboardInterrupt

    def resuming(split: str, ranges: Sequence[RowRange]) -> Iterator[NDArray[Any]]:
        asked.append((split, list(ranges)))
        return extract(split, ranges)

    with pytest.raises(KeyboardInterrupt):
        store(images, tmp_path / "killed", how=stopping)
    final = tmp_path / "killed" / "breastmnist" / whole.folder.name
    assert not final.exists()
    (final.parent / WORK_DIR / final.name / "config" / ".train-00001-of-00003.parquet.tmp").write_bytes(b"half")
    written = store(images, tmp_path / "killed", how=resuming)
    ranges = writing.shard_rows(read_manifest(images.folder), "train")
    assert asked[0] == ("train", ranges[1:]) and len(ranges) > 2
    assert written.extracted < written.manifest.rows
    assert files(written.folder) == files(whole.folder)
    assert (final.parent / README_NAME).read_text() == (whole.folder.parent / README_NAME).read_text()


def test_a_stage_of_another_plan_is_not_continued(phantoms: Phantoms, tmp_path: Path) -> None:
    images = images_of(phantoms, tmp_path / "dist", "breastmnist")

    def stopping(split: str, ranges: Sequence[RowRange]) -> Iterator[NDArray[Any]]:
        yield from extract(split, ranges[:-1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store(images, tmp_path / "features", how=stopping)
    written = store(images, tmp_path / "features", digest="1" * 64)
    assert written.extracted == written.manifest.rows


def test_a_complete_store_is_reused(phantoms: Phantoms, tmp_path: Path) -> None:
    images = images_of(phantoms, tmp_path / "dist", "breastmnist")
    first = store(images, tmp_path / "features")
    (first.folder.parent / README_NAME).unlink()
    again = store(images, tmp_path / "features", how=lambda *_: pytest.fail("computed again"))
    assert again.reused and again.manifest == first.manifest and again.extracted == 0
    assert (first.folder.parent / README_NAME).exists()
    assert store(images, tmp_path / "features", force=True).extracted == first.manifest.rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"digest": "1" * 64}, "not the same weights"),
        ({"dtype": "float16"}, "type float32, not float16"),
        ({"model": "timm-test_vit.r160_in1k"}, "model timm/test_vit.r160_in1k, not timm-test_vit.r160_in1k"),
    ],
)
def test_another_store_is_not_replaced(
    options: dict[str, Any], message: str, phantoms: Phantoms, tmp_path: Path
) -> None:
    images = images_of(phantoms, tmp_path / "dist", "breastmnist")
    first = store(images, tmp_path / "features")
    before = files(first.folder)
    with pytest.raises(BuildError, match=message):
        store(images, tmp_path / "features", **options)
    assert files(first.folder) == before
    replaced = store(images, tmp_path / "features", force=True, **options)
    assert replaced.folder == first.folder and files(replaced.folder) != before


def test_other_data_is_named(phantoms: Phantoms, tmp_path: Path) -> None:
    store(images_of(phantoms, tmp_path / "a", "breastmnist"), tmp_path / "features")
    with pytest.raises(BuildError, match="16 train rows, not 12"):
        store(images_of(phantoms, tmp_path / "b", "breastmnist", rows=12), tmp_path / "features")
    with pytest.raises(BuildError, match="the same images in other shards"):
        store(images_of(phantoms, tmp_path / "c", "breastmnist", rows_per_shard=50), tmp_path / "features")


def test_a_damaged_store_is_named(phantoms: Phantoms, tmp_path: Path) -> None:
    images = images_of(phantoms, tmp_path / "dist", "breastmnist")
    written = store(images, tmp_path / "features")
    (written.folder / written.manifest.shards[0].name).write_bytes(b"PAR1")
    with pytest.raises(BuildError, match="is damaged"):
        store(images, tmp_path / "features")
    shutil.rmtree(written.folder)
    written.folder.mkdir()
    with pytest.raises(BuildError, match="cannot read"):
        store(images, tmp_path / "features")


def test_a_build_of_images_is_not_touched(phantoms: Phantoms, tmp_path: Path) -> None:
    images = images_of(phantoms, tmp_path / "dist", "breastmnist")
    with pytest.raises(BuildError, match="holds a build of images: name another folder"):
        store(images, tmp_path / "dist")


def test_a_value_beyond_float16_is_an_error(phantoms: Phantoms, tmp_path: Path) -> None:
    images = images_of(phantoms, tmp_path / "dist", "breastmnist")

    def large(split: str, ranges: Sequence[RowRange]) -> Iterator[NDArray[Any]]:
        return (block + 1e6 for block in extract(split, ranges))

    with pytest.raises(BuildError, match="exceeds the range of float16: pass --dtype float32"):
        store(images, tmp_path / "features", how=large, dtype="float16")
    assert store(images, tmp_path / "features", how=large).manifest.dtype == "float32"
    assert BuiltRows(config_at(images)).count("train") == 16
