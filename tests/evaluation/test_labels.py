"""Labels of a split from builds, the Hub and NPZ files: equal to the source, read without images, clear errors."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medmnist_hf.catalog import NPZ_SPLITS, SPLITS, Task, subset, subsets
from medmnist_hf.errors import BuildError, MedMNISTError, ReadError, SourceError
from medmnist_hf.evaluation.labels import read_labels
from medmnist_hf.manifest import Provenance
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.hub.server import hub_server


@pytest.fixture(scope="module")
def dist(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag, *sizes in (("chestmnist", 28), ("breastmnist", 28, 64), ("organmnist3d", 28)):
        build(phantoms, out, str(flag), *map(int, sizes))
    return out


@pytest.mark.parametrize("flag", [entry.flag for entry in subsets()])
def test_labels_of_an_npz_file(phantoms: Phantoms, flag: str) -> None:
    path = phantoms(flag).path
    with np.load(path, allow_pickle=False) as archive:
        for split in SPLITS:
            expected = archive[f"{NPZ_SPLITS[split]}_labels"]
            found = read_labels(flag, 28, split, path)
            multi = subset(flag).task is Task.MULTI_LABEL
            assert np.array_equal(found.values, expected if multi else expected[:, 0])
            assert found.values.dtype == (np.bool_ if multi else np.intp)


@pytest.mark.parametrize("flag", ["chestmnist", "breastmnist", "organmnist3d"])
@pytest.mark.parametrize("split", SPLITS)
def test_a_build_gives_the_labels_of_its_source(dist: Path, phantoms: Phantoms, flag: str, split: str) -> None:
    expected = read_labels(flag, 28, split, phantoms(flag).path)
    for data in (dist, dist / flag, dist / flag / "28", str(dist)):
        found = read_labels(flag, 28, split, data)
        assert np.array_equal(found.values, expected.values) and found.values.dtype == expected.values.dtype
        assert (found.provenance, found.origin) == (Provenance.SYNTHETIC, str(dist / flag / "28"))


def test_official_files(real_data: Path) -> None:
    for flag in ("breastmnist", "retinamnist", "adrenalmnist3d"):
        for split in SPLITS:
            found = read_labels(flag, 28, split, real_data)
            assert len(found.values) == subset(flag).counts[split]
            assert set(found.values.tolist()) == set(range(len(subset(flag).labels)))
            assert found.provenance is Provenance.VERIFIED


def test_an_npz_file_is_verified_by_its_md5_only(real_data: Path, phantoms: Phantoms, tmp_path: Path) -> None:
    path = tmp_path / "breastmnist.npz"
    content = (real_data / path.name).read_bytes()
    path.write_bytes(content)
    assert read_labels("breastmnist", 28, "test", path).provenance is Provenance.VERIFIED
    path.write_bytes(content + b"\0")
    found = read_labels("breastmnist", 28, "test", path)
    assert found.provenance is Provenance.UNVERIFIED and len(found.values) == 156
    assert read_labels("breastmnist", 28, "test", phantoms("breastmnist").path).provenance is Provenance.UNVERIFIED


def test_a_build_with_a_false_verified_flag_is_refused(dist: Path, tmp_path: Path) -> None:
    folder = tmp_path / "28"
    shutil.copytree(dist / "breastmnist" / "28", folder)
    manifest = (folder / "manifest.json").read_text(encoding="utf-8")
    for text in (manifest, manifest.replace('"phantom"', '"zenodo"')):
        (folder / "manifest.json").write_text(text.replace('"verified": false', '"verified": true'), encoding="utf-8")
        with pytest.raises(BuildError, match="source is called verified"):
            read_labels("breastmnist", 28, "test", tmp_path)


def test_no_image_is_read(phantoms: Phantoms, tmp_path: Path) -> None:
    """Labels are read from shards whose image column is destroyed."""
    folder = build(phantoms, tmp_path, "pathmnist", 28) / "28"
    expected = read_labels("pathmnist", 28, "train", tmp_path).values
    for path in folder.glob("train-*.parquet"):
        content = bytearray(path.read_bytes())
        row_group = pq.ParquetFile(path).metadata.row_group(0)
        (image,) = (row_group.column(at) for at in range(row_group.num_columns) if "bytes" in _path(row_group, at))
        start, length = image.data_page_offset, image.total_compressed_size
        content[start : start + length] = b"\xff" * length
        path.write_bytes(content)
        with pytest.raises((OSError, pa.ArrowException)):
            pq.read_table(path)
    assert np.array_equal(read_labels("pathmnist", 28, "train", tmp_path).values, expected)


def _path(row_group: pq.RowGroupMetaData, column: int) -> str:
    return str(row_group.column(column).path_in_schema)


def test_labels_from_the_hub(phantoms: Phantoms, tmp_path: Path) -> None:
    """Only the label column of the shards of one split is downloaded; errors have one line."""
    folder = build(phantoms, tmp_path, "pathmnist", 224, rows=40, rows_per_shard=40)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code = """
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.evaluation.labels import read_labels
from medmnist_hf.manifest import Provenance
for flag, size, split, data in [
    ("pathmnist", 224, "train", "org/pathmnist"),
    ("pathmnist", 224, "train", "org/pathmnist@main"),
    ("pathmnist", 28, "train", "org/pathmnist"),
    ("pathmnist", 224, "train", "org/other"),
    ("breastmnist", 224, "test", "org/pathmnist"),
    ("breastmnist", 28, "test", None),
]:
    try:
        found = read_labels(flag, size, split, data)
        print(found.values.tolist(), found.origin, found.provenance)
    except MedMNISTError as error:
        print(type(error).__name__, error)
"""
    with hub_server(tmp_path) as hub:
        hub.store.create("dataset", "org/pathmnist")
        hub.store.write("dataset", "org/pathmnist", files)
        lines = hub.python(code).stdout.splitlines()
    expected = read_labels("pathmnist", 224, "train", tmp_path).values.tolist()
    assert lines[0] == f"{expected} org/pathmnist on the Hub synthetic"
    assert lines[1] == f"{expected} org/pathmnist@main on the Hub synthetic"
    for line, name in zip(lines[2:], ("org/pathmnist", "org/other", "org/pathmnist", "medmnist/breast"), strict=True):
        assert line.startswith("SourceError ") and name in line
    assert "org/pathmnist is pathmnist, but breastmnist is needed" in lines[4]
    total = sum(len(content) for name, content in files.items() if "train-" in name)
    sent = sum(seen.sent for seen in hub.log.find("GET", r"\.parquet"))
    assert total > 2_000_000 and 0 < sent / 2 < total / 3, "two reads, each of the end of the shard"
    assert not hub.log.find("GET", "test-00000")


@pytest.mark.parametrize(
    ("flag", "size", "data", "says"),
    [
        ("breastmnist", 128, "", "no build of breastmnist at size 128"),
        ("pathmnist", 28, "", ", or put pathmnist.npz there"),
        (
            "pathmnist",
            28,
            "breastmnist",
            "(it is a build of breastmnist): run medmnist-hf build pathmnist --size 28 --root",
        ),
        ("pathmnist", 224, "breastmnist", "no build of pathmnist at size 224"),
        ("breastmnist", 64, "breastmnist/28", "of breastmnist at size 28, but breastmnist at size 64 is needed"),
        ("pathmnist", 28, "breastmnist/28", "of breastmnist at size 28, but pathmnist at size 28 is needed"),
        ("breastmnist", 28, "nothing", "no such file or folder"),
        ("breastmnist", 28, "nothing.npz", "no such file or folder"),
    ],
)
def test_missing_data(dist: Path, flag: str, size: int, data: str, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_labels(flag, size, "test", dist / data)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_an_unreachable_hub_gives_a_one_line_error() -> None:
    """The tests run offline."""
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(SourceError, match=r"medmnist/breastmnist at size 28 from the Hub .*offline") as caught:
        read_labels("breastmnist", 28, "test")
    assert "\n" not in str(caught.value)


def test_damaged_builds(phantoms: Phantoms, tmp_path: Path) -> None:
    folder = build(phantoms, tmp_path, "breastmnist", 28) / "28"
    first, second, *_ = sorted(folder.glob("train-*.parquet"))
    content = first.read_bytes()

    def refused(says: str) -> None:
        with pytest.raises(BuildError, match=says) as caught:
            read_labels("breastmnist", 28, "train", tmp_path)
        assert "\n" not in str(caught.value) and len(read_labels("breastmnist", 28, "test", tmp_path).values)

    first.unlink()
    refused("train-00000-of-0000[0-9].parquet .missing.")
    first.mkdir()
    refused("cannot read labels from train-00000-of-0000[0-9].parquet .it is not a regular file.")
    first.rmdir()
    first.symlink_to(first.name)
    refused("cannot read labels from train-00000-of-0000[0-9].parquet .Too many levels of symbolic links.")
    first.unlink()
    first.write_bytes(content[:-9])
    refused("cannot read labels")
    pq.write_table(pa.table({"image": [b""] * 7}), first, compression="none", use_dictionary=False)
    refused("cannot read labels")
    pq.write_table(pq.read_table(second).slice(0, 2), first, compression="none", use_dictionary=False)
    refused("rows where the manifest has")
    first.write_bytes(content)
    table = pq.read_table(first)
    flipped = table.set_column(1, "label", pa.array([1 - label for label in table["label"].to_pylist()]))
    pq.write_table(flipped, first, compression="none", use_dictionary=False)
    refused("the labels in train do not match its manifest.json")
    first.write_bytes(content)
    assert len(read_labels("breastmnist", 28, "train", tmp_path).values) == 16


def _npz(path: Path, **members: object) -> Path:
    np.savez(path, **members)  # type: ignore[arg-type]  # savez also has a bool keyword
    return path


def test_one_dimensional_labels_are_accepted(tmp_path: Path) -> None:
    values = np.array([0, 1, 1], np.uint8)
    flat, column = (_npz(tmp_path / f"{each.ndim}.npz", test_labels=each) for each in (values, values[:, None]))
    for path in (flat, column):
        assert read_labels("breastmnist", 28, "test", path).values.tolist() == [0, 1, 1]


def test_a_path_that_cannot_be_checked_gives_a_one_line_error(tmp_path: Path) -> None:
    """Too long a name fails like a missing permission does, but also for root."""
    with pytest.raises(SourceError, match=r"^cannot read .*File name too long"):
        read_labels("breastmnist", 28, "test", tmp_path / ("x" * 300))


def test_npz_files_that_are_refused(tmp_path: Path) -> None:
    def refused(path: Path, says: str, flag: str = "breastmnist") -> None:
        with pytest.raises(MedMNISTError, match=says) as caught:
            read_labels(flag, 28, "test", path)
        assert isinstance(caught.value, ReadError | SourceError) and "\n" not in str(caught.value)
        assert str(path) in str(caught.value)

    good = np.array([[0], [1]], np.uint8)
    refused(_npz(tmp_path / "pathmnist.npz", test_labels=good), "is not the required file breastmnist.npz")
    refused(_npz(tmp_path / "a.npz", train_labels=good), "member test_labels.npy is missing: is this a MedMNIST file")
    refused(_npz(tmp_path / "b.npz", test_labels=good[0, 0]), r"has shape \(\) where \(N, 1\) is needed")
    refused(_npz(tmp_path / "n.npz", test_labels=good[:, 0]), r"\(2,\) where \(N, 14\) is needed", "chestmnist")
    refused(_npz(tmp_path / "c.npz", test_labels=good / 2), "float64")
    refused(_npz(tmp_path / "d.npz", test_labels=good[:0]), r"\(0, 1\)")
    refused(_npz(tmp_path / "e.npz", test_labels=good + 7), "has the label 7 in row 0, but breastmnist has 0 to 1")
    refused(_npz(tmp_path / "f.npz", test_labels=good), r"where \(N, 14\) is needed", "chestmnist")
    refused(_npz(tmp_path / "g.npz", test_labels=np.array([[None]], object)), "is pickled, which is never loaded")
    with (
        zipfile.ZipFile(tmp_path / "o.npz", "w", zipfile.ZIP_LZMA) as archive,
        archive.open("test_labels.npy", "w") as file,
    ):
        np.lib.format.write_array(file, good)
    refused(tmp_path / "o.npz", "uses zip method 14")
    header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 39, 1)}
    with zipfile.ZipFile(tmp_path / "p.npz", "w") as archive, archive.open("test_labels.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, header)
    refused(tmp_path / "p.npz", "where its header asks for 549755814016")
    alone = tmp_path / "h.npz"
    with alone.open("wb") as file:
        np.save(file, good)
    refused(alone, "is not a complete NPZ file")
    for name, content in (("i.npz", b""), ("j.npz", b"no zip file"), ("k.npz", b"PK\x03\x04")):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "is not a complete NPZ file")
    short = shutil.copy(_npz(tmp_path / "l.npz", test_labels=np.zeros((5000, 1), np.uint8)), tmp_path / "m.npz")
    damaged = bytearray(Path(short).read_bytes())
    damaged[2000:2010] = b"\x07" * 10
    Path(short).write_bytes(damaged)
    with zipfile.ZipFile(short) as archive:
        assert archive.testzip() == "test_labels.npy"
    refused(Path(short), "fails its CRC")
