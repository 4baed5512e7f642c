"""Audits of real builds and of builds with planted faults: counts, duplicates, JSON and findings."""

import dataclasses
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from medmnist_hf.catalog import NPZ_SPLITS, SPLITS, subset
from medmnist_hf.conversion.added_columns import AddedFiles
from medmnist_hf.conversion.build import BuildOptions, build_config
from medmnist_hf.conversion.checks import audit as audit_module
from medmnist_hf.conversion.checks.audit import MAX_LISTED, Audit, audit_config
from medmnist_hf.conversion.sources.source import Folder
from medmnist_hf.errors import BuildError, MedMNISTError, SourceError
from medmnist_hf.manifest import read_manifest
from tests.fixtures.paths import ROOT
from tests.fixtures.planted import ROWS, Array, Planted, bloodmnist_in_shards, first_shard
from tests.fixtures.source_ids import IDS, METADATA, lesions, numbered_ids, write_csv


@pytest.fixture(scope="session")
def real_builds(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out, source = tmp_path_factory.mktemp("dist"), Folder(real_data)
    flags = ("breastmnist", "retinamnist", "adrenalmnist3d")
    return {flag: build_config(subset(flag), 28, source.fetch(subset(flag), 28), out).config_dir for flag in flags}


def members(audit: Audit) -> list[list[tuple[str, int]]]:
    return [[(member.split, member.row) for member in group.members] for group in audit.duplicates.listed]


def test_breastmnist_has_one_leak_with_another_label(real_builds: dict[str, Path]) -> None:
    audit = audit_config(real_builds["breastmnist"])
    assert members(audit) == [[("train", 115), ("test", 76)]]
    (group,) = audit.duplicates.listed
    assert group.conflicting
    assert not group.blank
    assert [member.labels for member in group.members] == [(0,), (1,)]
    assert [overlap.rows for overlap in audit.duplicates.overlaps] == [{"train": 1, "test": 1}]
    assert audit.findings[0] == (
        "1 image of train is pixel-identical to one of test, with another label: train row 115, test row 76"
    )
    assert {split: entry.blank for split, entry in audit.splits.items()} == dict.fromkeys(SPLITS, 0)
    assert audit.findings[-1] == "always predicting 'normal, benign' has an accuracy of 0.731 on test"


@pytest.mark.parametrize(("flag", "thing"), [("retinamnist", "image"), ("adrenalmnist3d", "volume")])
def test_retinamnist_and_adrenalmnist3d_have_no_duplicates(
    real_builds: dict[str, Path], flag: str, thing: str
) -> None:
    audit = audit_config(real_builds[flag])
    assert (audit.duplicates.pictures, audit.duplicates.overlaps, audit.duplicates.listed) == (0, (), ())
    assert all(entry.blank == 0 and entry.blank_rows == () for entry in audit.splits.values())
    assert audit.findings[0] == f"no {thing} is blank and no two are pixel-identical, within a split or across splits"


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_class_balance_of_real_files(real_builds: dict[str, Path], real_data: Path, flag: str) -> None:
    audit, entry = audit_config(real_builds[flag]), subset(flag)
    assert (audit.subset, audit.size, audit.source, audit.md5) == (flag, 28, "folder", entry.file(28).md5)
    with np.load(real_data / f"{flag}.npz", allow_pickle=False) as npz:
        for split, prefix in NPZ_SPLITS.items():
            counts = np.bincount(npz[f"{prefix}_labels"][:, 0], minlength=len(entry.labels))
            part = audit.splits[split]
            assert part.rows == part.catalog_rows == counts.sum() == entry.counts[split]
            assert part.label_rows == dict(zip(entry.labels, counts.tolist(), strict=True))
            assert sum(part.label_shares.values()) == pytest.approx(1)
            assert part.majority == entry.labels[counts.argmax()]
            assert part.accuracy_floor == pytest.approx(counts.max() / counts.sum())
            assert (part.unlabeled, part.absent) == (0, ())


def test_planted_faults_in_rgb_images_are_found(tmp_path: Path) -> None:
    planted = Planted("pathmnist")
    train, test = planted.images["train"], planted.images["test"]
    train[3] = (200, 10, 30)
    train[17, :, :, 0] = 9  # one flat channel is not blank
    train[30] = 0
    train[31] = 0
    train[31, 27, 27, 2] = 1  # an image with one odd value in the last pixel is not blank either
    train[20] = train[5]
    test[8] = train[12]
    test[9] = train[12]
    planted.labels["train"][:] %= 6
    planted.labels["train"][[5, 20]] = [[1], [2]]
    planted.labels["train"][12] = planted.labels["test"][[8, 9]] = 4
    audit = audit_config(planted.build(tmp_path))
    assert (audit.splits["train"].blank, audit.splits["train"].blank_rows) == (2, (3, 30))
    assert audit.splits["test"].blank == 0
    assert members(audit) == [[("train", 12), ("test", 8), ("test", 9)], [("train", 5), ("train", 20)]]
    assert [group.conflicting for group in audit.duplicates.listed] == [False, True]
    assert (audit.duplicates.pictures, audit.duplicates.rows, audit.duplicates.conflicting) == (2, 5, 1)
    assert audit.duplicates.shared("test", "train") == 2
    assert audit.duplicates.shared("test", "test") == 2
    assert audit.duplicates.shared("train", "test") == 1
    absent = subset("pathmnist").labels[6:]
    assert audit.splits["train"].absent == absent
    assert all(audit.splits["train"].label_rows[label] == 0 for label in absent)
    assert audit.findings[:3] == (
        "train has 40 rows where the catalog has 89,996",
        "validation has 12 rows where the catalog has 10,004",
        "test has 20 rows where the catalog has 7,180",
    )
    assert audit.findings[3:7] == (
        "1 image of train is pixel-identical to 2 of test: e.g. train row 12, test row 8",
        "2 images of train are pixel-identical, with different labels: train row 5, train row 20",
        "2 images of test are pixel-identical: test row 8, test row 9",
        "2 images of train are blank (all pixels equal): rows 3, 30",
    )
    assert f"train has no row labeled {', '.join(map(repr, absent))}" in audit.findings


def test_planted_faults_in_volumes_are_found(tmp_path: Path) -> None:
    planted = Planted("organmnist3d")
    validation = planted.images["validation"]
    validation[0] = 255
    validation[1, 0] = validation[2, 0] = 255  # an equal slice is neither blank nor a duplicate
    planted.images["test"][19] = planted.images["train"][39]
    planted.images["test"][18] = planted.images["train"][0][::-1]  # a mirrored volume is not identical
    planted.labels["test"][19], planted.labels["train"][39] = 3, 5
    audit = audit_config(planted.build(tmp_path, max_shard_size=9 * 28**3))
    assert members(audit) == [[("train", 39), ("test", 19)]]
    assert audit.splits["validation"].blank_rows == (0,)
    assert (
        "1 volume of train is pixel-identical to one of test, with another label: train row 39, test row 19"
        in audit.findings
    )
    assert "1 volume of validation is blank (all pixels equal): row 0" in audit.findings


def test_planted_faults_in_the_multi_label_task_are_found(tmp_path: Path) -> None:
    planted = Planted("chestmnist")
    names = subset("chestmnist").labels
    hot = planted.labels["test"]
    hot[:] = 0
    hot[:15, 0] = 1
    hot[[0, 16], 13] = 1
    planted.images["test"][1] = planted.images["test"][0]
    planted.images["test"][2] = planted.images["test"][3]
    audit = audit_config(planted.build(tmp_path))
    test = audit.splits["test"]
    assert (test.rows, test.majority, test.unlabeled, test.unlabeled_share) == (20, None, 4, 0.2)
    assert test.label_rows == dict.fromkeys(names, 0) | {names[0]: 15, names[13]: 2}
    assert test.label_shares == dict.fromkeys(names, 0.0) | {names[0]: 0.75, names[13]: 0.1}
    assert test.absent == names[1:13]
    assert test.accuracy_floor == pytest.approx((0.75 + 0.9 + 12) / 14)
    assert [(group.conflicting, [m.labels for m in group.members]) for group in audit.duplicates.listed] == [
        (True, [(0, 13), (0,)]),
        (False, [(0,), (0,)]),
    ]
    assert (
        "4 images of test are pixel-identical in 2 groups, some with different labels: e.g. test row 0, test row 1"
        in audit.findings
    )
    assert "20.0% of the rows of test have no finding" in audit.findings


def test_lists_are_limited_and_counts_are_complete(tmp_path: Path) -> None:
    planted = Planted("pneumoniamnist", rows={"train": 90, "validation": 5, "test": 5})
    train = planted.images["train"]
    train[:30] = np.arange(30, dtype=np.uint8)[:, None, None]
    train[30:60] = 7
    train[60:90] = train[:30]
    audit = audit_config(planted.build(tmp_path))
    part, duplicates = audit.splits["train"], audit.duplicates
    assert (part.blank, part.blank_rows) == (90, tuple(range(MAX_LISTED)))
    assert (duplicates.pictures, duplicates.rows, len(duplicates.listed)) == (30, 90, MAX_LISTED)
    longest = max(duplicates.listed, key=lambda group: group.rows)
    assert (longest.rows, len(longest.members), longest.blank) == (32, MAX_LISTED, True)
    assert "90 images of train are blank (all pixels equal): rows 0, 1, 2 and 87 more" in audit.findings


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return bloodmnist_in_shards(tmp_path)


def test_audits_do_not_depend_on_shards_batches_or_threads(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = audit_config(small)
    assert len(read_manifest(small).splits["train"].shards) > 2
    assert members(expected) == [[("train", 25), ("test", 4)], [("train", 7), ("train", 21), ("train", 39)]]
    for rows, workers in ((1, 1), (7, 3), (16, 2)):
        monkeypatch.setattr(audit_module, "_BATCH_BYTES", rows * 28 * 28 * 3)
        seen: list[int] = []
        assert audit_config(small, workers=workers, on_progress=seen.append) == expected
        assert sum(seen) == sum(ROWS.values())
        assert max(seen) <= rows


def test_duplicates_depend_on_pixels_not_on_their_encoding(tmp_path: Path) -> None:
    planted = Planted("bloodmnist")
    planted.images["test"][4] = planted.images["train"][25]
    png, webp = planted.build(tmp_path / "a"), planted.build(tmp_path / "b", codec="webp")
    expected = audit_config(png)
    assert members(expected) == [[("train", 25), ("test", 4)]]
    assert audit_config(webp) == expected
    edit(png, "train", image={25: encoded(planted.images["train"][25])})
    assert audit_config(png) == expected


def test_audits_survive_a_json_round_trip(small: Path) -> None:
    audit = audit_config(small)
    text = audit.to_json()
    assert Audit.from_json(text) == audit
    assert Audit.from_json(text).to_json() == text == audit_config(small).to_json()
    assert text.endswith("}\n")
    table = json.loads(text)
    assert table["format"] == 1
    assert table["findings"] == list(audit.findings)
    assert table["splits"]["train"]["blank_rows"] == [7, 21, 39]
    with pytest.raises(dataclasses.FrozenInstanceError):
        audit.size = 64  # type: ignore[misc]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "splits": {"train": {}}}', "\x00"])
def test_an_invalid_audit_is_refused(text: str) -> None:
    with pytest.raises(BuildError, match=r"^here is not a valid audit \(.*\): run medmnist-hf audit --save again$"):
        Audit.from_json(text, "here")


def test_a_phantom_is_not_compared_with_the_catalog(phantoms: Callable[..., Any], tmp_path: Path) -> None:
    build = build_config(subset("octmnist"), 28, phantoms("octmnist"), tmp_path)
    audit = audit_config(build.config_dir)
    assert audit.source == "phantom"
    assert {part.catalog_rows for part in audit.splits.values()} == {None}
    assert not any("catalog" in finding for finding in audit.findings)


def encoded(image: Array, kind: str = "PNG", mode: str | None = None) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(image)
    (picture.convert(mode) if mode else picture).save(stream, kind, compress_level=0)
    return stream.getvalue()


def edit(config_dir: Path, split: str, shard: int = 0, **columns: dict[int, Any]) -> None:
    """Replace values in a shard of a split: images by the bytes of a file, all others by Python values."""
    path = config_dir / read_manifest(config_dir).splits[split].shards[shard].name
    table = pq.read_table(path)
    for name, changes in columns.items():
        values = table[name].to_pylist()
        for row, value in changes.items():
            values[row] = {"bytes": value, "path": None} if isinstance(value, bytes) else value
        field = table.schema.field(name)
        storage = getattr(field.type, "storage_type", field.type)
        column = pa.array(values, storage)
        if storage != field.type:
            column = pa.ExtensionArray.from_storage(field.type, column)
        table = table.set_column(table.schema.get_field_index(name), field, column)
    pq.write_table(table, path, compression="none", use_dictionary=False)


def replace_with_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


GRAY, WIDE = np.zeros((28, 28), np.uint8), np.zeros((28, 29, 3), np.uint8)


def edit_manifest(config_dir: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = config_dir / "manifest.json"
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda d: (d / "manifest.json").unlink(), "is it a build"),
    "broken manifest": (lambda d: (d / "manifest.json").write_text("{"), "is not a valid build manifest"),
    "unknown subset": (lambda d: edit_manifest(d, lambda m: m.update(subset="bloodmnst")), "did you mean"),
    "unknown size": (lambda d: edit_manifest(d, lambda m: m.update(size=29)), "choose from 28"),
    "split left out": (
        lambda d: edit_manifest(d, lambda m: m["splits"].pop("test")),
        "splits are train, val",
    ),
    "other rows": (
        lambda d: edit_manifest(d, lambda m: m["splits"]["train"].update(rows=39)),
        "add up to 39 rows",
    ),
    "no shard": (lambda d: first_shard(d).unlink(), "cannot read .*train-00000"),
    "cut shard": (lambda d: first_shard(d).write_bytes(first_shard(d).read_bytes()[:-9]), "cannot read .*train-00000"),
    "folder as shard": (lambda d: replace_with_folder(first_shard(d)), "cannot read .*train-00000"),
    "no column": (
        lambda d: pq.write_table(
            pq.read_table(first_shard(d)).drop(["label"]), first_shard(d), compression="none", use_dictionary=False
        ),
        "columns",
    ),
    "not an image": (lambda d: edit(d, "train", image={2: b"GIF?"}), "train row 2 .*neither PNG nor lossless WebP"),
    "JPEG": (lambda d: edit(d, "train", image={2: encoded(WIDE[:, 1:], "JPEG")}), "train row 2 .*neither PNG nor"),
    "palette": (lambda d: edit(d, "train", image={2: encoded(GRAY, mode="P")}), "train row 2 holds a palette PNG"),
    "empty image": (lambda d: edit(d, "train", image={2: b""}), "train row 2 .*neither PNG nor"),
    "no bytes": (lambda d: edit(d, "train", image={2: {"bytes": None, "path": "x"}}), "train row 2 .*a link to"),
    "cut image": (
        lambda d: edit(d, "train", image={3: encoded(WIDE[:, 1:])[:-30]}),
        "train row 3 holds an unreadable image",
    ),
    "gray image": (
        lambda d: edit(d, "test", image={1: encoded(GRAY)}),
        r"test row 1 .*shape \(28, 28\), not \(28, 28, 3\)",
    ),
    "wide image": (lambda d: edit(d, "test", image={1: encoded(WIDE)}), r"shape \(28, 29, 3\), not \(28, 28, 3\)"),
    "null image": (lambda d: edit(d, "test", image={1: None}), "test row 1 holds no image"),
    "null label": (lambda d: edit(d, "test", label={1: None}), "test row 1 holds no label"),
    "high label": (lambda d: edit(d, "test", label={1: 8}), "test row 1 holds a label outside 0 to 7"),
    "negative label": (lambda d: edit(d, "test", label={1: -1}), "test row 1 holds a label outside 0 to 7"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_builds_are_refused(small: Path, fault: str) -> None:
    damage, message = FAULTS[fault]
    damage(small)
    before = {path: path.stat().st_mtime_ns for path in small.iterdir()}
    with pytest.raises(MedMNISTError, match=message) as caught:
        audit_config(small)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in small.iterdir()} == before


def test_a_row_is_named_by_its_index_in_the_split(small: Path) -> None:
    shards = read_manifest(small).splits["train"].shards
    edit(small, "train", shard=1, image={2: b"GIF?"})
    with pytest.raises(BuildError, match=rf"train row {shards[0].rows + 2} holds an unreadable image"):
        audit_config(small)


@pytest.mark.parametrize(
    ("flag", "column", "value", "message"),
    [
        ("nodulemnist3d", "image", np.zeros((28, 28, 27)).tolist(), "test row 2 holds a volume that is not of shape"),
        ("nodulemnist3d", "image", np.zeros((27, 28, 28)).tolist(), "test row 2 holds a volume that is not of shape"),
        ("nodulemnist3d", "image", [[[None] * 28] * 28] * 28, "test row 2 holds a volume with missing voxels"),
        ("nodulemnist3d", "image", None, "test row 2 holds"),
        ("chestmnist", "label", [0, 14], "test row 2 holds a label outside 0 to 13"),
        ("chestmnist", "label", [None], "test row 2 holds a missing label"),
        ("chestmnist", "label", None, "test row 2 holds no label"),
    ],
)
def test_damaged_volumes_and_lists_are_refused(
    tmp_path: Path, flag: str, column: str, value: object, message: str
) -> None:
    config_dir = Planted(flag, rows=dict.fromkeys(SPLITS, 4)).build(tmp_path)
    audit_config(config_dir)
    edit(config_dir, "test", 0, **{column: {2: value}})
    with pytest.raises(BuildError, match=message):
        audit_config(config_dir)


CHILD = """
import resource, sys
from pathlib import Path
from medmnist_hf.conversion.checks.audit import audit_config
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
audit = audit_config(Path(sys.argv[1]), workers=2)
print(peak() - before, audit.duplicates.rows)
"""


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    """250 MB of pixels, one blank image repeated, are audited within 120 MB."""
    planted = Planted("octmnist", 224, dict.fromkeys(SPLITS, 1))
    planted.images["train"] = np.zeros((5000, 224, 224), np.uint8)
    planted.labels["train"] = np.zeros((5000, 1), np.uint8)
    config_dir = planted.build(tmp_path)
    process = subprocess.run(
        [sys.executable, "-c", CHILD, str(config_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    megabytes, rows = map(int, process.stdout.split())
    assert rows == 5000
    assert megabytes < 120


def test_lesions_in_several_splits_are_counted(phantoms: Callable[..., Any], tmp_path: Path) -> None:
    """The CSV files are made here, in the form of the published ones."""
    entry, file = subset("dermamnist-corrected"), phantoms("dermamnist-corrected")
    clean = write_csv(tmp_path / "clean.csv", METADATA, lesions(file))
    leaking = write_csv(tmp_path / "leaking.csv", METADATA, lesions(file, shared=2))
    audits = {}
    for path in (clean, leaking):
        options = BuildOptions(added=AddedFiles(metadata=path))
        audits[path] = audit_config(build_config(entry, 28, file, tmp_path / path.stem, options=options).config_dir)
    assert (groups := audits[clean].groups) is not None and groups.shared == ()
    assert audits[clean].findings[0].startswith("no lesion has images in two splits")
    assert audits[leaking].findings[0] == (
        "2 lesions have images in train and test: 4 of train, 2 of test, e.g. HAM_train_0"
    )
    # The same from the file alone, for a build without the columns.
    plain = build_config(entry, 28, file, tmp_path / "plain").config_dir
    assert audit_config(plain).groups is None
    assert audit_config(plain, files=AddedFiles(metadata=leaking)).groups == audits[leaking].groups
    assert Audit.from_json(audits[leaking].to_json()) == audits[leaking]


def test_ids_without_groups_cannot_be_audited(phantoms: Callable[..., Any], tmp_path: Path) -> None:
    file = phantoms("bloodmnist")
    write_csv(tmp_path / "bloodmnist.csv", IDS, numbered_ids(file))
    config = build_config(subset("bloodmnist"), 28, file, tmp_path / "dist").config_dir
    with pytest.raises(SourceError, match="do not identify its patients or scans"):
        audit_config(config, files=AddedFiles(tmp_path))
