"""`medmnist_hf.export.export` against the official package's own `save`, against the sources, and against mishaps."""

import importlib.metadata
import importlib.util
import json
import shutil
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from medmnist_hf.catalog import NPZ_SPLITS, SPLITS, Subset, subset, subsets
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.npz import NpzReader
from medmnist_hf.conversion.sources.source import Folder
from medmnist_hf.data.rows import Rows, open_rows
from medmnist_hf.errors import BuildError, CatalogError, MedMNISTError
from medmnist_hf.export.export import FORMATS, class_folder, export, export_montage, official_name, rows_of
from medmnist_hf.features import features_of
from medmnist_hf.manifest import MANIFEST_NAME
from tests.conftest import Phantoms
from tests.fixtures.builds import build

CONFIGS = [("breastmnist", 28), ("bloodmnist", 64), ("chestmnist", 28), ("organmnist3d", 28)]
REAL = ["breastmnist", "retinamnist", "adrenalmnist3d"]
GCS = {"vertex": "gs://bucket/folder"}
"""Form -> the folder that it needs."""


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag, size in CONFIGS:
        build(phantoms, out, flag, size)
    return out


@pytest.fixture(scope="module")
def real_builds(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real")
    for flag in REAL:
        build_config(subset(flag), 28, Folder(real_data).fetch(subset(flag), 28), out)
    return out


@pytest.fixture(scope="module")
def official() -> Any:  # noqa: ANN401
    """`medmnist.utils` by its path; the empty scikit-image serves its `import`, which `save2d` and `save3d` lack."""
    path = importlib.metadata.distribution("medmnist").locate_file("medmnist/utils.py")
    spec = importlib.util.spec_from_file_location("official_utils", str(path))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    absent = {name: types.ModuleType(name) for name in ("skimage", "skimage.util") if name not in sys.modules}
    with pytest.MonkeyPatch.context() as patch:
        for name, stub in absent.items():
            stub.__dict__["montage"] = None
            patch.setitem(sys.modules, name, stub)
        spec.loader.exec_module(module)
    return module


def arrays_of(path: Path) -> dict[str, NDArray[np.uint8]]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays}


def save_officially(official: Any, path: Path, folder: Path) -> None:  # noqa: ANN401
    arrays, name = arrays_of(path), path.stem
    save, postfix = (
        (official.save3d, "gif") if arrays["train_images"].shape[1:] == (28,) * 3 else (official.save2d, "png")
    )
    folder.mkdir()
    for split in NPZ_SPLITS.values():
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        save(images, labels, str(folder / name), split, postfix, str(folder / f"{name}.csv"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def same_as_official(ours: Path, theirs: Path) -> None:
    found, expected = contents(ours), contents(theirs)
    assert sorted(found) == sorted(expected)
    for name, content in expected.items():
        if name.endswith(".png"):
            with PIL.Image.open(ours / name) as a, PIL.Image.open(theirs / name) as b:
                assert (a.mode, a.size, a.tobytes()) == (b.mode, b.size, b.tobytes())
        else:
            assert found[name] == content, name


@pytest.mark.parametrize(("flag", "size"), CONFIGS)
def test_files_and_csv_are_those_of_the_official_save(
    official: Any,  # noqa: ANN401
    root: Path,
    phantoms: Phantoms,
    tmp_path: Path,
    *,
    flag: str,
    size: int,
) -> None:
    source = phantoms(flag, size).path
    name = official_name(subset(flag), size)
    renamed = shutil.copy(source, tmp_path / f"{name}.npz")
    save_officially(official, Path(renamed), tmp_path / "official")
    seen: list[int] = []
    done = export(open_rows(flag, size, root=root), tmp_path / "ours", on_progress=seen.append)
    same_as_official(tmp_path / "ours", tmp_path / "official")
    assert done.paths == (tmp_path / "ours" / name, tmp_path / "ours" / f"{name}.csv")
    assert done.rows == sum(seen) == len((tmp_path / "ours" / f"{name}.csv").read_text().splitlines())


def test_official_files_are_saved_as_officially(
    official: Any,  # noqa: ANN401
    real_builds: Path,
    real_data: Path,
    tmp_path: Path,
) -> None:
    save_officially(official, real_data / "breastmnist.npz", tmp_path / "official")
    export(open_rows("breastmnist", root=real_builds), tmp_path / "ours")
    same_as_official(tmp_path / "ours", tmp_path / "official")


def same_npz(path: Path, source: Path, entry: Subset, size: int) -> None:
    NpzReader(path, entry, size, None)
    found, expected = arrays_of(path), arrays_of(source)
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == np.uint8
        assert found[name].shape == array.shape
        assert np.array_equal(found[name], array), name
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_DEFLATED}


@pytest.mark.parametrize(("flag", "size"), CONFIGS)
def test_npz_equals_the_source_and_repeats_its_bytes(
    root: Path, phantoms: Phantoms, tmp_path: Path, flag: str, size: int
) -> None:
    for out in ("a", "b"):
        (path,) = export(open_rows(flag, size, root=root), tmp_path / out, "npz").paths
        assert path == tmp_path / out / subset(flag).file(size).name
    same_npz(path, phantoms(flag, size).path, subset(flag), size)
    assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()


@pytest.mark.parametrize("flag", REAL)
def test_official_files_come_out_as_they_went_in(
    real_builds: Path, real_data: Path, tmp_path: Path, flag: str
) -> None:
    """Equal arrays, and the members in the official order with the official CRCs."""
    (path,) = export(open_rows(flag, root=real_builds), tmp_path, "npz").paths
    same_npz(path, real_data / path.name, subset(flag), 28)
    with zipfile.ZipFile(path) as ours, zipfile.ZipFile(real_data / path.name) as theirs:
        members = [[(info.filename, info.CRC, info.file_size) for info in each.infolist()] for each in (ours, theirs)]
    assert members[0] == members[1]


def test_an_exported_npz_builds_the_same_config_again(root: Path, phantoms: Phantoms, tmp_path: Path) -> None:
    export(open_rows("chestmnist", root=root), tmp_path, "npz")
    file = Folder(tmp_path, allow_unverified=True).fetch(subset("chestmnist"), 28)
    again = build_config(subset("chestmnist"), 28, file, tmp_path / "dist").manifest.splits
    first = json.loads((root / "chestmnist/28" / MANIFEST_NAME).read_text())["splits"]
    for split in SPLITS:
        assert again[split].pixels_sha256 == first[split]["pixels_sha256"]
        assert again[split].labels_sha256 == first[split]["labels_sha256"]


@pytest.mark.parametrize(("flag", "size"), [("breastmnist", 28), ("bloodmnist", 64)])
def test_an_imagefolder_keeps_the_ids(root: Path, phantoms: Phantoms, tmp_path: Path, flag: str, size: int) -> None:
    entry, source = subset(flag), arrays_of(phantoms(flag, size).path)
    (folder,) = export(open_rows(flag, size, root=root), tmp_path / "test-val", "imagefolder").paths
    loaded = datasets.load_dataset("imagefolder", data_dir=str(folder))
    assert list(loaded) == list(SPLITS)
    for split, data in loaded.items():
        assert data.features["label"].names == [class_folder(entry, label) for label in range(len(entry.labels))]
        named = data.cast_column("label", features_of(entry, size)["label"])
        paths = [Path(each["path"]).name for each in data.cast_column("image", datasets.Image(decode=False))["image"]]
        assert sorted(paths) == [f"{split}{i:0{len(str(len(paths) - 1))}d}.png" for i in range(len(paths))]
        for path, row in zip(paths, named, strict=True):
            index = int(path.removeprefix(split).removesuffix(".png"))
            assert row["label"] == source[f"{NPZ_SPLITS[split]}_labels"][index, 0]
            assert np.array_equal(np.asarray(row["image"]), source[f"{NPZ_SPLITS[split]}_images"][index])


def test_an_imagefolder_of_findings(root: Path, phantoms: Phantoms, tmp_path: Path) -> None:
    """Lists of ids as they are, and with the catalogue's features the very columns of the build, in its order."""
    source = arrays_of(phantoms("chestmnist").path)
    (folder,) = export(open_rows("chestmnist", root=root), tmp_path, "imagefolder").paths
    for features in (None, features_of(subset("chestmnist"), 28)):
        loaded = datasets.load_dataset("imagefolder", data_dir=str(folder), features=features)
        for split, prefix in NPZ_SPLITS.items():
            data = loaded[split]
            assert features is None or data.features == features
            labels = source[f"{prefix}_labels"]
            assert list(data["label"]) == [np.flatnonzero(row).tolist() for row in labels]
            assert [] in list(data["label"])
            images = np.stack([np.asarray(image) for image in data["image"]])
            assert np.array_equal(images, source[f"{prefix}_images"])


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_class_folders_sort_like_their_ids_and_are_safe(entry: Subset) -> None:
    folders = [class_folder(entry, label) for label in range(len(entry.labels))]
    assert folders == sorted(set(folders))
    words = {word for keywords in datasets.data_files.SPLIT_KEYWORDS.values() for word in keywords}
    for folder in folders:
        assert folder.replace("_", "").replace("-", "").isalnum()
        assert not words & set(folder.lower().replace("_", "-").split("-")), "would be taken for a split"


def test_some_splits_in_the_usual_order(root: Path, tmp_path: Path) -> None:
    rows = open_rows("breastmnist", root=root)
    splits = ["test", "validation", "test"]
    done = export(rows, tmp_path, splits=splits)
    lines = (tmp_path / "breastmnist.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["VALIDATION"] * rows.count("validation") + [
        "TEST"
    ] * rows.count("test")
    assert done.rows == rows_of(rows, splits) == len(lines) == len(list((tmp_path / "breastmnist").iterdir()))
    (path,) = export(rows, tmp_path, "npz", splits=["test"]).paths
    assert sorted(arrays_of(path)) == ["test_images", "test_labels"]


def refused(match: str, action: Callable[[], object], error: type[MedMNISTError] = MedMNISTError) -> None:
    with pytest.raises(error, match=match) as caught:
        action()
    assert "\n" not in str(caught.value)


def test_formats_that_do_not_suit(root: Path, tmp_path: Path) -> None:
    images, volumes = open_rows("breastmnist", root=root), open_rows("organmnist3d", root=root)
    refused(
        "unknown format 'jpg': choose from png, imagefolder, gif, npz, vertex", lambda: export(images, tmp_path, "jpg")
    )
    refused(
        "breastmnist holds images.*choose png, imagefolder, npz or vertex", lambda: export(images, tmp_path, "gif")
    )
    for form in ("png", "imagefolder"):
        refused("organmnist3d holds volumes.*choose gif or npz", lambda form=form: export(volumes, tmp_path, form))  # type: ignore[misc]
    refused("unknown split 'val'", lambda: export(images, tmp_path, splits=["train", "val"]), CatalogError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "gif"])
def test_what_is_there_stays_unless_forced(root: Path, tmp_path: Path, form: str) -> None:
    rows = open_rows("breastmnist", root=root)
    (tmp_path / "breastmnist_64").mkdir()
    (tmp_path / "breastmnist_64.npz").write_text("another size")
    first = export(rows, tmp_path, form, gcs=GCS.get(form))
    place = first.paths[0] / "stale" if first.paths[0].is_dir() else first.paths[0]
    place.write_text("old")
    before = contents(tmp_path)
    refused(
        "is there already: choose another folder, or pass --force",
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
def test_half_of_an_export_counts_as_there(root: Path, tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("mine")
    refused(rf"{left} is there already", lambda: export(open_rows("breastmnist", root=root), tmp_path))
    assert contents(tmp_path) == {left: b"mine"}


def test_a_build_is_never_replaced(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "breastmnist", tmp_path / "breastmnist")
    before = contents(tmp_path)
    rows = open_rows("breastmnist", root=tmp_path)
    refused("is a build, which no export replaces", lambda: export(rows, tmp_path, force=True))
    assert contents(tmp_path) == before


class _Interrupted(Exception):
    pass


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "gif"])
def test_an_interrupted_export_leaves_what_was_there(root: Path, tmp_path: Path, form: str) -> None:
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
    """BreastMNIST with a manifest that states other numbers of rows."""
    shutil.copytree(root / "breastmnist", out / "breastmnist")
    path = out / "breastmnist/28" / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    for split, count in counts.items():
        manifest["splits"][split].update(rows=count)
        if not count:
            manifest["splits"][split].update(shards=[])
    path.write_text(json.dumps(manifest))
    return open_rows("breastmnist", root=out)


def test_an_empty_split(root: Path, tmp_path: Path) -> None:
    rows = with_rows(root, tmp_path / "dist", validation=0)
    refused("validation of .* is empty: leave it out with --split", lambda: export(rows, tmp_path / "out"))
    refused("validation of .* is empty", lambda: export_montage(rows, tmp_path / "a.png", split="validation"))
    assert not (tmp_path / "out").exists()
    assert export(rows, tmp_path / "out", splits=["test", "train"]).rows == rows.count("test") + 16


def test_more_or_fewer_rows_than_stated(root: Path, tmp_path: Path) -> None:
    for count in (15, 17):
        rows = with_rows(root, tmp_path / str(count), train=count)
        for form in ("png", "npz"):
            refused("does not hold what breastmnist", lambda form=form, rows=rows: export(rows, tmp_path / "o", form))  # type: ignore[misc]
        assert not (tmp_path / "o").exists()


def test_a_class_without_rows_would_shift_the_others(root: Path, tmp_path: Path) -> None:
    rows = open_rows("breastmnist", root=root)
    labels = rows.labels
    rows.labels = lambda split: np.zeros_like(labels(split))  # type: ignore[method-assign]
    refused("has no row of class 'normal, benign'", lambda: export(rows, tmp_path, "imagefolder"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    rows = open_rows("breastmnist", root=root)
    for form in ("png", "npz"):
        refused(r"cannot write .*: check the folder", lambda form=form: export(rows, tmp_path / "file", form))  # type: ignore[misc]
    refused("cannot write .*: check the folder", lambda: export_montage(rows, tmp_path / "file/a.png", length=2))
    assert contents(tmp_path) == {"file": b""}


def tiles(images: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    """The square without gaps of `skimage.util.montage`: tile i at row i // length and column i % length."""
    rows = [np.concatenate(list(images[i * length : (i + 1) * length]), axis=1) for i in range(length)]
    return np.concatenate(rows, axis=0)


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize(("flag", "size"), CONFIGS)
def test_a_montage_is_the_official_one(
    root: Path, phantoms: Phantoms, tmp_path: Path, flag: str, size: int, *, replace: bool
) -> None:
    rows = open_rows(flag, size, root=root)
    images = arrays_of(phantoms(flag, size).path)["train_images"]
    length = 5 if replace else 4
    np.random.seed(7)
    chosen = images[np.random.choice(len(images), size=length * length, replace=replace)]
    out = tmp_path / "new" / ("m.gif" if images.ndim == 4 and images.shape[-1] != 3 else "m.png")
    assert export_montage(rows, out, length=length, seed=7, replace=replace) == out
    with PIL.Image.open(out) as picture:
        if out.suffix == ".png":
            assert np.array_equal(np.asarray(picture), tiles(chosen, length))
            return
        assert picture.info["duration"] == 200
        slices = []
        shown = 0
        for frame in range(getattr(picture, "n_frames")):  # noqa: B009
            picture.seek(frame)
            repeats = int(picture.info["duration"]) // 200
            slices += [np.asarray(picture.convert("L"))] * repeats
            shown += repeats
        assert shown == size
    for depth, found in enumerate(slices):
        assert np.array_equal(found, tiles(chosen[:, depth], length))


def test_montages_that_cannot_be(root: Path, tmp_path: Path) -> None:
    images, volumes = open_rows("breastmnist", root=root), open_rows("organmnist3d", root=root)
    out = tmp_path / "a.png"
    refused(r"it holds images, name a file \*\.png", lambda: export_montage(images, tmp_path / "a.gif", length=2))
    refused(r"it holds volumes, name a file \*\.gif", lambda: export_montage(volumes, out, length=2))
    refused(
        r"has 16 images, a montage of 5 x 5 needs 25: give a length of at most 4",
        lambda: export_montage(images, out, length=5),
    )
    refused("give a length of 1 to 1170", lambda: export_montage(images, out, length=0))
    refused("give a length of 1 to 1170", lambda: export_montage(images, out, length=1171, replace=True))
    refused("the seed -1: give one of 0 to 4294967295", lambda: export_montage(images, out, length=2, seed=-1))
    refused("unknown split", lambda: export_montage(images, out, split="dev"), CatalogError)
    assert list(tmp_path.iterdir()) == []
    out.write_text("mine")
    refused("is there already: choose another name or pass --force", lambda: export_montage(images, out, length=2))
    assert out.read_text() == "mine"
    export_montage(images, out, length=2, force=True)
    with PIL.Image.open(out) as picture:
        assert picture.size == (56, 56)
    (tmp_path / "b.png").mkdir()
    refused("is there already: choose", lambda: export_montage(images, tmp_path / "b.png", length=2, force=True))
