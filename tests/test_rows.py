"""``medmnist_hf.rows``: the same values from a build and through the Hub's path, and one line for what is damaged."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cards.render import write_card
from medmnist_hf.catalog import NPZ_SPLITS
from medmnist_hf.errors import BuildError, CatalogError, MedMNISTError, SourceError
from medmnist_hf.manifest import MANIFEST_NAME, read_manifest
from medmnist_hf.rows import Rows, open_rows
from tests.conftest import Phantoms
from tests.fixtures.builds import build

FLAGS = ("breastmnist", "bloodmnist", "chestmnist", "organmnist3d")


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag in FLAGS:
        write_card(build(phantoms, out, flag, 28))
    return out


def opened(root: Path, flag: str, hub: bool) -> Rows:
    """Through the Hub's path the namespace is a local folder, which `load_dataset` takes as well: no network."""
    return open_rows(flag, 28, namespace=str(root)) if hub else open_rows(flag, 28, root=root)


@pytest.mark.parametrize("hub", [False, True], ids=["build", "hub"])
@pytest.mark.parametrize("flag", FLAGS)
def test_every_value_is_that_of_the_npz(root: Path, phantoms: Phantoms, flag: str, hub: bool) -> None:
    rows = opened(root, flag, hub)
    with np.load(phantoms(flag).path, allow_pickle=False) as arrays:
        for split, prefix in NPZ_SPLITS.items():
            images, labels = arrays[f"{prefix}_images"], arrays[f"{prefix}_labels"]
            assert rows.count(split) == len(images)
            assert np.array_equal(np.concatenate(list(rows.images(split))), images)
            found = rows.labels(split)
            assert found.dtype == np.uint8
            assert found.shape == labels.shape
            assert np.array_equal(found, labels)
            picked = np.array([len(images) - 1, 0, 3, 3, 1])
            sample = rows.sample(split, picked)
            assert sample.dtype == np.uint8
            assert np.array_equal(sample, images[picked])


def test_blocks_are_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_rows("organmnist3d", 28, root=root).block_rows * 28**3 <= 4 << 20
    monkeypatch.setattr("medmnist_hf.rows._BLOCK_BYTES", 3 * 28**3)
    blocks = [len(block) for block in open_rows("organmnist3d", 28, root=root).images("train")]
    assert max(blocks) == 3
    assert sum(blocks) == 16


def test_files_are_the_stored_bytes(root: Path) -> None:
    stored = [file for block in open_rows("bloodmnist", 28, root=root).files("test") for file in block]
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
    """Rewrite the first shard of the train split and make the manifest vouch for it."""
    path = sorted(config.glob("train-*"))[0]
    pq.write_table(change(pq.read_table(path)), path)
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
        ("breastmnist", column("label", [2]), "its labels"),
        ("breastmnist", column("label", [-1]), "its labels"),
        ("breastmnist", column("label", [0, None]), "its labels"),
        ("breastmnist", column("label", ["benign"]), "its labels"),
        ("breastmnist", column("label", [0.5]), "its labels"),
        ("chestmnist", column("label", [[14]]), "its labels"),
        ("chestmnist", column("label", [[0], None]), "its labels"),
        ("chestmnist", column("label", [1]), "labels of int64"),
        ("breastmnist", column("label", [[1]]), "labels of list"),
        ("breastmnist", lambda table: table.slice(1), "15 labels where 16 rows are stated"),
        ("breastmnist", lambda table: pa.concat_tables([table, table]), "its labels|labels where"),
        ("breastmnist", column("image", [{"bytes": b"GIF89a", "path": "x"}]), "an unreadable image"),
        ("breastmnist", column("image", [{"bytes": None, "path": "x"}], pa.struct({"bytes": pa.binary()})), "links"),
        ("breastmnist", column("image", [3]), "a column of int64"),
        ("organmnist3d", column("image", [[[[1, 2]]]]), "volumes that are not"),
        ("organmnist3d", column("image", [[1]]), "volumes that are not"),
    ],
)
def test_what_a_row_must_not_hold(
    copy: Callable[[str], Path], flag: str, change: Callable[[pa.Table], pa.Table], match: str
) -> None:
    config = copy(flag)
    forge(config, change)
    refused(config, match)


@pytest.mark.parametrize(("other", "match"), [("bloodmnist", "mode RGB, not L"), ("size", "shape .64, 64., not")])
def test_images_of_another_kind(
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


def test_the_manifest_of_another_config(copy: Callable[[str], Path]) -> None:
    config = copy("breastmnist")
    (config / MANIFEST_NAME).write_text(dataclasses.replace(read_manifest(config), size=64).to_json())
    refused(config, "holds breastmnist at size 64", BuildError)


def test_a_missing_or_unknown_split(copy: Callable[[str], Path]) -> None:
    config = copy("breastmnist")
    manifest = json.loads((config / MANIFEST_NAME).read_text())
    del manifest["splits"]["test"]
    (config / MANIFEST_NAME).write_text(json.dumps(manifest))
    rows = open_rows("breastmnist", 28, root=config.parents[1])
    with pytest.raises(SourceError, match="has no split test"):
        rows.count("test")
    with pytest.raises(CatalogError, match="unknown split 'val': choose from train, validation, test"):
        rows.count("val")


def test_a_repository_of_other_columns(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "breastmnist", tmp_path / "breastmnist")
    card = tmp_path / "breastmnist/README.md"
    card.write_text(card.read_text().replace("'0': malignant", "'0': cancer"))
    with pytest.raises(SourceError, match=r"train does not hold what breastmnist .* must \(its columns\)"):
        open_rows("breastmnist", 28, namespace=str(tmp_path))
    with pytest.raises(SourceError, match=r"cannot load .*breastmnist at size 64 \(.*64"):
        open_rows("breastmnist", 64, namespace=str(root))


def test_what_is_not_there(root: Path) -> None:
    with pytest.raises(SourceError, match="nothing is built there"):
        open_rows("pathmnist", root=root)
    with pytest.raises(CatalogError, match="no size 224"):
        open_rows("organmnist3d", 224, root=root)
    with pytest.raises(SourceError, match="cannot load medmnist/pathmnist"):
        open_rows("pathmnist")
