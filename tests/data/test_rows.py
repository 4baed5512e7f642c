"""Rows have the same values from a build and from the Hub, and damaged files give one-line errors."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from medmnist_hf.catalog import NPZ_SPLITS
from medmnist_hf.data.configs import open_config
from medmnist_hf.data.rows import BuiltRows, Rows, open_rows, regroup
from medmnist_hf.errors import BuildError, CatalogError, MedMNISTError, SourceError
from medmnist_hf.manifest import MANIFEST_NAME
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.hub.server import HubServer
from tests.fixtures.on_hub import put_on_hub

FLAGS = ("breastmnist", "bloodmnist", "chestmnist", "organmnist3d")


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag in FLAGS:
        build(phantoms, out, flag, 28)
    return out


@pytest.mark.parametrize("flag", FLAGS)
def test_every_value_equals_the_npz(root: Path, phantoms: Phantoms, flag: str) -> None:
    same(open_rows(flag, 28, root=root), phantoms(flag).path)


@pytest.mark.parametrize("flag", ["chestmnist", "organmnist3d"])
def test_every_value_from_a_hub(hub: HubServer, root: Path, phantoms: Phantoms, flag: str) -> None:
    put_on_hub(hub, root / flag)
    rows = open_rows(f"org/{flag}", 28)
    assert rows.where == f"org/{flag}/28"
    same(rows, phantoms(flag).path)


def same(rows: Rows, npz: Path) -> None:
    with np.load(npz, allow_pickle=False) as arrays:
        for split, prefix in NPZ_SPLITS.items():
            images, labels = arrays[f"{prefix}_images"], arrays[f"{prefix}_labels"]
            assert rows.count(split) == len(images)
            assert np.array_equal(np.concatenate(list(rows.images(split))), images)
            read, targets = rows.labels(split), rows.targets(split)
            assert read.dtype == np.uint8
            assert read.shape == labels.shape
            assert np.array_equal(read, labels)
            assert np.array_equal(targets, labels if rows.entry.flag == "chestmnist" else labels[:, 0])
            picked = np.array([len(images) - 1, 0, 3, 3, 1])
            sample = rows.sample(split, picked)
            assert sample.dtype == np.uint8
            assert np.array_equal(sample, images[picked])


def test_blocks_are_row_groups(phantoms: Phantoms, tmp_path: Path) -> None:
    """Row groups of volumes hold at most 2 MiB, so a train split of 240 rows has three blocks, read in pieces."""
    build(phantoms, tmp_path, "adrenalmnist3d", 28, rows=240, rows_per_shard=10**6)
    rows = open_rows("adrenalmnist3d", 28, root=tmp_path)
    assert [block.shape for block in rows.images("train")] == [(80, 28, 28, 28)] * 3
    same(rows, phantoms("adrenalmnist3d", 28, 240).path)


def test_files_are_the_stored_bytes(root: Path) -> None:
    stored = [file for block in BuiltRows(open_config("bloodmnist", 28, root)).files("test") for file in block]
    tables = [pq.read_table(path) for path in sorted((root / "bloodmnist/28").glob("test-*"))]
    assert len(tables) > 1
    assert stored == pa.concat_tables(tables)["image"].combine_chunks().field("bytes").to_pylist()


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Callable[[str], Path]:
    def make(flag: str) -> Path:
        shutil.copytree(root / flag, tmp_path / flag)
        return tmp_path / flag / "28"

    return make


def forge(config: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Rewrite the first shard of the train split and update its size and hash in the manifest."""
    path = sorted(config.glob("train-*"))[0]
    pq.write_table(change(pq.read_table(path)), path, compression="none", use_dictionary=False)
    manifest = json.loads((config / MANIFEST_NAME).read_text())
    content = path.read_bytes()
    shard = manifest["splits"]["train"]["shards"][0]
    shard.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (config / MANIFEST_NAME).write_text(json.dumps(manifest))


def column(name: str, values: list[object], type_: pa.DataType | None = None) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        array = pa.array((values * len(table))[: len(table)], type_)
        return pa.table({each: array if each == name else table[each] for each in table.column_names})

    return change


def refused(config: Path, match: str, error: type[MedMNISTError] = SourceError) -> None:
    with pytest.raises(error, match=match) as caught:
        rows = open_rows(config.parent.name, 28, root=config.parents[1])
        rows.labels("train")
        list(rows.images("train"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flag", "change", "match"),
    [
        ("breastmnist", column("label", [2]), "row 0 holds a label outside 0 to 1"),
        ("breastmnist", column("label", [1, -1]), "row 1 holds a label outside 0 to 1"),
        ("breastmnist", column("label", [0, None]), "row 1 holds no label"),
        ("breastmnist", column("label", ["benign"]), "row 0 holds a label of string"),
        ("breastmnist", column("label", [0.5]), "row 0 holds a label of double"),
        ("chestmnist", column("label", [[3], [14]]), "row 1 holds a label outside 0 to 13"),
        ("chestmnist", column("label", [[0], None]), "row 1 holds no label"),
        ("chestmnist", column("label", [1]), "a label of int64"),
        ("breastmnist", column("label", [[1]]), "a label of list"),
        ("breastmnist", column("image", [{"bytes": b"GIF89a", "path": "x"}]), "row 0 holds an unreadable image"),
        (
            "breastmnist",
            column("image", [{"bytes": None, "path": "x"}], pa.struct({"bytes": pa.binary()})),
            "row 0 holds a link",
        ),
        ("breastmnist", column("image", [3]), "row 0 holds int64, not an image"),
        ("organmnist3d", column("image", [[[[1, 2]]]]), "row 0 holds a volume that is not of shape"),
        ("organmnist3d", column("image", [[1]]), "row 0 holds a volume that is not of shape"),
    ],
)
def test_invalid_rows(
    copy: Callable[[str], Path], flag: str, change: Callable[[pa.Table], pa.Table], match: str
) -> None:
    config = copy(flag)
    forge(config, change)
    refused(config, match)


@pytest.mark.parametrize(
    ("other", "match"), [("bloodmnist", r"shape \(28, 28, 3\), not"), ("size", "shape .64, 64., not")]
)
def test_images_of_another_shape(
    copy: Callable[[str], Path], root: Path, phantoms: Phantoms, tmp_path: Path, *, other: str, match: str
) -> None:
    donor = build(phantoms, tmp_path / "64", "breastmnist", 64) / "64" if other == "size" else root / other / "28"
    images = pq.read_table(sorted(donor.glob("train-*"))[0])["image"].combine_chunks()
    config = copy("breastmnist")
    forge(config, column("image", images.to_pylist()[:1], images.type))
    refused(config, match)


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_shard(copy: Callable[[str], Path], damage: str) -> None:
    config = copy("breastmnist")
    path = sorted(config.glob("train-*"))[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-9] if damage == "cut" else content)
    refused(config, rf"^cannot read {path} \(.*\): build the config again with --force$", BuildError)


def test_the_error_for_a_damaged_cached_shard_names_the_file_to_remove(hub: HubServer, root: Path) -> None:
    put_on_hub(hub, root / "breastmnist")
    rows = open_rows("org/breastmnist")
    first = np.concatenate(list(rows.images("test")))
    blob = next(path for path in Path(constants.HF_HUB_CACHE).rglob("test-*")).resolve()
    content = bytearray(blob.read_bytes())
    content[len(content) // 3] ^= 1
    blob.write_bytes(content)
    with pytest.raises(
        BuildError, match=rf"^cannot read {blob} \(it is not .*\): remove the cached file and run again"
    ):
        list(rows.images("test"))
    blob.unlink()
    assert np.array_equal(np.concatenate(list(rows.images("test"))), first)


def test_one_image_at_a_time(root: Path) -> None:
    rows = BuiltRows(open_config("bloodmnist", 28, root))
    (block, *_), (files, *_) = rows.images("test"), rows.files("test")
    assert np.array_equal(rows.decoded(files[2], "test"), block[2])
    with pytest.raises(SourceError, match=r"test does not match bloodmnist at size 28 .a row holds an unreadable"):
        rows.decoded(b"GIF89a", "test")


def test_missing_splits_builds_and_repositories(root: Path) -> None:
    rows = open_rows("breastmnist", 28, root=root)
    for call in (rows.count, rows.labels, lambda split: list(rows.images(split))):
        with pytest.raises(CatalogError, match="unknown split 'dev': choose from train, validation, test"):
            call("dev")
    with pytest.raises(SourceError, match=r"no build of pathmnist at size 28 in .*\(it has "):
        open_rows("pathmnist", root=root)
    with pytest.raises(CatalogError, match="no size 224"):
        open_rows("organmnist3d", 224, root=root)
    with pytest.raises(SourceError, match="cannot load medmnist/pathmnist"):
        open_rows("pathmnist")


@pytest.mark.parametrize("lengths", [[10], [1] * 10, [3, 3, 4], [9, 1]])
@pytest.mark.parametrize("counts", [[10], [1] * 10, [4, 4, 2], [2, 7]])
def test_groups_have_the_rows_in_order(lengths: list[int], counts: list[int]) -> None:
    rows = np.arange(20).reshape(10, 2)
    blocks = np.split(rows, np.cumsum(lengths)[:-1])
    groups = list(regroup(blocks, counts))
    assert [len(group) for group in groups] == counts
    assert np.array_equal(np.concatenate(groups), rows[: sum(counts)])


def test_a_group_within_a_block_is_a_view() -> None:
    rows = np.arange(10)
    assert all(np.shares_memory(group, rows) for group in regroup([rows], [4, 6]))


def test_blocks_are_read_only_as_far_as_needed() -> None:
    blocks = iter([np.arange(3), np.arange(3), np.arange(3)])
    assert len(next(regroup(blocks, [4, 5]))) == 4
    assert len(list(blocks)) == 1


def test_missing_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="1 rows are left where 2 are needed"):
        list(regroup([np.arange(3)], [2, 2]))
