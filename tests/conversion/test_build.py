"""Builds of one config: equal to the source, reproducible to the byte, and complete or absent."""

import dataclasses
import errno
import hashlib
import json
import os
import random
import re
import signal
import time
import warnings
import zipfile
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import datasets
import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import NPZ_SPLITS, SPLITS, SplitCounts, Subset, Task, subset, subsets
from medmnist_hf.conversion import build as build_module
from medmnist_hf.conversion.build import BuildOptions, BuildResult, build_config
from medmnist_hf.conversion.sharding import row_groups, shard_ranges
from medmnist_hf.conversion.sources.source import SourceFile
from medmnist_hf.errors import BuildError, MedMNISTError, ReadError
from medmnist_hf.features import features_of
from medmnist_hf.manifest import (
    MANIFEST_NAME,
    WORK_DIR,
    Manifest,
    parse_manifest,
    read_build,
    read_manifest,
    shard_name,
)
from medmnist_hf.statistics import recorded as recorded_module
from medmnist_hf.statistics.recorded import FileStatistics
from tests.conftest import Phantoms
from tests.fixtures.bad_npz import FAULTS, Fault
from tests.fixtures.building import Answer, Child, Order
from tests.fixtures.npz import NpzFile, arrays_of, npy_with_header, source_file
from tests.fixtures.official import make_official
from tests.fixtures.tables import assert_equals_npz

ALL_FILES = [(entry.flag, size) for entry in subsets() for size in entry.sizes]
PNG = BuildOptions()
MANY = BuildOptions(max_shard_size=60_000)
SHAPING = {"medmnist-hf", "datasets", "pillow", "pyarrow", "imagecodecs", "libpng", "zlib", "layout", "machine"}


def build(flag: str, file: SourceFile, out: Path, options: BuildOptions = PNG, size: int = 28) -> BuildResult:
    return build_config(subset(flag), size, file, out, options=options)


def line(caught: pytest.ExceptionInfo[MedMNISTError]) -> str:
    """The message of an error, which must be one line."""
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a config, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def left_in(out: Path) -> set[str]:
    """Everything in a folder except locks, which stay, and the folders of subsets."""
    paths = {str(path.relative_to(out)) for path in out.rglob("*") if path.suffix != ".lock"}
    return {path for path in paths if path not in {"breastmnist", "chestmnist", "pathmnist", "adrenalmnist3d"}} - {
        f"{flag}/{WORK_DIR}" for flag in ("breastmnist", "chestmnist", "pathmnist", "adrenalmnist3d")
    }


def assert_complete(folder: Path) -> Manifest:
    """Check that a config has exactly the shards of its manifest, with their sizes and digests."""
    manifest = read_manifest(folder)
    assert {path.name for path in folder.iterdir()} == {MANIFEST_NAME, *(shard.name for shard in manifest.shards)}
    for shard in manifest.shards:
        content = (folder / shard.name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard.bytes, shard.sha256)
    return manifest


def tables_of(folder: Path) -> dict[str, pa.Table]:
    manifest = read_manifest(folder)
    return {
        split: pa.concat_tables([pq.read_table(folder / shard.name) for shard in record.shards])
        for split, record in manifest.splits.items()
    }


def assert_manifest(manifest: Manifest, entry: Subset, size: int, file: SourceFile) -> None:
    assert (manifest.subset, manifest.size, manifest.config_name) == (entry.flag, size, str(size))
    assert manifest.codec == ("array" if entry.ndim == 3 else "png")
    assert manifest.source == file.record
    assert list(manifest.splits) == list(SPLITS)
    assert set(manifest.releases) == SHAPING
    assert parse_manifest(manifest.to_json(), "here") == manifest
    with np.load(file.path) as npz:
        for split, record in manifest.splits.items():
            images, labels = (npz[f"{NPZ_SPLITS[split]}_{kind}"] for kind in ("images", "labels"))
            assert record.rows == len(images) == sum(shard.rows for shard in record.shards)
            assert record.pixels_sha256 == hashlib.sha256(images.tobytes()).hexdigest()
            axes = tuple(range(images.ndim))[: images.ndim - (entry.channels == 3)]
            assert record.pixels is not None
            assert record.pixels.sums == tuple(np.atleast_1d(images.sum(axes, dtype=np.int64)))
            np.testing.assert_allclose(record.pixels.std, np.atleast_1d((images / 255).std(axes)), rtol=1e-9)
            assert record.labels_sha256 == hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()
            many = entry.task is Task.MULTI_LABEL
            counts = labels.sum(0, dtype=int) if many else np.bincount(labels[:, 0], minlength=len(entry.labels))
            assert list(record.label_histogram.items()) == list(zip(entry.labels, counts.tolist(), strict=True))
            assert record.unlabeled == (int((labels.sum(1) == 0).sum()) if many else 0)


# Equality with the source


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_builds_of_official_files_equal_them(real_data: Path, tmp_path: Path, flag: str) -> None:
    from medmnist_hf.conversion.sources.source import Folder

    entry = subset(flag)
    file = Folder(real_data).fetch(entry, 28)
    shards = BuildOptions(max_shard_size=700_000)
    result = build(flag, file, tmp_path, shards)
    assert (result.config_dir, result.reused) == (tmp_path / flag / "28", False)
    manifest = assert_complete(result.config_dir)
    assert manifest == result.manifest
    assert_manifest(manifest, entry, 28, file)
    assert manifest.source.verified
    assert len(manifest.splits["train"].shards) > 1 or flag == "breastmnist"
    assert_equals_npz(tables_of(result.config_dir), file.path, entry, 28)

    data_files = {split: str(result.config_dir / f"{split}-*.parquet") for split in SPLITS}
    loaded = datasets.load_dataset("parquet", data_files=data_files, cache_dir=str(tmp_path / "cache"))
    assert {split: dataset.features for split, dataset in loaded.items()} == dict.fromkeys(
        SPLITS, features_of(entry, 28)
    )
    assert {split: dataset.data.nbytes for split, dataset in loaded.items()}.keys() == set(SPLITS)
    assert_equals_npz(
        {split: dataset.with_format("arrow")[:] for split, dataset in loaded.items()}, file.path, entry, 28
    )
    streamed = datasets.load_dataset("parquet", data_files=data_files, streaming=True)["test"]
    with np.load(file.path) as npz:
        for row, image, label in zip(streamed, npz["test_images"], npz["test_labels"], strict=True):
            assert np.array_equal(np.asarray(row["image"]), image)
            assert row["label"] == label[0]


@pytest.mark.parametrize(("flag", "size"), ALL_FILES)
def test_every_config_equals_its_source(phantoms: Phantoms, tmp_path: Path, flag: str, size: int) -> None:
    entry, file = subset(flag), phantoms(flag, size)
    result = build(flag, file, tmp_path, size=size)
    manifest = assert_complete(result.config_dir)
    assert_manifest(manifest, entry, size, file)
    assert manifest.source.synthetic
    tables = tables_of(result.config_dir)
    assert_equals_npz(tables, file.path, entry, size)
    for table in tables.values():
        assert datasets.Features.from_arrow_schema(table.schema) == features_of(entry, size)
    if entry.task is Task.MULTI_LABEL:
        assert [] in tables["train"]["label"].to_pylist()
        assert manifest.splits["train"].unlabeled > 0
    assert read_build(result.config_dir.parent) == (manifest,)


def test_manifests_record_the_size_of_the_arrow_tables(phantoms: Phantoms, tmp_path: Path) -> None:
    for flag in ("chestmnist", "vesselmnist3d"):
        manifest = build(flag, phantoms(flag), tmp_path).manifest
        for split, table in tables_of(tmp_path / flag / "28").items():
            assert manifest.splits[split].arrow_bytes == pytest.approx(table.nbytes, rel=0.02)


def test_webp_is_for_rgb_images_only(phantoms: Phantoms, tmp_path: Path) -> None:
    file, webp = phantoms("bloodmnist"), BuildOptions(codec="webp")
    result = build("bloodmnist", file, tmp_path, webp)
    assert result.manifest.codec == "webp"
    tables = tables_of(result.config_dir)
    assert tables["test"]["image"][0]["bytes"].as_py()[8:12] == b"WEBP"
    assert_equals_npz(tables, file.path, subset("bloodmnist"), 28)
    with pytest.raises(BuildError, match="webp is for RGB subsets") as caught:
        build("breastmnist", phantoms("breastmnist"), tmp_path, webp)
    line(caught)
    # Volumes ignore the codec.
    assert build("vesselmnist3d", phantoms("vesselmnist3d"), tmp_path, webp).manifest.codec == "array"


# Shards and row groups


def test_shards_are_named_balanced_and_readable_by_page(phantoms: Phantoms, tmp_path: Path) -> None:
    file = phantoms("pathmnist", 28, 400)
    manifest = build("pathmnist", file, tmp_path, MANY).manifest
    assert file.counts is not None
    for split, record in manifest.splits.items():
        total = len(record.shards)
        assert total == len(shard_ranges(file.counts[split], (28, 28, 3), MANY.max_shard_size)) > 3
        assert [shard.name for shard in record.shards] == [shard_name(split, i, total) for i in range(total)]
        assert max(s.rows for s in record.shards) - min(s.rows for s in record.shards) <= 1
        for shard in record.shards:
            assert shard.bytes < MANY.max_shard_size + 8_000  # the pixels, and the overhead of a Parquet file
            parquet = pq.ParquetFile(tmp_path / "pathmnist" / "28" / shard.name)
            assert b"content_defined_chunking" in parquet.metadata.metadata
            assert parquet.metadata.row_group(0).column(0).has_offset_index
            assert datasets.Features.from_arrow_schema(parquet.schema_arrow) == features_of(subset("pathmnist"), 28)
    assert_equals_npz(tables_of(tmp_path / "pathmnist" / "28"), file.path, subset("pathmnist"), 28)


@pytest.mark.parametrize(("flag", "size", "rows"), [("pathmnist", 224, 240), ("nodulemnist3d", 64, 48)])
def test_row_groups_are_as_planned(phantoms: Phantoms, tmp_path: Path, flag: str, size: int, rows: int) -> None:
    entry, file = subset(flag), phantoms(flag, size, rows)
    shape = entry.file(size).image_shape
    limit = rows * prod(shape) * 2 // 3
    manifest = build(flag, file, tmp_path, BuildOptions(max_shard_size=limit), size).manifest
    shards, ranges = manifest.splits["train"].shards, shard_ranges(rows, shape, limit)
    assert len(shards) == len(ranges) == 2
    for shard, cut in zip(shards, ranges, strict=True):
        meta = pq.ParquetFile(tmp_path / flag / str(size) / shard.name).metadata
        groups = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        assert groups == [len(group) for group in row_groups(cut, shape, entry.ndim)]
        assert len(groups) > 1


# Reproducibility


@pytest.mark.parametrize(("flag", "codec"), [("pathmnist", "png"), ("pathmnist", "webp"), ("adrenalmnist3d", "png")])
def test_bytes_do_not_depend_on_the_threads(phantoms: Phantoms, tmp_path: Path, flag: str, codec: str) -> None:
    size = 64
    file = phantoms(flag, size, 60)
    built = []
    for threads in (1, 2, 5):
        options = BuildOptions(codec=codec, threads=threads, max_shard_size=4_000_000 if size == 64 else 60_000)
        built.append(digests(build(flag, file, tmp_path / str(threads), options, size).config_dir))
    assert built[0] == built[1] == built[2]


def test_builds_contain_no_clock_time_and_no_path(
    phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = phantoms("breastmnist")
    first = build("breastmnist", file, tmp_path / "a").config_dir
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 1e8)
    second = build("breastmnist", file, tmp_path / "b").config_dir
    assert digests(first) == digests(second)
    text = (first / MANIFEST_NAME).read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert str(file.path.parent) not in text
    assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d", text)


# Existing configs


def test_a_complete_config_is_not_touched(phantoms: Phantoms, tmp_path: Path) -> None:
    file = phantoms("breastmnist")
    first = build("breastmnist", file, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in first.config_dir.iterdir()}
    again = build("breastmnist", file, tmp_path)
    assert (again.reused, again.manifest) == (True, first.manifest)
    assert {path.name: path.stat().st_mtime_ns for path in first.config_dir.iterdir()} == before


def test_another_build_is_refused_without_force(phantoms: Phantoms, tmp_path: Path) -> None:
    file, other = phantoms("pathmnist"), phantoms("pathmnist", 28, 20)
    first = build("pathmnist", file, tmp_path)
    before = digests(first.config_dir)
    for other_file, options, built, requested in (
        (other, PNG, f"MD5 {file.md5}", f"MD5 {other.md5}"),
        (file, BuildOptions(codec="webp"), "codec png", "codec webp"),
        (file, MANY, "shard limit 500000000", "shard limit 60000"),
        (dataclasses.replace(file, kind="folder"), PNG, "source phantom", "source folder"),
        (other, MANY, f"MD5 {file.md5}, shard limit 500000000", f"MD5 {other.md5}, shard limit 60000"),
    ):
        with pytest.raises(BuildError) as caught:
            build("pathmnist", other_file, tmp_path, options)
        assert line(caught) == (
            f"{first.config_dir} was built with {built}, not with {requested}: pass --force to replace it"
        )
        assert digests(first.config_dir) == before
        assert left_in(tmp_path / "none") == set()
    result = build("pathmnist", other, tmp_path, BuildOptions(codec="webp", force=True))
    assert (result.reused, result.manifest.codec, result.manifest.source.md5) == (False, "webp", other.md5)
    assert_complete(first.config_dir)
    assert {path.name for path in (tmp_path / "pathmnist" / WORK_DIR).iterdir()} == {"28.lock"}


def test_an_official_file_is_the_same_from_any_source(
    phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official = dataclasses.replace(phantoms("breastmnist"), kind="folder", verified=True)
    assert official.counts is not None
    make_official(monkeypatch, "breastmnist", 28, official.md5, official.counts)
    first = build("breastmnist", official, tmp_path)
    again = build("breastmnist", dataclasses.replace(official, kind="zenodo"), tmp_path)
    assert (again.reused, again.manifest) == (True, first.manifest)
    for kind, verified in (("zenodo", False), ("phantom", False)):
        with pytest.raises(BuildError, match=f"was built with source folder, not with source {kind}: pass"):
            build("breastmnist", dataclasses.replace(official, kind=kind, verified=verified), tmp_path)


def test_statistics_that_differ_from_the_recorded_ones_end_the_build(
    phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official = dataclasses.replace(phantoms("breastmnist"), kind="folder", verified=True)
    assert official.counts is not None
    make_official(monkeypatch, "breastmnist", 28, official.md5, official.counts)
    manifest = build("breastmnist", official, tmp_path / "first").manifest
    own = {split: record.statistics for split, record in manifest.splits.items() if record.statistics}
    recorded = FileStatistics(official.md5, dict(own))
    monkeypatch.setattr(recorded_module, "_by_md5", lambda: {official.md5: recorded})
    assert build("breastmnist", official, tmp_path / "second", MANY).manifest.splits["test"].statistics == own["test"]
    pixels = dataclasses.replace(own["test"].pixels, sums=(own["test"].pixels.sums[0] + 999,))
    recorded.splits["test"] = dataclasses.replace(own["test"], pixels=pixels)
    with pytest.raises(ReadError, match=r"official MD5, but the mean of test is 0\.\d+ where 0\.\d+ is recorded"):
        build("breastmnist", official, tmp_path / "third")
    assert left_in(tmp_path / "third") == set()
    unverified = dataclasses.replace(official, verified=False)
    assert not build("breastmnist", unverified, tmp_path / "third").reused


def test_force_keeps_the_old_config_when_the_new_one_fails(phantoms: Phantoms, tmp_path: Path) -> None:
    first = build("breastmnist", phantoms("breastmnist"), tmp_path)
    before = digests(first.config_dir)
    bad = NpzFile(arrays_of(subset("breastmnist")))
    bad.directory["test_images.npy"] = {"CRC": 1}
    bad.write(tmp_path / "bad.npz")
    with pytest.raises(ReadError, match="fails its CRC"):
        build("breastmnist", source_file(tmp_path / "bad.npz"), tmp_path, BuildOptions(force=True))
    assert digests(first.config_dir) == before
    assert {path.name for path in (tmp_path / "breastmnist" / WORK_DIR).iterdir()} == {"28.lock"}


def _cut(folder: Path) -> None:
    shard = next(folder.glob("train-*"))
    shard.write_bytes(shard.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_cut, r"is damaged \(train-00000-of-00001\.parquet is missing or truncated\): pass --force"),
        (lambda folder: next(folder.glob("test-*")).unlink(), r"is damaged \(test-.* is missing"),
        (
            lambda folder: (folder / MANIFEST_NAME).unlink(),
            "exists but is not a complete build: remove it or pass --force",
        ),
        (lambda folder: (folder / MANIFEST_NAME).write_text('{"format": 1'), "is not a complete build"),
        (lambda folder: (folder / MANIFEST_NAME).write_text('{"format": 99}'), "is not a complete build"),
        (lambda folder: folder.rename(folder.with_name("x")) and folder.write_text("file"), "is not a complete build"),
        (lambda folder: folder.rename(folder.with_name("x")).with_name("28").mkdir(), "is not a complete build"),
    ],
    ids=["cut", "missing", "no manifest", "half a manifest", "later manifest", "a file", "empty folder"],
)
def test_a_damaged_config_is_refused_and_replaced_by_force(
    phantoms: Phantoms, tmp_path: Path, damage: object, says: str
) -> None:
    file = phantoms("breastmnist")
    final = build("breastmnist", file, tmp_path).config_dir
    expected = digests(final)
    assert callable(damage)
    damage(final)
    with pytest.raises(BuildError, match=says) as caught:
        build("breastmnist", file, tmp_path)
    assert str(final) in line(caught)
    build("breastmnist", file, tmp_path, BuildOptions(force=True))
    assert digests(final) == expected
    assert {path.name for path in (tmp_path / "breastmnist" / WORK_DIR).iterdir()} == {"28.lock"}


# Invalid input and unusable folders


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_damaged_file_leaves_no_files(tmp_path: Path, fault: Fault) -> None:
    path, out = tmp_path / "a.npz", tmp_path / "out"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name")
        fault.write(path)
    with pytest.raises(ReadError, match=fault.says) as caught:
        build(fault.flag, source_file(path), out)
    assert line(caught).startswith(f"{path}: member {fault.member} " if fault.member else str(path))
    assert left_in(out) == set()


@pytest.mark.parametrize("place", ["out", "out/breastmnist", "out/breastmnist/.build", "out/breastmnist/.build/28"])
def test_a_file_in_place_of_a_folder_is_reported(phantoms: Phantoms, tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("in the way")
    file = phantoms("breastmnist")
    if place.endswith("28"):  # the build may delete anything in its staging folder
        assert_complete(build("breastmnist", file, tmp_path / "out").config_dir)
        return
    with pytest.raises(BuildError, match=r"cannot write .*28 \(.*\): check the folder and run again") as caught:
        build("breastmnist", file, tmp_path / "out")
    line(caught)
    assert (tmp_path / place).read_text() == "in the way"


def test_a_failing_split_stops_the_others(tmp_path: Path) -> None:
    """The test split is damaged at its start, so the train split, of thousands of images, is abandoned."""
    rows, entry = 3_000, subset("pathmnist")
    arrays = arrays_of(entry, 224, SplitCounts(1, 1, 1))
    file = NpzFile(arrays, zipfile.ZIP_DEFLATED)
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 224, 224, 3), }" % rows
    file.put("train_images", npy_with_header(header, bytes(rows * 224 * 224 * 3)))
    file.put("train_labels", np.zeros((rows, 1), np.uint8))
    file.directory["test_images.npy"] = {"CRC": 1}
    file.write(tmp_path / "a.npz")
    file.members.clear()
    read: list[int] = []
    with pytest.raises(ReadError, match=r"member test_images\.npy fails its CRC"):
        build_config(entry, 224, source_file(tmp_path / "a.npz", None), tmp_path / "out", on_progress=read.append)
    assert sum(read) < rows / 4
    assert left_in(tmp_path / "out") == set()


def test_progress_counts_every_row(phantoms: Phantoms, tmp_path: Path) -> None:
    file = phantoms("organsmnist", 28, 300)
    read: list[int] = []
    build_config(subset("organsmnist"), 28, file, tmp_path, options=MANY, on_progress=read.append)
    assert file.counts is not None
    assert sum(read) == file.counts.total


# Interrupted builds


def test_a_stage_with_another_plan_is_discarded(phantoms: Phantoms, tmp_path: Path) -> None:
    file = phantoms("breastmnist")
    stage = tmp_path / "breastmnist" / WORK_DIR / "28"
    (stage / "config").mkdir(parents=True)
    (stage / "plan.json").write_text('{"subset": "breastmnist", "md5": "of another file"}\n')
    (stage / "config" / "train-00000-of-00009.parquet").write_text("stale")
    (stage / "config" / "notes.txt").write_text("stale")
    final = build("breastmnist", file, tmp_path).config_dir
    assert_complete(final)
    assert digests(final) == digests(build("breastmnist", file, tmp_path / "fresh").config_dir)
    assert not stage.exists()


class Interrupted(Exception):
    """Interrupts a build."""


@pytest.mark.parametrize("release", [None, "png_version", "zlib_version"])
def test_shards_of_two_encoders_never_mix(
    phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str | None
) -> None:
    """Finished shards are reused if all library versions are equal, and rebuilt otherwise."""

    def interrupt(**facts: object) -> None:
        raise Interrupted

    file = phantoms("bloodmnist", 28, 80)
    with monkeypatch.context() as earlier, pytest.raises(Interrupted):
        earlier.setattr(build_module, "SplitRecord", interrupt)  # created when the shards of a split are finished
        if release:
            name = getattr(imagecodecs, release)().split()[0]
            earlier.setattr(imagecodecs, release, lambda: f"{name} 0.9")
        build("bloodmnist", file, tmp_path, MANY)
    finished = list((tmp_path / "bloodmnist" / WORK_DIR / "28" / "config").glob("*.parquet"))
    assert finished
    for path in finished:
        os.utime(path, ns=(1, 1))
    final = build("bloodmnist", file, tmp_path, MANY).config_dir
    kept = [path.name for path in finished if (final / path.name).stat().st_mtime_ns == 1]
    assert kept == ([] if release else [path.name for path in finished])


def test_leftovers_of_a_kill_after_the_move_are_removed(phantoms: Phantoms, tmp_path: Path) -> None:
    file = phantoms("breastmnist")
    build("breastmnist", file, tmp_path)
    work = tmp_path / "breastmnist" / WORK_DIR
    for name in ("28", "28.replaced"):
        (work / name).mkdir()
        (work / name / "plan.json").write_text("{}")
    assert build("breastmnist", file, tmp_path).reused
    assert {path.name for path in work.iterdir()} == {"28.lock"}


def order(flag: str, file: SourceFile, out: Path, options: BuildOptions = PNG, size: int = 28, **how: Any) -> Order:
    return Order(flag, size, file, out, options, **how)


@pytest.mark.parametrize("force", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["new", "replacing"])
def test_killed_before_every_change_of_the_disk(phantoms: Phantoms, tmp_path: Path, force: bool) -> None:
    """A child process dies right before its n-th change of the file system, for every n; the next run must succeed."""
    file, old = phantoms("breastmnist"), phantoms("breastmnist", 28, 17)
    options = BuildOptions(force=force)
    expected = digests(build("breastmnist", file, tmp_path / "expected", options).config_dir)

    def prepared(name: str) -> Path:
        if force:
            build("breastmnist", old, tmp_path / name)
        return tmp_path / name

    answer = Child(order("breastmnist", file, prepared("counted"), options)).answer()
    assert answer is not None
    assert answer.changes > 15
    assert digests(tmp_path / "counted" / "breastmnist" / "28") == expected
    # The steps before the shards are moved are the same with and without --force.
    moments = range(answer.changes - 19, answer.changes + 1) if force else range(1, answer.changes - 3)
    killed = 0
    for kill_at in moments:
        out = prepared(f"killed-{kill_at}")
        final = out / "breastmnist" / "28"
        ended = Child(order("breastmnist", file, out, options, kill_at=kill_at)).answer()
        killed += ended is None
        if final.exists():
            assert assert_complete(final).source.md5 in {file.md5, old.md5}
        result = build("breastmnist", file, out, options)
        assert digests(result.config_dir) == expected, f"killed before change {kill_at}"
        assert {path.name for path in (out / "breastmnist" / WORK_DIR).iterdir()} == {"28.lock"}
    assert killed >= len(moments) * 0.9


@pytest.mark.slow
def test_killed_before_every_change_of_the_disk_with_a_scratch_folder(phantoms: Phantoms, tmp_path: Path) -> None:
    """As above; changes of the scratch folder count as well, and the next run does without one."""
    file = phantoms("breastmnist")
    expected = digests(build("breastmnist", file, tmp_path / "expected").config_dir)

    def run(name: str, kill_at: int) -> tuple[Path, Answer | None]:
        out, scratch = tmp_path / name / "out", tmp_path / name / "scratch"
        scratch.mkdir(parents=True)
        child = Child(order("breastmnist", file, out, kill_at=kill_at, scratch=scratch))
        return out, child.answer()

    out, answer = run("counted", 0)
    assert answer is not None
    assert digests(out / "breastmnist" / "28") == expected
    assert {path.name for path in (out / "breastmnist" / WORK_DIR).iterdir()} == {"28.lock"}
    assert answer.changes > 25
    killed = 0
    for kill_at in range(1, answer.changes + 1, 2):
        out, ended = run(f"killed-{kill_at}", kill_at)
        killed += ended is None
        final = out / "breastmnist" / "28"
        if final.exists():
            assert digests(final) == expected
        assert digests(build("breastmnist", file, out).config_dir) == expected, f"killed before change {kill_at}"
        assert {path.name for path in (out / "breastmnist" / WORK_DIR).iterdir()} == {"28.lock"}
    assert killed >= answer.changes * 0.4


@pytest.mark.parametrize("limit", [2_000, 150_000])
def test_a_full_scratch_folder_is_named(phantoms: Phantoms, tmp_path: Path, limit: int) -> None:
    file, scratch = phantoms("pathmnist", 64, 60), tmp_path / "scratch"
    scratch.mkdir()
    answer = Child(order("pathmnist", file, tmp_path / "out", size=64, file_limit=limit, scratch=scratch)).answer()
    assert answer is not None
    assert answer.result == f"BuildError: no space left in {scratch}: name another --scratch, or leave it out"
    assert not (tmp_path / "out" / "pathmnist" / "64").exists()


def test_killed_after_the_move_and_then_removed(phantoms: Phantoms, tmp_path: Path) -> None:
    """A stage whose shards were moved does not prevent a later build of the same config."""
    file = phantoms("breastmnist")
    expected = digests(build("breastmnist", file, tmp_path).config_dir)
    answer = Child(order("breastmnist", file, tmp_path / "count")).answer()
    assert answer is not None
    met = False
    for kill_at in range(answer.changes, 0, -1):
        out = tmp_path / str(kill_at)
        Child(order("breastmnist", file, out, kill_at=kill_at)).answer()
        final, plan = out / "breastmnist" / "28", out / "breastmnist" / WORK_DIR / "28" / "plan.json"
        if not final.exists():
            break
        if plan.exists():
            met = True
            final.rename(out / "moved away")
        result = build("breastmnist", file, out, BuildOptions(force=True))
        assert digests(result.config_dir) == expected
    assert met


@pytest.mark.slow
def test_killed_at_twenty_random_moments(phantoms: Phantoms, tmp_path: Path) -> None:
    file = phantoms("pathmnist", 64, 1_200)
    options = BuildOptions(max_shard_size=1_000_000)
    seconds = []
    for name in ("warm", "expected"):
        child = Child(order("pathmnist", file, tmp_path / name, options, size=64))
        start = time.monotonic()
        assert child.answer() is not None
        seconds.append(time.monotonic() - start)
    expected = digests(tmp_path / "expected" / "pathmnist" / "64")
    moments = random.Random(20)
    completed = in_the_middle = resumed = 0
    out = tmp_path / "0"
    kept: dict[str, int] = {}
    for kill in range(20):
        final, stage = out / "pathmnist" / "64", out / "pathmnist" / WORK_DIR / "64"
        child = Child(order("pathmnist", file, out, options, size=64))
        if kill % 2:  # wait for another finished shard, so that there is one to reuse on a machine of any speed
            while child.process.is_alive() and len(list(stage.glob("*.parquet.json"))) <= len(kept):
                time.sleep(0.001)
        else:
            time.sleep(moments.uniform(0, 0.7 * min(seconds)))
        child.signal(signal.SIGKILL)
        child.answer()
        assert {path.name for path in (out / "pathmnist").iterdir()} <= {"64", WORK_DIR}
        if final.exists():
            assert digests(final) == expected
            resumed += sum((final / name).stat().st_ino == inode for name, inode in kept.items())
            completed += 1
            out, kept = tmp_path / str(kill + 1), {}
            continue
        in_the_middle += child.process.exitcode == -signal.SIGKILL and (stage / "plan.json").exists()
        records = [path.name.removesuffix(".json") for path in stage.glob("*.parquet.json")]
        still = {name: (stage / "config" / name).stat().st_ino for name in records}
        assert all(still[name] == inode for name, inode in kept.items()), "a finished shard was rebuilt"
        kept = still
    result = build_config(subset("pathmnist"), 64, file, out, options=options)
    assert digests(result.config_dir) == expected
    resumed += sum((result.config_dir / name).stat().st_ino == inode for name, inode in kept.items())
    assert in_the_middle >= 8, f"only {in_the_middle} of 20 kills hit a build"
    assert resumed >= 1, f"only {resumed} shards of killed runs were reused"


def test_ctrl_c_stops_at_once_and_keeps_finished_shards(phantoms: Phantoms, tmp_path: Path) -> None:
    file = phantoms("pathmnist", 64, 1_200)
    options = BuildOptions(max_shard_size=1_000_000, threads=1)
    child = Child(order("pathmnist", file, tmp_path / "out", options, size=64))
    stage = tmp_path / "out" / "pathmnist" / WORK_DIR / "64"
    deadline = time.monotonic() + 30
    while not list(stage.glob("*.parquet.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    start = time.monotonic()
    child.signal(signal.SIGINT)
    answer = child.answer()
    assert answer is not None
    assert answer.result == "interrupted"
    assert time.monotonic() - start < 2
    assert not (tmp_path / "out" / "pathmnist" / "64").exists()
    assert not list(stage.glob("**/.*.tmp"))
    kept = {path.name: path.stat().st_ino for path in (stage / "config").glob("*.parquet")}
    assert kept
    final = build("pathmnist", file, tmp_path / "out", options, 64).config_dir
    assert {name: (final / name).stat().st_ino for name in kept} == kept
    assert digests(final) == digests(build("pathmnist", file, tmp_path / "expected", options, 64).config_dir)


@pytest.mark.parametrize("limit", [1, 2_000, 150_000])
def test_a_full_disk_keeps_finished_shards(phantoms: Phantoms, tmp_path: Path, limit: int) -> None:
    file = phantoms("pathmnist", 64, 60)
    expected = digests(build("pathmnist", file, tmp_path / "expected", size=64).config_dir)
    out = tmp_path / "out"
    answer = Child(order("pathmnist", file, out, size=64, file_limit=limit)).answer()
    assert answer is not None
    assert re.fullmatch(
        r"BuildError: no space left for \S+/pathmnist/64: free some space and run again, finished shards are kept",
        answer.result,
    )
    assert not (out / "pathmnist" / "64").exists()
    left = [path for path in (out / "pathmnist" / WORK_DIR / "64").rglob("*") if path.is_file()]
    assert all(re.fullmatch(r"plan\.json|\w+-\d+-of-\d+\.parquet(\.json)?", path.name) for path in left), left
    kept = {path.name: path.stat().st_ino for path in left if path.suffix == ".parquet"}
    assert bool(kept) == (limit == 150_000)
    final = build("pathmnist", file, out, size=64).config_dir
    assert digests(final) == expected
    assert {name: (final / name).stat().st_ino for name in kept} == kept


def test_two_processes_build_the_same_config(phantoms: Phantoms, tmp_path: Path) -> None:
    file = phantoms("pathmnist", 64, 300)
    options = BuildOptions(max_shard_size=1_000_000)
    children = [Child(order("pathmnist", file, tmp_path / "out", options, size=64)) for _ in range(3)]
    answers = [child.answer() for child in children]
    results = [answer.result for answer in answers if answer is not None]
    assert sorted(result.reused for result in results) == [False, True, True]
    expected = build("pathmnist", file, tmp_path / "expected", options, 64)
    assert all(result.manifest == expected.manifest for result in results)
    assert digests(tmp_path / "out" / "pathmnist" / "64") == digests(expected.config_dir)


def test_processes_build_sizes_of_a_subset_at_once(phantoms: Phantoms, tmp_path: Path) -> None:
    files = {size: phantoms("breastmnist", size, 60) for size in (28, 64, 128)}
    children = [Child(order("breastmnist", file, tmp_path, size=size)) for size, file in files.items()]
    assert all(child.answer() is not None for child in children)
    assert [manifest.size for manifest in read_build(tmp_path / "breastmnist")] == [28, 64, 128]
    for size in files:
        assert_complete(tmp_path / "breastmnist" / str(size))


def test_manifest_is_plain_json(phantoms: Phantoms, tmp_path: Path) -> None:
    folder = build("chestmnist", phantoms("chestmnist"), tmp_path).config_dir
    text = (folder / MANIFEST_NAME).read_text(encoding="utf-8")
    table = json.loads(text)
    assert table["format"] == 1
    assert text.endswith("}\n")
    keys = list(table["splits"])
    assert all(SPLITS.index(a) < SPLITS.index(b) for a, b in pairwise(keys))


def test_a_complete_config_in_a_read_only_folder_is_reused(
    phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = phantoms("breastmnist")
    built = build_config(subset("breastmnist"), 28, file, tmp_path)
    card = write_card(built.config_dir.parent)

    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "a lock")

    for module in ("conversion.build", "cards.render"):  # root can write anywhere, except on a read-only mount
        monkeypatch.setattr(f"medmnist_hf.{module}.sole_process", refuse)
    again = build_config(subset("breastmnist"), 28, file, tmp_path)
    assert again.reused and again.manifest == built.manifest
    assert write_card(built.config_dir.parent) == card
    card.write_text("another")
    with pytest.raises(BuildError, match="cannot write the card"):
        write_card(built.config_dir.parent)
    with pytest.raises(BuildError, match="cannot write"):
        build_config(subset("breastmnist"), 28, file, tmp_path, options=BuildOptions(force=True))
