"""Loading configs with `datasets`: the rows of the labels build or commit, and one-line errors."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from huggingface_hub import HfFileSystem, constants

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import NPZ_SPLITS, subset
from medmnist_hf.conversion.build import BuildOptions, build_config
from medmnist_hf.conversion.checks.audit import audit_config
from medmnist_hf.conversion.checks.verify import verify_config
from medmnist_hf.conversion.sources.source import Folder
from medmnist_hf.data.loading import cache_fault
from medmnist_hf.data.rows import open_rows
from medmnist_hf.errors import BuildError, CatalogError, MedMNISTError, SourceError, VerificationError
from medmnist_hf.evaluation.labels import read_labels
from medmnist_hf.exporting.export import export
from medmnist_hf.features import features_of
from tests.conftest import Phantoms
from tests.fixtures.hub.server import Fault, HubServer
from tests.fixtures.npz import NpzFile, arrays_of, source_file
from tests.fixtures.on_hub import put_on_hub


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag, size in (("chestmnist", 28), ("chestmnist", 64), ("organmnist3d", 28)):
        write_card(build_config(subset(flag), size, phantoms(flag, size), out).config_dir.parent)
    return out


def test_all_splits_or_one(root: Path) -> None:
    splits = medmnist_hf.load("chestmnist", root=root)
    assert list(splits) == ["train", "validation", "test"]
    part = medmnist_hf.load("ChestMNIST", 64, "train[:5]", root=str(root))
    assert len(part) == 5
    assert part.features == features_of(subset("chestmnist"), 64)
    assert part[0]["image"].size == (64, 64)
    streamed = medmnist_hf.load("chestmnist", 28, "test", root, streaming=True)
    assert isinstance(streamed, datasets.IterableDataset)
    assert next(iter(streamed))["image"].mode == "L"


def test_the_default_config_is_28(root: Path) -> None:
    assert datasets.load_dataset(str(root / "chestmnist"), split="train")[0]["image"].size == (28, 28)


@pytest.mark.parametrize(
    ("flag", "rows"),
    [("breastmnist", 780), ("retinamnist", 1600), pytest.param("adrenalmnist3d", 1584, marks=pytest.mark.slow)],
)
def test_official_files_equal_the_npz(real_data: Path, tmp_path: Path, flag: str, rows: int) -> None:
    """Compare every value, from a prepared copy and from streaming, with the types that a user gets."""
    entry = subset(flag)
    write_card(build_config(entry, 28, Folder(real_data).fetch(entry, 28), tmp_path).config_dir.parent)
    arrays = np.load(real_data / f"{flag}.npz")
    seen = 0
    for streaming in (False, True):
        splits = datasets.load_dataset(str(tmp_path / flag), "28", streaming=streaming)
        for split, prefix in NPZ_SPLITS.items():
            data = splits[split]
            assert data.features == features_of(entry, 28)
            if entry.ndim == 3:
                data = data.with_format("numpy") if streaming else data.with_format("numpy", dtype="uint8")
            images, labels = arrays[f"{prefix}_images"], arrays[f"{prefix}_labels"][:, 0]
            count = 0
            for row, image, label in zip(data, images, labels, strict=True):
                pixels = np.asarray(row["image"])
                assert streaming or pixels.dtype == np.uint8
                assert np.array_equal(pixels, image)
                assert row["label"] == label
                count += 1
            seen += count
    assert seen == 2 * rows


def test_a_missing_build(root: Path) -> None:
    with pytest.raises(SourceError, match=r"no build of chestmnist at size 224 .*\(it has 28, 64\).*--size 224"):
        medmnist_hf.load("chestmnist", 224, root=root)
    with pytest.raises(SourceError, match=r"no build of pathmnist at size 28 in .*\(it has "):
        medmnist_hf.load("pathmnist", root=root)


def test_an_unknown_subset_or_size(root: Path) -> None:
    with pytest.raises(CatalogError, match="did you mean 'pathmnist'"):
        medmnist_hf.load("pathmnits", root=root)
    with pytest.raises(CatalogError, match="organmnist3d has no size 224"):
        medmnist_hf.load("organmnist3d", 224, root=root)


def test_an_unreachable_hub_gives_a_one_line_error() -> None:
    """The tests run with HF_HUB_OFFLINE, so the real client refuses without a request."""
    with pytest.raises(SourceError, match="cannot load medmnist/pathmnist") as caught:
        medmnist_hf.load("pathmnist")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("split", ["dev", "dev[:10%]", "train+dev", "train[:1"])
def test_an_unknown_split_gives_a_one_line_error(root: Path, split: str, streaming: bool) -> None:
    with pytest.raises(CatalogError, match="of chestmnist: choose from train, validation, test") as caught:
        medmnist_hf.load("chestmnist", root=root, split=split, streaming=streaming)
    assert repr(split) in str(caught.value) and "\n" not in str(caught.value)


def test_split_expressions_of_datasets(root: Path) -> None:
    counts = {split: len(medmnist_hf.load("chestmnist", root=root, split=split)) for split in NPZ_SPLITS}
    for split, rows in (("train[:25%]", counts["train"] // 4), ("train+test", counts["train"] + counts["test"])):
        assert len(medmnist_hf.load("chestmnist", root=root, split=split)) == rows
    with pytest.raises(
        CatalogError, match=r"^unknown split 'train\[:200%\]' of chestmnist \(Percent slice .*\): choose"
    ):
        medmnist_hf.load("chestmnist", root=root, split="train[:200%]")


def test_a_build_without_its_card(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "organmnist3d", tmp_path / "organmnist3d")
    (tmp_path / "organmnist3d" / "README.md").unlink()
    with pytest.raises(SourceError, match=r"no README\.md in .*: run medmnist-hf build again, it writes the card"):
        medmnist_hf.load("organmnist3d", root=tmp_path)


FLAG = "breastmnist"
WAYS: dict[str, Callable[[Path], list[int]]] = {
    "load": lambda out: list(medmnist_hf.load(FLAG, split="test", root=out)["label"]),
    "all splits": lambda out: list(medmnist_hf.load(FLAG, root=out)["test"]["label"]),
    "streaming": lambda out: [row["label"] for row in medmnist_hf.load(FLAG, 28, "test", out, streaming=True)],
    "load_dataset": lambda out: list(datasets.load_dataset(str(out / FLAG), "28", split="test")["label"]),
    "load_dataset by default": lambda out: list(datasets.load_dataset(str(out / FLAG), split="test")["label"]),
    "load_arrays": lambda out: medmnist_hf.load_arrays(FLAG, 28, "test", out).labels.tolist(),
    "to_arrays": lambda out: medmnist_hf.to_arrays(medmnist_hf.load(FLAG, split="test", root=out)).labels.tolist(),
}


def build_with(labels: list[int], folder: Path, out: Path) -> list[int]:
    """Build noise with these labels in the test split, replacing an existing build; return the labels."""
    arrays = arrays_of(subset(FLAG))
    arrays["test_labels"] = np.array(labels, np.uint8)[:, None]
    folder.mkdir()
    NpzFile(arrays).write(folder / f"{FLAG}.npz")
    options = BuildOptions(force=True)
    file = source_file(folder / f"{FLAG}.npz")
    write_card(build_config(subset(FLAG), 28, file, out, options=options).config_dir.parent)
    return labels


def test_all_ways_of_reading_agree_after_a_rebuild(tmp_path: Path) -> None:
    """Builds of equal counts and sizes replace each other in one folder, and exist in two folders."""
    first, second = [0, 1, 1, 0], [1, 0, 1, 0]
    for step, labels in enumerate((first, second, first)):
        build_with(labels, tmp_path / f"npz{step}", tmp_path / "dist")
        assert {name: way(tmp_path / "dist") for name, way in WAYS.items()} == dict.fromkeys(WAYS, labels)
    build_with(second, tmp_path / "npz", tmp_path / "other")
    assert {name: way(tmp_path / "other") for name, way in WAYS.items()} == dict.fromkeys(WAYS, second)
    sizes = [
        {path.name: path.stat().st_size for path in (tmp_path / out / FLAG / "28").glob("*.parquet")}
        for out in ("dist", "other")
    ]
    assert sizes[0] == sizes[1]


def test_replacing_a_build_removes_its_card(tmp_path: Path) -> None:
    build_with([0, 1, 1, 0], tmp_path / "one", tmp_path / "dist")
    card = (tmp_path / "dist" / FLAG / "README.md").read_text()
    arrays = arrays_of(subset(FLAG), seed=1)
    NpzFile(arrays).write(tmp_path / "a.npz")
    build_config(
        subset(FLAG), 28, source_file(tmp_path / "a.npz"), tmp_path / "dist", options=BuildOptions(force=True)
    )
    with pytest.raises(SourceError, match=r"no README\.md"):
        medmnist_hf.load(FLAG, root=tmp_path / "dist")
    (tmp_path / "dist" / FLAG / "README.md").write_text(card)
    for streaming in (False, True):
        with pytest.raises(SourceError, match=r"README\.md is the card of another build: run medmnist-hf build again"):
            medmnist_hf.load(FLAG, root=tmp_path / "dist", streaming=streaming)
    with pytest.raises(VerificationError, match=r"README\.md is the card of another build"):
        verify_config(tmp_path / "dist" / FLAG / "28")


@pytest.fixture(scope="module")
def two_builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two builds with different labels, but equal counts and sizes."""
    folder = tmp_path_factory.mktemp("two")
    for name, labels in (("one", [0, 1, 1, 0]), ("two", [1, 0, 0, 1])):
        build_with(labels, folder / f"{name} npz", folder / name)
    return folder / "one", folder / "two"


@pytest.mark.parametrize("name", ["data [v1]", "run[12]", "a*b", "wh?t", "[!a]", ".hid[x]", "{a,b}", "x#y"])
def test_folder_names_are_not_read_as_patterns(tmp_path: Path, two_builds: tuple[Path, Path], name: str) -> None:
    shutil.copytree(two_builds[0], tmp_path / name / "dist")
    for other in ("run1", "aXb", "what", "b", ".hidx", "a"):
        shutil.copytree(two_builds[1], tmp_path / other / "dist")
    labels = [0, 1, 1, 0]
    out, entry = tmp_path / name / "dist", subset(FLAG)
    for way in ("load", "all splits", "streaming", "load_arrays", "to_arrays"):
        assert WAYS[way](out) == labels, way
    assert verify_config(out / FLAG / "28").rows == 14
    assert read_labels(FLAG, 28, "test", out).values.tolist() == labels
    assert audit_config(out / FLAG / "28").splits["test"].rows == 4
    export(open_rows(FLAG, root=out), tmp_path / name / "exported", "npz")
    with np.load(tmp_path / name / "exported" / entry.file(28).name) as arrays:
        assert arrays["test_labels"][:, 0].tolist() == labels


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a::b", "reads '::' in .* as a path in an archive"),
        ("$HOME", r"reads the \$ in .* as a variable"),
        (os.fsdecode(b"\xff"), r"is not a valid path \(not UTF-8\)"),
        ("a\0b", r"is not a valid path \(it contains a NUL\)"),
    ],
    ids=["chain", "variable", "not UTF-8", "NUL"],
)
def test_paths_rejected_before_building_or_reading(tmp_path: Path, name: str, says: str) -> None:
    NpzFile(arrays_of(subset(FLAG))).write(tmp_path / "a.npz")
    out = tmp_path / name
    calls: list[Callable[[], object]] = [
        lambda: build_config(subset(FLAG), 28, source_file(tmp_path / "a.npz"), out),
        lambda: medmnist_hf.load(FLAG, root=out),
        lambda: verify_config(out / FLAG / "28"),
    ]
    if "::" not in name and "$" not in name:
        calls += [
            lambda: medmnist_hf.load_arrays(FLAG, root=out),
            lambda: read_labels(FLAG, 28, "test", out),
            lambda: audit_config(out / FLAG / "28"),
        ]
    for call in calls:
        with pytest.raises(MedMNISTError, match=says) as caught:
            call()
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz"]


def test_files_that_differ_from_the_manifest(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "organmnist3d", tmp_path / "organmnist3d")
    config = tmp_path / "organmnist3d" / "28"
    shard = next(config.glob("test-*"))
    stray = shutil.copy(shard, config / "test-more.parquet")
    for streaming in (False, True):
        with pytest.raises(
            SourceError, match=r"test-more\.parquet is not in the manifest, and datasets would read it"
        ):
            medmnist_hf.load("organmnist3d", root=tmp_path, streaming=streaming)
    Path(stray).unlink()
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(BuildError, match="is not the shard of the manifest"):
        medmnist_hf.load("organmnist3d", root=tmp_path)
    shard.unlink()
    with pytest.raises(BuildError, match=r"cannot read .*test.*\(No such file or directory\)"):
        medmnist_hf.load("organmnist3d", root=tmp_path)


@pytest.fixture
def pushed(
    hub: HubServer, two_builds: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubServer]:
    """A Hub, used by `datasets`, with two builds as the commits ``old`` and ``main`` of ``org/breastmnist``."""
    for name, value in {
        "HF_ENDPOINT": hub.url,
        "HUB_DATASETS_URL": hub.url + "/datasets/{repo_id}/resolve/{revision}/{path}",
        "HF_HUB_OFFLINE": False,
        "USE_PARQUET_EXPORT": False,
        "HF_DATASETS_CACHE": tmp_path / "datasets",
    }.items():
        monkeypatch.setattr(datasets.config, name, value)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client waits up to 23 s for a failing Hub
    HfFileSystem.clear_instance_cache()
    put_on_hub(hub, two_builds[0] / FLAG)
    hub.api().create_tag(f"org/{FLAG}", tag="old", repo_type="dataset")
    files = [path for path in (two_builds[1] / FLAG).rglob("*") if path.is_file() and ".build" not in path.parts]
    changed = {str(path.relative_to(two_builds[1] / FLAG)): path.read_bytes() for path in files}
    hub.store.write("dataset", f"org/{FLAG}", changed)
    hub.log.clear()
    yield hub
    HfFileSystem.clear_instance_cache()


def test_a_repository_whose_name_is_not_a_flag(
    pushed: HubServer, two_builds: tuple[Path, Path], tmp_path: Path
) -> None:
    """Its manifest says which subset it holds."""
    shutil.copytree(two_builds[0] / FLAG, tmp_path / "sonography")
    put_on_hub(pushed, tmp_path / "sonography")
    rows = medmnist_hf.load("org/sonography", 28, "val")
    expected = medmnist_hf.load(FLAG, 28, "val", two_builds[0])
    assert rows["label"][:] == expected["label"][:] and rows.features == features_of(subset(FLAG), 28)


def on_hub(revision: str | None = None, **options: Any) -> list[int]:
    rows = medmnist_hf.load(f"org/{FLAG}", 28, "test", revision=revision, **options)
    return [row["label"] for row in rows]


@pytest.mark.parametrize("options", [{}, {"streaming": True}, {"keep_in_memory": True}])
def test_rows_come_from_the_revision(pushed: HubServer, options: dict[str, Any]) -> None:
    assert on_hub("old", **options) == [0, 1, 1, 0]
    assert on_hub(**options) == [1, 0, 0, 1]
    assert on_hub("old", **options) == [0, 1, 1, 0]


@pytest.mark.parametrize("options", [{}, {"streaming": True}, {"keep_in_memory": True}])
def test_a_cached_copy_of_another_revision_is_never_used(pushed: HubServer, options: dict[str, Any]) -> None:
    """If the Hub fails, `datasets` uses its latest copy with only a warning."""
    assert on_hub("old", **options) == [0, 1, 1, 0]
    pushed.faults.add(Fault(path="breastmnist.py|/28/|/tree/", status=500, times=-1))
    with pytest.raises(SourceError, match=f"^cannot load org/{FLAG} ") as caught:
        on_hub(**options)
    assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match=f"^cannot load org/{FLAG}@v9 "):
        on_hub("v9", **options)


def test_offline_the_copy_of_the_revision_is_used(pushed: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_hub("old") == [0, 1, 1, 0]
    assert on_hub() == [1, 0, 0, 1]
    for module in (constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)
    assert on_hub() == [1, 0, 0, 1]
    with pytest.raises(
        SourceError, match="which is not in the cache while HF_HUB_OFFLINE is set: load it online once"
    ):
        on_hub("old")


HTML = b"<html><body>503 Service Unavailable</body></html>"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("where", ["README", r"/28/|/tree/|/paths-info/|breastmnist\.py"])
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 401},
        {"status": 403},
        {"status": 409},
        {"status": 500},
        {"lose_answer": True},
        {"garble": lambda body: HTML},
        {"garble": lambda body: b"[]"},
    ],
    ids=["401", "403", "409", "500", "dropped", "HTML", "empty list"],
)
def test_any_fault_of_the_hub_gives_the_right_rows_or_a_one_line_error(
    pushed: HubServer, fault: dict[str, Any], where: str, *, streaming: bool
) -> None:
    pushed.faults.add(Fault(path=where, times=-1, **fault))
    try:
        assert on_hub(streaming=streaming) == [1, 0, 0, 1]
    except MedMNISTError as error:
        assert len(str(error).splitlines()) == 1
    pushed.faults.clear()
    assert on_hub(streaming=streaming) == [1, 0, 0, 1]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.EEXIST, errno.ELOOP])
def test_an_unwritable_cache_is_not_blamed_on_the_build(tmp_path: Path, number: int) -> None:
    """Also for a home that is a dangling link: the missing file does not belong to the build."""
    outside, inside = (OSError(number, "any", str(path)) for path in (tmp_path / "home", tmp_path / "build" / "28"))
    fault = cache_fault(outside, tmp_path / "build")
    assert str(fault) == (f"cannot write {tmp_path}/home ({os.strerror(number)}): set HF_HOME to a writable folder")
    assert cache_fault(inside, tmp_path / "build") is None
    assert (cache_fault(outside, None) is None) == (number in {errno.ENOENT, errno.EEXIST, errno.ELOOP})
