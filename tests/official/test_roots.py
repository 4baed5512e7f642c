"""Below a root: NPZ files first, then builds, or the Hub; downloads are resumed and checked."""

import importlib
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medmnist_hf.official as medmnist
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import subset
from medmnist_hf.errors import ReadError
from medmnist_hf.official import info
from medmnist_hf.official.errors import ArgumentError, RootError
from medmnist_hf.official.roots import (
    ON_HUB,
    check_size,
    check_split,
    fetch,
    find_data,
    read_labels,
    read_split,
)
from medmnist_hf.places.resolver import Build, NpzFile, Repository
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.hub.server import HubServer
from tests.fixtures.official import make_official
from tests.fixtures.on_hub import put_on_hub
from tests.fixtures.zenodo import Reply, ZenodoServer, zenodo_server
from tests.official.conftest import Root

FLAG, NAME = "breastmnist", "breastmnist.npz"


@pytest.fixture
def zenodo(monkeypatch: pytest.MonkeyPatch, phantoms: Phantoms) -> Iterator[ZenodoServer]:
    """A server that has a phantom as the official file, and a catalog that says so."""
    file = phantoms(FLAG)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert file.counts is not None
    make_official(monkeypatch, FLAG, 28, file.md5, file.counts)
    with zenodo_server() as server:
        server.files[NAME] = file.path.read_bytes()
        monkeypatch.setenv("MEDMNIST_ENDPOINT", server.url)
        yield server


def splits_of(root: str, **options: Any) -> list[Any]:
    place = find_data(subset(FLAG), 28, root, **options)
    return [read_split(place, split, None) for split in ("train", "val", "test")]


def assert_equal(left: list[Any], right: list[Any]) -> None:
    for (images, labels), (others, ids) in zip(left, right, strict=True):
        np.testing.assert_array_equal(images, others)
        np.testing.assert_array_equal(labels, ids)
        assert labels.dtype == ids.dtype == np.uint8


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("flag", [FLAG, "chestmnist", "organmnist3d"])
def test_builds_and_the_hub_give_what_the_npz_file_gives(
    flag: str, root: Root, phantoms: Phantoms, hub: HubServer, caplog: Any
) -> None:
    entry, places = subset(flag), []
    folder = build(phantoms, dist := Path(root(), "dist"), flag, 28)
    write_card(folder)
    put_on_hub(hub, folder)
    for where, kind in (
        (root(flag), NpzFile),
        (dist, Build),
        (folder, Build),
        ("hf://datasets/org", Repository),
        ("hf://datasets/org/", Repository),
        ("hf://datasets/org@main", Repository),
    ):
        places.append(find_data(entry, 28, where))
        assert isinstance(places[-1], kind)
    for split in ("train", "val", "test"):
        expected = read_split(places[0], split, None)
        for place in places:
            caplog.clear()
            assert_equal([read_split(place, split, None)], [expected])
            assert "official" in caplog.text or "SYNTHETIC" in caplog.text
            caplog.clear()
            np.testing.assert_array_equal(read_labels(place, split), expected[1])
            assert "but the official file has" in caplog.text or "SYNTHETIC" in caplog.text


def test_an_npz_file_is_preferred_to_a_build(root: Root, phantoms: Phantoms, caplog: Any) -> None:
    folder = root()
    build(phantoms, Path(folder), FLAG, 28)
    place = find_data(subset(FLAG), 28, folder)
    assert isinstance(place, Build)
    read_labels(place, "val")
    assert "28: SYNTHETIC" in caplog.text
    root(FLAG)
    assert isinstance(find_data(subset(FLAG), 28, folder), NpzFile)


def test_the_hub_is_named_by_its_url() -> None:
    assert find_data(subset(FLAG), 64, ON_HUB) == Repository(subset(FLAG), 64, "medmnist/breastmnist")
    for text in ("hf://medmnist", "hf://datasets/", "hf://datasets/you/breastmnist", "hf://datasets/you@"):
        with pytest.raises(RootError, match=rf"^root '{text}' is not valid: for the Hub, write {ON_HUB} or"):
            find_data(subset(FLAG), 28, text)


@pytest.mark.usefixtures("hub")
def test_what_the_hub_does_not_have_is_missing_like_a_file() -> None:
    for read in (medmnist.BreastMNIST, lambda split, root: medmnist.Evaluator(FLAG, split, root=root)):
        with pytest.raises(RuntimeError, match=r"^cannot load none/breastmnist at size 28 .*: check the name"):
            read("val", root="hf://datasets/none")


def test_a_home_folder_is_expanded(root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root(FLAG)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert isinstance(find_data(subset(FLAG), 28, "~/npz"), NpzFile)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = subset(FLAG)
    with pytest.raises(RootError, match="root is None: name a folder of NPZ files or of builds, or hf://"):
        find_data(entry, 28, None)
    for download in (False, True):
        with pytest.raises(RootError, match=r"no folder .*none: create it, or name another root$"):
            find_data(entry, 28, tmp_path / "none", download=download)
    monkeypatch.setattr("medmnist_hf.official.roots.DEFAULT_ROOT", str(tmp_path / "home" / ".medmnist"))
    with pytest.raises(
        RootError, match=r"neither breastmnist\.npz nor a build .*\.medmnist: pass download=True to Breast"
    ):
        find_data(entry, 28, str(tmp_path / "home" / ".medmnist"))
    assert list(tmp_path.iterdir()) == []


def test_sizes_and_splits() -> None:
    entry = subset("organmnist3d")
    assert [check_size(entry, size) for size in (None, 28, "28", 64)] == [28, 28, 28, 64]
    assert [check_split(split) for split in ("train", "val", "test")] == ["train", "val", "test"]
    for call in (lambda: check_size(entry, 128), lambda: check_split("validation")):
        with pytest.raises(ArgumentError, match="choose from"):
            call()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_damaged_file_is_not_read(split: str, root: Root, tmp_path: Path) -> None:
    content = bytearray(Path(root(FLAG), NAME).read_bytes())
    content[len(content) // 5] ^= 0xFF  # within the images of the train split
    (tmp_path / NAME).write_bytes(content)
    place = find_data(subset(FLAG), 28, tmp_path)
    if split == "train":
        with pytest.raises(ReadError, match="fetch the file again"):
            read_split(place, split, None)
    else:
        read_split(place, split, None)


def test_all_six_arrays_are_needed(tmp_path: Path) -> None:
    arrays = {"test_images": np.zeros((2, 28, 28), np.uint8), "test_labels": np.zeros((2, 1), np.uint8)}
    np.savez(tmp_path / NAME, **arrays)  # type: ignore[arg-type]
    place = find_data(subset(FLAG), 28, tmp_path)
    with pytest.raises(ReadError, match=r"member train_images\.npy is missing: is this a MedMNIST file"):
        read_split(place, "test", None)
    assert read_labels(place, "test").tolist() == [[0], [0]]


# Downloads


def test_a_file_is_downloaded_once_and_checked(zenodo: ZenodoServer, root: Root, tmp_path: Path, caplog: Any) -> None:
    expected = splits_of(root(FLAG))
    (tmp_path / "new").mkdir()
    caplog.clear()
    for _ in range(2):
        assert_equal(splits_of(str(tmp_path / "new"), download=True), expected)
    assert [seen.target for seen in zenodo.seen] == ["/records/10519652/files/breastmnist.npz?download=1"]
    assert not caplog.records  # the MD5 is that of the catalog
    (tmp_path / "new" / NAME).write_bytes(b"truncated")
    assert_equal(splits_of(str(tmp_path / "new"), download=True), expected)
    assert len(zenodo.seen) == 2 and "downloading it again" in caplog.text


def test_the_default_root_is_created_for_a_download(
    zenodo: ZenodoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = str(tmp_path / "home" / ".medmnist")
    for module in (info, importlib.import_module("medmnist_hf.official.roots")):
        monkeypatch.setattr(module, "DEFAULT_ROOT", default)
    assert isinstance(find_data(subset(FLAG), 28, default, download=True), NpzFile)


def test_an_interrupted_download_is_never_taken_for_the_file_and_resumed(
    zenodo: ZenodoServer, root: Root, tmp_path: Path
) -> None:
    folder, half = tmp_path / "new", len(zenodo.files[NAME]) // 2
    folder.mkdir()
    zenodo.script = [Reply(drop_after=half), Reply(status=404)]
    with pytest.raises(RootError, match=r"cannot fetch breastmnist\.npz \(.*404.*\): check the network") as caught:
        find_data(subset(FLAG), 28, folder, download=True)
    assert isinstance(caught.value, RuntimeError) and f"copy the file to {folder}" in str(caught.value)
    assert not (folder / NAME).exists()
    with pytest.raises(RootError, match="pass download=True"):
        find_data(subset(FLAG), 28, folder)
    assert_equal(splits_of(str(folder), download=True), splits_of(root(FLAG)))
    assert zenodo.seen[-1].range == f"bytes={half}-" and zenodo.seen[-1].sent == len(zenodo.files[NAME]) - half


@pytest.mark.slow
def test_the_official_package_takes_an_interrupted_download_for_the_file(
    zenodo: ZenodoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it received has the name of the file, whatever is missing, so the next call tries to read it."""
    theirs, half = importlib.import_module("medmnist"), len(zenodo.files[NAME]) // 2
    monkeypatch.setitem(theirs.INFO[FLAG], "url", f"{zenodo.url}/files/{NAME}")
    zenodo.then = Reply(length=-1, cut=half)
    (tmp_path / "theirs").mkdir()
    with pytest.raises(RuntimeError, match="Automatic download failed"):
        theirs.BreastMNIST("train", download=True, root=str(tmp_path / "theirs"))
    assert (tmp_path / "theirs" / NAME).stat().st_size == half
    with pytest.raises(zipfile.BadZipFile):
        theirs.BreastMNIST("train", root=str(tmp_path / "theirs"))


def test_a_file_with_another_md5_is_refused_in_a_download_and_reported_otherwise(
    zenodo: ZenodoServer, root: Root, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zenodo.then = Reply(body=b"another file")
    with pytest.raises(RootError, match="MD5"):
        fetch(subset(FLAG), 28, tmp_path)
    assert not (tmp_path / NAME).exists()
    with caplog.at_level(logging.WARNING):
        read_split(find_data(subset("bloodmnist"), 28, root("bloodmnist")), "val", None)
    assert "MD5 is not the official one" in caplog.text


def test_another_subset_is_refused(root: Root, tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to(Path(root("tissuemnist"), "tissuemnist.npz"))
    place = find_data(subset(FLAG), 28, tmp_path)
    for call in (lambda: read_split(place, "val", None), lambda: read_labels(place, "val")):
        with pytest.raises(ReadError, match=r"has the label \d in row \d, but breastmnist has 0 to 1"):
            call()
