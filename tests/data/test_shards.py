"""Shards with exaggerated claims or names that are not text give a one-line error from every reader."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import subset
from medmnist_hf.conversion.checks.audit import audit_config
from medmnist_hf.conversion.checks.verify import verify_config
from medmnist_hf.data.rows import open_rows
from medmnist_hf.data.shards import check_footer
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.evaluation.labels import read_labels
from medmnist_hf.manifest import MANIFEST_NAME, README_NAME, read_manifest
from tests.conftest import Phantoms
from tests.fixtures.builds import build

FLAGS = ("breastmnist", "chestmnist", "organmnist3d")


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag in FLAGS:
        write_card(build(phantoms, out, flag, 28))
    return out


def vouch(config: Path, split: str) -> None:
    """Update manifest and card to match the first shard of a split."""
    before = read_manifest(config).content_id
    manifest = json.loads((config / MANIFEST_NAME).read_text())
    shard = manifest["splits"][split]["shards"][0]
    content = (config / shard["name"]).read_bytes()
    shard.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (config / MANIFEST_NAME).write_text(json.dumps(manifest))
    card = config.parent / README_NAME
    card.write_text(card.read_text().replace(before, read_manifest(config).content_id))


READERS: dict[str, Callable[[Path], object]] = {
    "load_arrays": lambda root: medmnist_hf.load_arrays("breastmnist", 28, "train", root, cache=False),
    "labels": lambda root: open_rows("breastmnist", 28, root=root).labels("train"),
    "images": lambda root: list(open_rows("breastmnist", 28, root=root).images("train")),
    "sample": lambda root: open_rows("breastmnist", 28, root=root).sample("train", np.array([0])),
    "evaluate": lambda root: read_labels("breastmnist", 28, "train", root),
    "audit": lambda root: audit_config(root / "breastmnist" / "28"),
    "card": lambda root: write_card(root / "breastmnist"),
    "verify": lambda root: verify_config(root / "breastmnist" / "28"),
    "load": lambda root: medmnist_hf.load("breastmnist", 28, "train", root),
}


def refused(root: Path, reader: str, match: str) -> None:
    with pytest.raises(MedMNISTError, match=match) as caught:
        READERS[reader](root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", READERS)
def test_a_few_kilobytes_that_claim_a_million_rows(root: Path, tmp_path: Path, reader: str) -> None:
    shutil.copytree(root / "breastmnist", tmp_path / "breastmnist")
    path = sorted((tmp_path / "breastmnist" / "28").glob("train-*"))[0]
    rows = 1_000_000
    pq.write_table(
        pa.table({"image": pa.nulls(rows), "label": pa.array(np.zeros(rows, np.int64))}), path, compression="zstd"
    )
    assert path.stat().st_size < 10_000
    vouch(path.parent, "train")
    refused(tmp_path, reader, "1,000,000 rows where the manifest has [1-9]")


@pytest.mark.parametrize(
    "storage",
    [
        {"compression": "zstd", "use_dictionary": False},
        {"compression": "zstd", "use_dictionary": ["image.bytes"], "dictionary_pagesize_limit": 1 << 30},
        {"compression": "none", "use_dictionary": ["image.bytes"], "dictionary_pagesize_limit": 1 << 30},
        {
            "compression": "none",
            "use_dictionary": False,
            "column_encoding": {"image.bytes": "DELTA_BYTE_ARRAY", "image.path": "PLAIN", "label": "PLAIN"},
        },
    ],
    ids=["compressed", "both", "dictionary", "prefixes"],
)
@pytest.mark.parametrize("reader", READERS)
def test_a_small_file_that_expands_to_huge_images(
    root: Path, tmp_path: Path, reader: str, storage: dict[str, object]
) -> None:
    shutil.copytree(root / "breastmnist", tmp_path / "breastmnist")
    path = sorted((tmp_path / "breastmnist" / "28").glob("train-*"))[0]
    table = pq.read_table(path)
    files = pa.array([bytes(1 << 20)] * len(table), pa.binary())
    image = pa.StructArray.from_arrays([files, pa.nulls(len(table), pa.string())], ["bytes", "path"])
    pq.write_table(
        pa.Table.from_arrays([image, table["label"].combine_chunks()], schema=table.schema), path, **storage
    )
    assert path.stat().st_size < 2 << 20 <= len(table) << 20
    vouch(path.parent, "train")
    refused(tmp_path, reader, "column image holds compressed texts or files")


def test_a_label_column_of_long_texts_is_rejected(tmp_path: Path) -> None:
    pq.write_table(pa.table({"label": ["a" * 1_000_000] * 50}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="its column label holds compressed texts or files"):
        check_footer(pq.read_metadata(tmp_path / "a.parquet"), 50, subset("breastmnist"), 28)


@pytest.mark.parametrize("reader", READERS)
def test_a_name_that_is_not_utf8(root: Path, tmp_path: Path, reader: str) -> None:
    shutil.copytree(root / "breastmnist", tmp_path / "breastmnist")
    path = sorted((tmp_path / "breastmnist" / "28").glob("train-*"))[0]
    path.write_bytes(path.read_bytes().replace(b"label", b"lab\xffl").replace(b"image", b"im\xffge"))
    vouch(path.parent, "train")
    refused(tmp_path, reader, "^cannot read |is not a shard of this build|cannot read labels")


@pytest.mark.parametrize("flag", FLAGS)
def test_valid_footers(root: Path, flag: str) -> None:
    config = root / flag / "28"
    for shard in read_manifest(config).shards:
        check_footer(pq.read_metadata(config / shard.name), shard.rows, subset(flag), 28)


@pytest.mark.parametrize(
    ("flag", "column", "says"),
    [
        ("chestmnist", pa.array([[0] * 15] * 2), "its column label holds 30 values in 2 rows"),
        ("breastmnist", pa.array([[0, 1]] * 2), "its column label holds 4 values in 2 rows"),
        ("organmnist3d", pa.array([[[[0] * 40] * 28] * 28] * 2), "its column image holds 62,720 values in 2 rows"),
    ],
)
def test_rows_with_too_many_values(tmp_path: Path, flag: str, column: pa.Array, says: str) -> None:
    name = "image" if "image" in says else "label"
    pq.write_table(pa.table({name: column}), tmp_path / "a.parquet")
    footer = pq.read_metadata(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=says):
        check_footer(footer, 2, subset(flag), 28)
    with pytest.raises(ValueError, match="it has 2 rows where the manifest has 3"):
        check_footer(footer, 3, subset(flag), 28)
