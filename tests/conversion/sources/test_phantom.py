"""Phantoms: the schema of every subset and size, determinism, learnable content, bounded memory."""

import dataclasses
import hashlib
import io
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medmnist_hf.catalog import NPZ_SPLITS, SPLITS, SplitCounts, Subset, Task, subset, subsets
from medmnist_hf.conversion.sources.phantom import (
    minimum_rows,
    phantom_batches,
    phantom_counts,
    phantom_labels,
    write_phantom,
)
from medmnist_hf.errors import CatalogError, SourceError
from tests.fixtures.paths import ROOT

FEW = SplitCounts(20, 16, 17)
ALL_FILES = [(entry.flag, size) for entry in subsets() for size in entry.sizes]


def images(entry: Subset, size: int, rows: SplitCounts, split: str = "train", seed: int = 0) -> np.ndarray:
    return np.concatenate(list(phantom_batches(entry, size, rows, split, seed)))


def assert_every_class(entry: Subset, labels: np.ndarray) -> None:
    if entry.task is Task.MULTI_LABEL:
        assert set(np.unique(labels)) == {0, 1}
        assert labels.any(axis=0).all()
        assert (labels.sum(axis=1) == 0).any()
        assert (labels.sum(axis=1) > 1).any()
    else:
        assert np.array_equal(np.unique(labels), np.arange(len(entry.labels)))


@pytest.mark.parametrize(("flag", "size"), ALL_FILES)
def test_every_phantom_has_the_official_schema(tmp_path: Path, flag: str, size: int) -> None:
    entry = subset(flag)
    path = tmp_path / "phantom.npz"
    write_phantom(path, entry, size, FEW)
    width = len(entry.labels) if entry.task is Task.MULTI_LABEL else 1
    with np.load(path, allow_pickle=False) as npz:
        assert set(npz) == {f"{prefix}_{kind}" for prefix in NPZ_SPLITS.values() for kind in ("images", "labels")}
        for split, prefix in NPZ_SPLITS.items():
            pixels, labels = npz[f"{prefix}_images"], npz[f"{prefix}_labels"]
            assert (pixels.dtype, pixels.shape) == (np.uint8, (FEW[split], *entry.file(size).image_shape))
            assert (labels.dtype, labels.shape) == (np.uint8, (FEW[split], width))
            assert pixels.flags.c_contiguous
            assert_every_class(entry, labels)
            assert len({row.tobytes() for row in pixels}) == len(pixels)
    assert {entry.name for entry in tmp_path.iterdir()} == {"phantom.npz"}


@pytest.mark.skipif("MEDMNIST_ROOT" not in os.environ, reason="MEDMNIST_ROOT names no folder of official files")
@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_members_equal_those_of_the_official_file(tmp_path: Path, flag: str) -> None:
    path = tmp_path / "phantom.npz"
    write_phantom(path, subset(flag), 28, subset(flag).counts)
    facts = []
    for file in (path, Path(os.environ["MEDMNIST_ROOT"]) / f"{flag}.npz"):
        with zipfile.ZipFile(file) as archive:
            facts.append([(m.filename, m.compress_type, m.file_size, m.date_time) for m in archive.infolist()])
    assert facts[0] == facts[1]


@pytest.mark.parametrize(("flag", "size"), [("pathmnist", 64), ("chestmnist", 28), ("vesselmnist3d", 28)])
def test_same_bytes_for_the_same_arguments(tmp_path: Path, flag: str, size: int) -> None:
    def write(name: str, seed: int) -> bytes:
        write_phantom(tmp_path / name, subset(flag), size, FEW, seed)
        return (tmp_path / name).read_bytes()

    first = write("a.npz", 0)
    assert write("b.npz", 0) == first
    assert write("c.npz", 1) != first


def digest(flag: str, size: int) -> str:
    entry, rows = subset(flag), SplitCounts(40, 16, 16)
    total = hashlib.sha256()
    for split in SPLITS:
        total.update(images(entry, size, rows, split).tobytes())
        total.update(phantom_labels(entry, rows, split).tobytes())
    return total.hexdigest()[:16]


@pytest.mark.parametrize(
    ("flag", "size", "expected"),
    [
        ("pathmnist", 28, "c2bd2b16eedddc32"),
        ("chestmnist", 64, "3aea15666d5e6e02"),
        ("organamnist", 28, "e8be59235322dcf0"),
        ("organmnist3d", 28, "4be9cd72d9ffda21"),
        ("adrenalmnist3d", 28, "de6d84480aa4a84e"),
    ],
)
def test_pixels_never_change_within_a_generator_version(flag: str, size: int, expected: str) -> None:
    assert digest(flag, size) == expected


def test_rows_do_not_depend_on_their_number() -> None:
    entry = subset("bloodmnist")
    few, many = SplitCounts(30, 16, 16), SplitCounts(700, 16, 16)
    assert np.array_equal(images(entry, 28, few), images(entry, 28, many)[:30])
    assert np.array_equal(phantom_labels(entry, few, "train"), phantom_labels(entry, many, "train")[:30])


@pytest.mark.parametrize("flag", ["pathmnist", "organamnist", "chestmnist", "synapsemnist3d"])
def test_a_row_has_the_same_picture_at_every_size(flag: str) -> None:
    entry, rows = subset(flag), SplitCounts(16, 16, 16)
    small = images(entry, 28, rows).reshape(16, -1).astype(float)
    for size in entry.sizes[1:]:
        index = ((2 * np.arange(28) + 1) * size) // 56
        large = images(entry, size, rows)
        for axis in range(1, entry.ndim + 1):
            large = large.take(index, axis=axis)
        other = large.reshape(16, -1).astype(float)
        alike = [np.corrcoef(small[i], other[i])[0, 1] for i in range(16)]
        crossed = [np.corrcoef(small[i], other[i - 1])[0, 1] for i in range(16)]
        assert np.median(alike) > 0.8 > np.median(crossed)


def test_splits_seeds_and_subsets_differ() -> None:
    entry, rows = subset("pneumoniamnist"), SplitCounts(16, 16, 16)
    variants = [images(entry, 28, rows, split).tobytes() for split in SPLITS]
    variants += [images(entry, 28, rows, seed=1).tobytes(), images(subset("breastmnist"), 28, rows).tobytes()]
    assert len(set(variants)) == len(variants)


def features(entry: Subset, split: str) -> tuple[np.ndarray, np.ndarray]:
    rows = SplitCounts(1200, 400, 600)
    pixels = images(entry, 28, rows, split).astype(np.float64)
    pixels = pixels.reshape(len(pixels), -1)
    pixels -= pixels.mean(axis=1, keepdims=True)
    return pixels, phantom_labels(entry, rows, split)


FINDINGS_IN_VOLUMES = dataclasses.replace(
    subset("nodulemnist3d"), flag="newmnist3d", task=Task.MULTI_LABEL, labels=("node", "cyst", "scar")
)
"""A task that no subset has yet, for a future one."""

LEARNED = [*map(subset, ("pathmnist", "retinamnist", "breastmnist", "organcmnist", "chestmnist")), FINDINGS_IN_VOLUMES]


@pytest.mark.parametrize("entry", LEARNED, ids=lambda entry: entry.flag)
def test_a_linear_model_learns_the_classes(entry: Subset) -> None:
    train, labels = features(entry, "train")
    test, truth = features(entry, "test")
    many = entry.task is Task.MULTI_LABEL
    target = labels.astype(float) if many else np.eye(len(entry.labels))[labels[:, 0]]
    gram = train @ train.T
    weights = np.linalg.solve(
        gram + 1e-2 * np.trace(gram) / len(gram) * np.eye(len(gram)), target - target.mean(axis=0)
    )
    scores = test @ (train.T @ weights)
    if many:
        ranks = scores.argsort(axis=0).argsort(axis=0) + 1
        positives = truth.sum(axis=0)
        auc = (ranks * truth).sum(axis=0) - positives * (positives + 1) / 2
        auc = auc / (positives * (len(truth) - positives))
        assert auc.mean() > 0.8
    else:
        majority = np.bincount(truth[:, 0]).max() / len(truth)
        assert (scores.argmax(axis=1) == truth[:, 0]).mean() > majority + 0.3 * (1 - majority)


@pytest.mark.parametrize("flag", ["adrenalmnist3d", "vesselmnist3d"])
def test_shapes_are_binary_masks_whose_volume_depends_on_the_class(flag: str) -> None:
    entry, rows = subset(flag), SplitCounts(200, 16, 16)
    volumes, labels = images(entry, 28, rows), phantom_labels(entry, rows, "train")[:, 0]
    assert set(np.unique(volumes)) == {0, 255}
    filled = (volumes > 0).reshape(len(volumes), -1).sum(axis=1)
    assert (filled > 0).all()
    assert filled.mean() < 0.1 * 28**3
    assert np.median(filled[labels == 1]) > 2 * np.median(filled[labels == 0])


def test_some_ct_slices_have_black_surroundings_and_others_none() -> None:
    black = (images(subset("organsmnist"), 64, SplitCounts(200, 16, 16)) == 0).reshape(200, -1).mean(axis=1)
    assert 0.1 < (black > 0.1).mean() < 0.4
    assert (black == 0).mean() > 0.5


@pytest.mark.parametrize("flag", ["pathmnist", "dermamnist", "octmnist", "tissuemnist"])
def test_images_are_as_compressible_as_real_ones(flag: str) -> None:
    pixels = images(subset(flag), 224, SplitCounts(16, 16, 16))
    coded = 0
    for row in pixels:
        buffer = io.BytesIO()
        Image.fromarray(row).save(buffer, "PNG")
        coded += len(buffer.getvalue())
    assert 0.5 <= coded / pixels.nbytes <= 0.65


@given(st.sampled_from([entry.flag for entry in subsets()]), st.integers(1, 500), st.integers(0, 2**64))
@settings(max_examples=60, deadline=None)
def test_every_class_occurs_in_every_split(flag: str, rows: int, seed: int) -> None:
    entry = subset(flag)
    counts = phantom_counts(entry, rows)
    for split in SPLITS:
        assert counts[split] >= minimum_rows(entry)
        labels = phantom_labels(entry, counts, split, seed)
        assert len(labels) == counts[split]
        assert_every_class(entry, labels)


def test_rows_of_validation_and_test_follow_from_train() -> None:
    assert phantom_counts(subset("breastmnist")) == SplitCounts(64, 16, 32)
    assert phantom_counts(subset("breastmnist"), 1) == SplitCounts(2, 2, 2)
    assert phantom_counts(subset("chestmnist"), 40) == SplitCounts(40, 16, 20)
    for rows in (0, -3):
        with pytest.raises(SourceError, match=f"breastmnist cannot have {rows} rows"):
            phantom_counts(subset("breastmnist"), rows)


def test_half_of_the_chestmnist_rows_have_no_finding() -> None:
    labels = phantom_labels(subset("chestmnist"), SplitCounts(4000, 16, 16), "train")
    assert 0.4 < (labels.sum(axis=1) == 0).mean() < 0.6


def test_a_split_may_have_fewer_rows_than_classes_or_none(tmp_path: Path) -> None:
    path = tmp_path / "phantom.npz"
    write_phantom(path, subset("chestmnist"), 28, SplitCounts(2, 1, 0))
    with np.load(path) as npz:
        assert [len(npz[f"{split}_images"]) for split in NPZ_SPLITS.values()] == [2, 1, 0]
        assert npz["test_labels"].shape == (0, 14)


@pytest.mark.parametrize("level", [0, 1, 9])
def test_the_compression_level_is_used(tmp_path: Path, level: int) -> None:
    path = tmp_path / "phantom.npz"
    write_phantom(path, subset("dermamnist"), 28, FEW, compresslevel=level)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        methods = {member.compress_type for member in archive.infolist()}
    assert methods == {zipfile.ZIP_DEFLATED if level else zipfile.ZIP_STORED}


def test_members_beyond_4_gib_are_declared_zip64(tmp_path: Path) -> None:
    path = tmp_path / "phantom.npz"
    write_phantom(path, subset("dermamnist"), 28, FEW)
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        for member in archive.infolist():
            raw.seek(member.header_offset)
            header = raw.read(30)
            sizes, extra = header[18:26], int.from_bytes(header[28:30], "little")
            assert sizes == b"\xff" * 8
            assert extra == 20


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (SplitCounts(-1, 1, 1), {}),
        (FEW, {"seed": -1}),
        (FEW, {"compresslevel": 10}),
        (FEW, {"compresslevel": -1}),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, rows: SplitCounts, options: dict[str, int]) -> None:
    with pytest.raises(SourceError, match=r"^no phantom for [^\n]*$"):
        write_phantom(tmp_path / "phantom.npz", subset("dermamnist"), 28, rows, **options)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no size 29"):
        write_phantom(tmp_path / "phantom.npz", subset("dermamnist"), 29, FEW)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^cannot write [^\n]*No such file"):
        write_phantom(tmp_path / "none" / "phantom.npz", subset("dermamnist"), 28, FEW)


def test_a_write_that_fails_halfway_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "phantom.npz"
    path.write_bytes(b"old")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, old[1]))
    try:
        with pytest.raises(SourceError, match=r"^cannot write [^\n]*File too large[^\n]*$"):
            write_phantom(path, subset("dermamnist"), 28, SplitCounts(100, 16, 16))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_19th_subset_needs_no_code() -> None:
    entry = dataclasses.replace(
        subset("pathmnist"), flag="newmnist", labels=tuple(f"class {i}" for i in range(40)), modality="Radiograph"
    )
    counts = phantom_counts(entry)
    assert images(entry, 28, counts).shape == (64, 28, 28, 3)
    assert_every_class(entry, phantom_labels(entry, counts, "test"))


def test_memory_is_bounded(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from medmnist_hf.conversion.sources.phantom import write_phantom
from medmnist_hf.catalog import SplitCounts, subset
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_phantom(Path(sys.argv[1]), subset("tissuemnist"), 28, SplitCounts(100, 16, 16), compresslevel=0)
before = peak()
write_phantom(Path(sys.argv[1]), subset("tissuemnist"), 28, SplitCounts(150_000, 16, 16), compresslevel=0)
print(peak() - before)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "phantom.npz")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    unit = 1 if sys.platform == "darwin" else 1024
    assert (tmp_path / "phantom.npz").stat().st_size > 117_000_000
    assert int(run.stdout) * unit < 40_000_000
