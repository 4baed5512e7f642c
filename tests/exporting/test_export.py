"""Exports in every format: errors, replaced files, interruptions and what they leave behind."""

import json
import shutil
from pathlib import Path

import pytest

from medmnist_hf.data.rows import Rows, open_rows
from medmnist_hf.errors import BuildError, CatalogError
from medmnist_hf.exporting.export import FORMATS, export, rows_of
from medmnist_hf.exporting.montage import export_montage
from medmnist_hf.files import sole_process
from medmnist_hf.manifest import MANIFEST_NAME
from tests.fixtures.exports import arrays_of, contents, refused

GCS = {"vertex": "gs://bucket/folder"}
"""Format -> the folder in Cloud Storage that it needs."""


def test_some_splits_are_written_in_the_usual_order(root: Path, tmp_path: Path) -> None:
    rows = open_rows("breastmnist", root=root)
    splits = ["test", "validation", "test"]
    exported = export(rows, tmp_path, splits=splits)
    lines = (tmp_path / "breastmnist.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["VALIDATION"] * rows.count("validation") + [
        "TEST"
    ] * rows.count("test")
    assert exported.rows == rows_of(rows, splits) == len(lines) == len(list((tmp_path / "breastmnist").iterdir()))
    (path,) = export(rows, tmp_path, "npz", splits=["test"]).paths
    assert sorted(arrays_of(path)) == ["test_images", "test_labels"]


def test_unsuitable_formats(root: Path, tmp_path: Path) -> None:
    images, volumes = open_rows("breastmnist", root=root), open_rows("organmnist3d", root=root)
    refused(f"unknown format 'jpg': choose from {', '.join(FORMATS)}$", lambda: export(images, tmp_path, "jpg"))
    for rows, kind, ndim in ((images, "breastmnist holds images", 2), (volumes, "organmnist3d holds volumes", 3)):
        *others, last = (form for form, each in FORMATS.items() if ndim in each.ndims)
        for form in (form for form, each in FORMATS.items() if ndim not in each.ndims):
            line = f"{kind}, which the format {form} does not support: choose {', '.join(others)} or {last}$"
            refused(line, lambda rows=rows, form=form: export(rows, tmp_path, form))  # type: ignore[misc]
    refused("unknown split 'dev'", lambda: export(images, tmp_path, splits=["train", "dev"]), CatalogError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "gif"])
def test_existing_files_are_kept_unless_forced(root: Path, tmp_path: Path, form: str) -> None:
    rows = open_rows("breastmnist", root=root)
    (tmp_path / "breastmnist_64").mkdir()
    (tmp_path / "breastmnist_64.npz").write_text("another size")
    first = export(rows, tmp_path, form, gcs=GCS.get(form))
    place = first.paths[0] / "stale" if first.paths[0].is_dir() else first.paths[0]
    place.write_text("old")
    before = contents(tmp_path)
    refused(
        "already exists: choose another folder, or pass --force",
        lambda: export(rows, tmp_path, form, gcs=GCS.get(form)),
    )
    assert contents(tmp_path) == before
    assert export(rows, tmp_path, form, gcs=GCS.get(form), force=True) == first
    after = contents(tmp_path)
    assert b"old" not in after.values()
    assert set(before) - set(after) <= {"breastmnist/stale"}
    assert after["breastmnist_64.npz"] == b"another size"
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in first.paths} | {
        "breastmnist_64",
        "breastmnist_64.npz",
    }


@pytest.mark.parametrize("left", ["breastmnist.csv", "breastmnist"])
def test_half_an_export_counts_as_existing(root: Path, tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("mine")
    refused(rf"{left} already exists", lambda: export(open_rows("breastmnist", root=root), tmp_path))
    assert contents(tmp_path) == {left: b"mine"}


def test_a_build_is_never_replaced(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "breastmnist", tmp_path / "breastmnist")
    before = contents(tmp_path)
    rows = open_rows("breastmnist", root=tmp_path)
    refused("is a build, which an export never replaces", lambda: export(rows, tmp_path, force=True))
    assert contents(tmp_path) == before


class _Interrupted(Exception):
    pass


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "gif"])
def test_an_interrupted_export_keeps_existing_files(root: Path, tmp_path: Path, form: str) -> None:
    rows = open_rows("bloodmnist", 64, root=root)

    def interrupt(count: int) -> None:
        raise _Interrupted

    with pytest.raises(_Interrupted):
        export(rows, tmp_path / "new" / "deep", form, gcs=GCS.get(form), on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []
    export(rows, tmp_path, form, gcs=GCS.get(form))
    before = contents(tmp_path)
    with pytest.raises(_Interrupted):
        export(rows, tmp_path, form, gcs=GCS.get(form), force=True, on_progress=interrupt)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("flag", "size", "form"), [("breastmnist", 28, "png"), ("organmnist3d", 28, "npz")])
def test_a_damaged_shard_leaves_nothing(root: Path, tmp_path: Path, flag: str, size: int, form: str) -> None:
    shutil.copytree(root / flag, tmp_path / "dist" / flag)
    shard = sorted((tmp_path / "dist" / flag / str(size)).glob("test-*"))[-1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    rows = open_rows(flag, size, root=tmp_path / "dist")
    refused(f"cannot read {shard}", lambda: export(rows, tmp_path / "out", form), BuildError)
    assert not (tmp_path / "out").exists()


def with_rows(root: Path, out: Path, **counts: int) -> Rows:
    """BreastMNIST with other numbers of rows in its manifest."""
    shutil.copytree(root / "breastmnist", out / "breastmnist")
    path = out / "breastmnist/28" / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    for split, count in counts.items():
        record = manifest["splits"][split]
        record["label_histogram"]["malignant"] += count - record["rows"]
        record["shards"][-1]["rows"] += count - record["rows"]
        record["rows"] = count
        record.pop("pixels")  # which would not be those of so many rows
    path.write_text(json.dumps(manifest))
    return open_rows("breastmnist", root=out)


def test_more_or_fewer_rows_than_in_the_manifest(root: Path, tmp_path: Path) -> None:
    for count in (15, 17):
        rows = with_rows(root, tmp_path / str(count), train=count)
        for form in ("png", "npz"):
            refused("rows where the manifest has", lambda form=form, rows=rows: export(rows, tmp_path / "o", form))  # type: ignore[misc]
        assert not (tmp_path / "o").exists()


def test_a_folder_that_cannot_be_created(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    rows = open_rows("breastmnist", root=root)
    for form in ("png", "npz"):
        refused(r"cannot write .*: check the folder", lambda form=form: export(rows, tmp_path / "file", form))  # type: ignore[misc]
    refused("cannot write .*: check the folder", lambda: export_montage(rows, tmp_path / "file/a.png", length=2))
    assert contents(tmp_path) == {"file": b""}


def test_leftovers_of_killed_exports_are_removed_and_running_exports_kept(root: Path, tmp_path: Path) -> None:
    """Leftovers of any config and format are removed; a running export holds the lock in its folder."""
    out = tmp_path / "out"
    killed, running, other = (out / f".{name}.0123abcd.tmp" for name in ("pathmnist_64", "breastmnist.npz", "mine"))
    for folder in (killed, running, other):
        (folder / "new").mkdir(parents=True)
        (folder / "new" / "a.png").write_bytes(b"x" * 99)
        (folder / ".lock").touch()
    with sole_process(running / ".lock", "exporting"):
        export(open_rows("breastmnist", root=root), out, "npz")
    assert sorted(path.name for path in out.iterdir()) == sorted((running.name, other.name, "breastmnist.npz"))
    export(open_rows("breastmnist", root=root), out, "png")
    assert sorted(path.name for path in out.iterdir()) == [
        other.name,
        "breastmnist",
        "breastmnist.csv",
        "breastmnist.npz",
    ]
