import contextlib
import copy
import dataclasses
import json
import math
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.catalog import SPLITS, subset
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
from medmnist_hf.statistics.sums import PixelSums
from tests.fixtures.closed import closed_folder


def manifest(size: int = 28) -> Manifest:
    splits = {}
    for split in SPLITS:
        shards = tuple(Shard(shard_name(split, index, 2), 3, 10, "a" * 64) for index in range(2))
        histogram = {"malignant": 2, "normal, benign": 4}
        splits[split] = SplitRecord(6, 99, histogram, 0, "b" * 64, "c" * 64, shards)
    official = subset("breastmnist").file(size)
    source = SourceRecord("folder", official.name, 1, official.md5, verified=True)
    return Manifest("breastmnist", size, "png", 500, source, splits, {"datasets": "5.2.0"})


def test_round_trip() -> None:
    written = manifest()
    assert parse_manifest(written.to_json(), "here") == written
    assert written.to_json() == manifest().to_json()


def test_pixel_sums_are_optional_and_checked() -> None:
    old = manifest()
    assert "pixels" not in json.loads(old.to_json())["splits"]["train"] and old.splits["train"].statistics is None
    sums = PixelSums(6 * 28 * 28, (100,), (900,))
    record = dataclasses.replace(old.splits["train"], pixels=sums)
    new = dataclasses.replace(old, splits={**old.splits, "train": record})
    assert parse_manifest(new.to_json(), "here") == new
    assert new.content_id == old.content_id  # which ignores statistics
    for change in ({"values": 6 * 28 * 27}, {"sums": [100] * 3}, {"squares": [99]}, {"squares": [25501]}):
        text = json.loads(new.to_json())
        text["splits"]["train"]["pixels"] |= change
        with pytest.raises(BuildError, match=r"^here is not a valid build manifest \(pixels of train"):
            parse_manifest(json.dumps(text), "here")


def test_derived_facts() -> None:
    assert manifest().config_name == "28"
    assert [shard.name for shard in manifest().shards][:2] == [
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
def test_an_invalid_manifest_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BuildError, match=r"^dist/x is not a valid build manifest .*--force$") as caught:
        parse_manifest(text, "dist/x")
    assert "\n" not in str(caught.value)


def places(value: Any) -> Iterator[tuple[str | int, ...]]:
    """Yield the path to every value within a value, outer ones first."""
    for name, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield (name,)
        yield from ((name, *rest) for rest in places(inner))


def replace_at(table: Any, place: tuple[str | int, ...], value: Any) -> str:
    """Return a manifest's text with another value at a place."""
    changed = copy.deepcopy(table)
    outer = changed
    for step in place[:-1]:
        outer = outer[step]
    outer[place[-1]] = value
    return json.dumps(changed)


HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e308, math.inf, 1 << 63, 10**4_000),
    *("", "a", "\0", "a\nerror: b", "\x1b[31m", "\u202e", "\ud800", "x" * 5_000, "/etc/passwd", "../../x", "-1", "28"),
    *([], {}, [[]], {"a": 1}, ["a"] * 3, {"\x1b": {}}),
)

FREE: dict[str, tuple[Any, ...]] = {
    "bytes": (0,),
    "arrow_bytes": (0,),
    "file": ("a", "-1", "28"),
    "datasets": ("a", "-1", "28", "/etc/passwd", "../../x"),
    "verified": (False, True),
    "releases": ({},),
    "unlabeled": (0,),
}
"""Name of a value -> hostile values that are accepted there, since nothing else in the manifest contradicts them. The
name of the source and the releases of libraries are never used as paths."""


def test_a_hostile_value_at_any_place_is_refused_in_one_line() -> None:
    table = json.loads(manifest().to_json())
    paths = list(places(table))
    assert len(paths) > 60
    for place in paths:
        free = {repr(value) for value in FREE.get(str(place[-1]), ())}
        for value in HOSTILE:
            try:
                parse_manifest(replace_at(table, place, value), "here")
            except BuildError as error:
                assert len(str(error)) < 500 and str(error).isprintable(), (place, value)
                assert repr(value) not in free, (place, value)
            else:
                assert repr(value) in free, (place, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subset": "BreastMNIST"}, "subset is BreastMNIST, must be breastmnist"),
        ({"subset": "pathmnist"}, "is not that of pathmnist.npz"),
        ({"subset": "nodulemnist3d"}, "codec png does not suit 3D data of nodulemnist3d"),
        ({"codec": "array"}, "codec array does not suit 2D data of breastmnist"),
        ({"size": 32}, "breastmnist has no size 32"),
        ({"source": {"md5": "0" * 32}}, "MD5 0{32} is not that of breastmnist.npz"),
        ({"source": {"kind": "phantom"}}, "source is called verified"),
        ({"splits": {"train": {"rows": 7}}}, "the shards of train do not add up to 7 rows"),
        ({"splits": {"train": {"unlabeled": 1}}}, "label_histogram of train does not add up to 6 rows"),
        ({"splits": {"train": {"label_histogram": {"malignant": 3}}}}, "does not add up to 6 rows"),
        ({"splits": {"other": {}}}, "splits.other lacks rows"),
        ({"extra": 1}, "unknown attribute 'extra'"),
    ],
)
def test_contradictions_are_named(change: dict[str, Any], message: str) -> None:
    def merged(old: Any, new: Any) -> Any:
        both = isinstance(old, dict) and isinstance(new, dict)
        return old | {name: merged(old.get(name), value) for name, value in new.items()} if both else new

    with pytest.raises(BuildError, match=message):
        parse_manifest(json.dumps(merged(json.loads(manifest().to_json()), change)), "here")


@pytest.mark.parametrize(
    "names",
    [
        ("train-00001-of-00002.parquet", "train-00000-of-00002.parquet"),
        ("train-00000-of-00002.parquet", "train-00000-of-00002.parquet"),
        ("train-00000-of-00003.parquet", "train-00001-of-00003.parquet"),
        ("test-00000-of-00002.parquet", "test-00001-of-00002.parquet"),
        ("../28/train-00000-of-00002.parquet", "train-00001-of-00002.parquet"),
    ],
)
def test_unexpected_shard_names_are_refused(names: tuple[str, str]) -> None:
    table = json.loads(manifest().to_json())
    for shard, name in zip(table["splits"]["train"]["shards"], names, strict=True):
        shard["name"] = name
    with pytest.raises(BuildError, match="is not a valid build manifest"):
        parse_manifest(json.dumps(table), "here")


def test_sums_of_the_multi_label_task() -> None:
    entry = subset("chestmnist")
    table = json.loads(manifest().to_json()) | {"subset": entry.flag}
    table["source"].update(verified=False)
    for record in table["splits"].values():
        record.update(label_histogram=dict.fromkeys(entry.labels, 1), unlabeled=2)
    assert parse_manifest(json.dumps(table), "here").splits["test"].unlabeled == 2
    for wrong in ({"unlabeled": 7}, {"unlabeled": 6}, {"label_histogram": dict.fromkeys(entry.labels, 5)}):
        with pytest.raises(BuildError, match="does not add up"):
            parse_manifest(replace_at(table, ("splits", "test"), table["splits"]["test"] | wrong), "here")


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"^no manifest\.json in .*: is it a build"):
        read_manifest(tmp_path)


def test_a_manifest_that_cannot_be_opened_is_not_reported_as_missing(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_text("{}")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors[0] + 1, before[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                descriptors.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(BuildError, match=r"manifest\.json \(Too many open files\): close other programs or"):
            read_manifest(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in descriptors:
            os.close(descriptor)


def test_read_build_finds_complete_configs_by_size(tmp_path: Path) -> None:
    for size in (224, 28, 64):
        (tmp_path / str(size)).mkdir()
        (tmp_path / str(size) / MANIFEST_NAME).write_text(manifest(size).to_json())
    (tmp_path / ".build" / "128").mkdir(parents=True)
    (tmp_path / "128").mkdir()
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / MANIFEST_NAME).write_text("another kind of manifest")
    assert [config.size for config in read_build(tmp_path)] == [28, 64, 224]
    assert read_build(tmp_path / "none") == ()


def test_a_manifest_holds_no_time_and_no_path() -> None:
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


def test_a_manifest_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(b"\xff\xfe{}")
    with pytest.raises(BuildError, match=r"is not a valid build manifest \(it is not UTF-8\).*--force$"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("mode", [0o000, 0o111, 0o444], ids=["closed", "no listing", "no entering"])
def test_a_folder_without_permission(mode: int) -> None:
    with closed_folder(mode, {f"28/{MANIFEST_NAME}": manifest().to_json()}) as folder:
        with pytest.raises(BuildError, match=rf"^cannot look for builds in {folder} \(Permission denied\)") as caught:
            read_build(folder)
        assert "\n" not in str(caught.value)


def test_paths_without_a_build(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert read_build(tmp_path / "file") == read_build(tmp_path / "a\0b") == ()
    with pytest.raises(BuildError, match="File name too long"):
        read_build(tmp_path / ("n" * 300))
