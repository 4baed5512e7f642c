import dataclasses
import json
from pathlib import Path

import pytest

from medmnist_hf.errors import BuildError
from medmnist_hf.manifest import (
    MANIFEST_NAME,
    Manifest,
    Shard,
    SourceRecord,
    SplitRecord,
    parse_manifest,
    read_build,
    read_manifest,
    shard_name,
)
from tests.fixtures.closed import closed_folder


def manifest(size: int = 28) -> Manifest:
    shards = tuple(Shard(shard_name("train", index, 2), 3, 10, "a" * 64) for index in range(2))
    record = SplitRecord(6, 99, {"benign": 2, "malignant": 4}, 0, "b" * 64, "c" * 64, shards)
    source = SourceRecord("folder", "breastmnist.npz", 1, "d" * 32, verified=True)
    return Manifest("breastmnist", size, "png", 500, source, {"train": record}, {"datasets": "5.2.0"})


def test_round_trip() -> None:
    written = manifest()
    assert parse_manifest(written.to_json(), "here") == written
    assert written.to_json() == manifest().to_json()


def test_derived_facts() -> None:
    assert manifest().config_name == "28"
    assert [shard.name for shard in manifest().shards] == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    assert not manifest().source.synthetic
    assert dataclasses.replace(manifest().source, kind="phantom").synthetic


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        "{",
        manifest().to_json().replace('"format": 1', '"format": 99'),
        manifest().to_json().replace('"rows": 3', '"rowz": 3'),
        manifest().to_json().replace('"codec": "png",', ""),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BuildError, match=r"^dist/x is no build manifest .*--force$") as caught:
        parse_manifest(text, "dist/x")
    assert "\n" not in str(caught.value)


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="is it a build"):
        read_manifest(tmp_path)


def test_read_build_finds_complete_configs_by_size(tmp_path: Path) -> None:
    for size in (224, 28, 64):
        (tmp_path / str(size)).mkdir()
        (tmp_path / str(size) / MANIFEST_NAME).write_text(manifest(size).to_json())
    (tmp_path / ".build" / "128").mkdir(parents=True)
    (tmp_path / "128").mkdir()
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / MANIFEST_NAME).write_text("no manifest of ours")
    assert [found.size for found in read_build(tmp_path)] == [28, 64, 224]
    assert read_build(tmp_path / "none") == ()


def test_no_clock_and_no_path_in_it() -> None:
    assert set(json.loads(manifest().to_json())) == {
        "format",
        "subset",
        "size",
        "codec",
        "max_shard_size",
        "source",
        "splits",
        "releases",
    }


def test_manifest_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(b"\xff\xfe{}")
    with pytest.raises(BuildError, match=r"is no build manifest \(not UTF-8\).*--force$"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("mode", [0o000, 0o111, 0o444], ids=["closed", "no listing", "no entering"])
def test_folder_that_may_not_be_looked_at(mode: int) -> None:
    with closed_folder(mode, {f"28/{MANIFEST_NAME}": manifest().to_json()}) as folder:
        with pytest.raises(BuildError, match=rf"^cannot look for builds in {folder} \(Permission denied\)") as caught:
            read_build(folder)
        assert "\n" not in str(caught.value)


def test_names_that_hold_no_build(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert read_build(tmp_path / "file") == read_build(tmp_path / "a\0b") == ()
    with pytest.raises(BuildError, match="File name too long"):
        read_build(tmp_path / ("n" * 300))
