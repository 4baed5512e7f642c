"""Verification finds what is wrong: each test damages a build in one way that a quicker check would miss."""

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

from builders.build import build_config
from builders.source import Folder, SourceFile
from builders.verify import verify_config
from cards.render import write_card
from medmnist_hf.catalog import subset
from medmnist_hf.errors import BuildError, MedMNISTError, VerificationError
from medmnist_hf.manifest import MANIFEST_NAME, read_manifest
from tests.conftest import Phantoms


@pytest.fixture(scope="module")
def built(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag in ("breastmnist", "pathmnist", "chestmnist", "organmnist3d"):
        write_card(build_config(subset(flag), 28, phantoms(flag), out).config_dir.parent)
    return out


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Callable[[str], Path]:
    def make(flag: str) -> Path:
        shutil.copytree(built / flag, tmp_path / flag)
        return tmp_path / flag / "28"

    return make


@pytest.mark.parametrize("flag", ["breastmnist", "pathmnist", "chestmnist", "organmnist3d"])
def test_a_good_build_passes_against_both(built: Path, phantoms: Phantoms, flag: str) -> None:
    file = phantoms(flag)
    seen: list[int] = []
    verified = verify_config(built / flag / "28", file, on_progress=seen.append)
    assert file.counts is not None
    assert (verified.rows, verified.shards, verified.against) == (file.counts.total, 3, file.path.name)
    assert sum(seen) == file.counts.total
    assert verify_config(built / flag / "28").against == "manifest"


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_official_files_pass(real_data: Path, tmp_path: Path, flag: str) -> None:
    file = Folder(real_data).fetch(subset(flag), 28)
    config = build_config(subset(flag), 28, file, tmp_path).config_dir
    write_card(config.parent)
    assert verify_config(config, file).rows == subset(flag).counts.total


def refused(config: Path, file: SourceFile | None, match: str, error: type[MedMNISTError] = VerificationError) -> None:
    with pytest.raises(error, match=match) as caught:
        verify_config(config, file)
    assert "\n" not in str(caught.value)


def forge(config: Path, change: Callable[[pa.Table], pa.Table], split: str = "train") -> None:
    """Rewrite a shard and make the manifest vouch for the new file, as a faulty builder would."""
    path = next(config.glob(f"{split}-*.parquet"))
    pq.write_table(change(pq.read_table(path)), path)
    manifest = json.loads((config / MANIFEST_NAME).read_text())
    content = path.read_bytes()
    shard = manifest["splits"][split]["shards"][0]
    shard.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (config / MANIFEST_NAME).write_text(json.dumps(manifest))


def other_label(table: pa.Table) -> pa.Table:
    labels = table["label"].to_pylist()
    labels[3] = (labels[3] + 1) % 2 if isinstance(labels[3], int) else [0, 1, 2] if labels[3] != [0, 1, 2] else []
    return table.set_column(1, table.schema.field("label"), pa.array(labels, table.schema.field("label").type))


def swapped(table: pa.Table) -> pa.Table:
    order = [1, 0, *range(2, len(table))]
    return table.take(order)


def changed_voxel(table: pa.Table) -> pa.Table:
    column = table["image"].combine_chunks()
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    values = np.array(storage.flatten().flatten().flatten())
    values[5] ^= 1
    shape = (len(table), 28, 28, 28)
    nested = pa.array(values.reshape(shape).tolist(), storage.type)
    if isinstance(column, pa.ExtensionArray):
        nested = pa.ExtensionArray.from_storage(column.type, nested)
    return table.set_column(0, table.schema.field("image"), nested)


@pytest.mark.parametrize("against_source", [True, False])
@pytest.mark.parametrize(
    ("flag", "change"),
    [
        ("breastmnist", other_label),
        ("chestmnist", other_label),
        ("pathmnist", swapped),
        ("organmnist3d", changed_voxel),
    ],
)
def test_one_changed_value_is_found(
    copy: Callable[[str], Path],
    phantoms: Phantoms,
    flag: str,
    change: Callable[[pa.Table], pa.Table],
    *,
    against_source: bool,
) -> None:
    config = copy(flag)
    forge(config, change)
    if against_source:
        refused(config, phantoms(flag), r"28 train row \d+: the (pixels|labels) differ from the NPZ file")
    else:
        refused(config, None, "other pixels or labels than its manifest says")


def test_missing_and_surplus_rows_are_found(copy: Callable[[str], Path], phantoms: Phantoms) -> None:
    config = copy("breastmnist")
    forge(config, lambda table: table.slice(0, len(table) - 1))
    refused(config, phantoms("breastmnist"), "has 15 rows")
    forge(config, lambda table: pa.concat_tables([table, table]))
    refused(config, phantoms("breastmnist"), "more rows than its manifest says")


def test_a_shard_of_other_bytes_is_found(copy: Callable[[str], Path]) -> None:
    config = copy("breastmnist")
    shard = next(config.glob("test-*.parquet"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    refused(config, None, "is not the shard of the manifest")
    shard.unlink()
    refused(config, None, "is missing")


def test_a_shard_too_many_is_found(copy: Callable[[str], Path]) -> None:
    config = copy("breastmnist")
    shutil.copy(next(config.glob("test-*.parquet")), config / "test-00001-of-00001.parquet")
    refused(config, None, "is not in the manifest")


def test_another_source_is_refused(built: Path, phantoms: Phantoms) -> None:
    file = phantoms("breastmnist", rows=24)
    refused(built / "breastmnist" / "28", file, "was built from a file with MD5")


def test_no_card(copy: Callable[[str], Path]) -> None:
    config = copy("breastmnist")
    (config.parent / "README.md").unlink()
    refused(config, None, r"no README\.md")


def test_a_card_of_other_features_is_found(copy: Callable[[str], Path]) -> None:
    config = copy("breastmnist")
    card = config.parent / "README.md"
    card.write_text(card.read_text().replace("'0': malignant", "'0': benign"))
    refused(config, None, "has features")


def test_no_build(tmp_path: Path) -> None:
    refused(tmp_path, None, "is it a build", BuildError)


def test_the_manifest_of_another_size_does_not_pass(copy: Callable[[str], Path]) -> None:
    config = copy("breastmnist")
    manifest = dataclasses.replace(read_manifest(config), size=64)
    (config / MANIFEST_NAME).write_text(manifest.to_json())
    refused(config, None, "is the manifest of breastmnist at size 64")
