"""Sources: Zenodo with its cache and mirrors, a folder, the phantom, and what each refuses."""

import contextlib
import dataclasses
import hashlib
import logging
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import filelock
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmnist_hf.catalog import NPZ_SPLITS, SplitCounts, Subset, Task, subset
from medmnist_hf.conversion.sources.download import Patience
from medmnist_hf.conversion.sources.phantom import GENERATOR_VERSION, phantom_counts, write_phantom
from medmnist_hf.conversion.sources.source import (
    Folder,
    Phantom,
    Source,
    Zenodo,
    download_cache,
    largest_npz,
    open_source,
    user_cache,
)
from medmnist_hf.errors import CatalogError, SourceError
from medmnist_hf.manifest import SourceRecord
from medmnist_hf.network import Limits
from tests.fixtures.zenodo import Reply, ZenodoServer, zenodo_server

REFUSED = "http://127.0.0.1:9"
"""The port of a service that nobody runs, below those that the system gives to others."""

QUICK = Patience(Limits(connect=2, read=2), attempts=2, first_pause=0.001, longest_pause=1)
NAME = "breastmnist.npz"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("MEDMNIST_ROOT", "MEDMNIST_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("made") / NAME
    entry = subset("breastmnist")
    write_phantom(path, entry, 28, phantom_counts(entry))
    return path.read_bytes()


@pytest.fixture(scope="module")
def entry(content: bytes) -> Subset:
    """BreastMNIST with the MD5 and the counts of a phantom, so that the phantom plays the official file."""
    real = subset("breastmnist")
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    files = tuple(dataclasses.replace(file, md5=md5) if file.size == 28 else file for file in real.files)
    return dataclasses.replace(real, files=files, counts=phantom_counts(real))


@pytest.fixture
def server(content: bytes) -> Iterator[ZenodoServer]:
    with zenodo_server() as running:
        running.files[NAME] = content
        yield running


def zenodo(server: ZenodoServer, cache: Path, *mirrors: str) -> Zenodo:
    return Zenodo(cache, mirrors=mirrors, endpoint=server.url, patience=QUICK)


def line(caught: pytest.ExceptionInfo[SourceError]) -> str:
    """The message of an error, which is one line."""
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Zenodo


def test_zenodo_downloads_once(server: ZenodoServer, entry: Subset, content: bytes, tmp_path: Path) -> None:
    cache = tmp_path / "new" / "cache"
    for _ in range(2):
        file = zenodo(server, cache).fetch(entry, 28)
        assert file.path == cache / NAME
        assert file.path.read_bytes() == content
        assert (file.kind, file.md5, file.bytes) == ("zenodo", entry.file(28).md5, len(content))
        assert (file.verified, file.counts) == (True, entry.counts)
    assert [seen.target for seen in server.seen] == ["/records/10519652/files/breastmnist.npz?download=1"]
    assert names(cache) <= {NAME, f"{NAME}.lock"}


def test_zenodo_tells_the_bytes_of_a_download_only(server: ZenodoServer, entry: Subset, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    source = zenodo(server, tmp_path)
    file = source.fetch(entry, 28, on_bytes=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (file.bytes, file.bytes)
    seen.clear()
    source.fetch(entry, 28, on_bytes=lambda done, total: seen.append((done, total)))
    assert seen == []


def test_what_zenodo_promises_is_what_it_gives(server: ZenodoServer, entry: Subset, tmp_path: Path) -> None:
    source = zenodo(server, tmp_path)
    promised = source.promised(entry, 28)
    assert server.seen == []
    assert dataclasses.replace(source.fetch(entry, 28), bytes=0) == promised


def test_record_is_what_the_manifest_keeps(server: ZenodoServer, entry: Subset, tmp_path: Path) -> None:
    file = zenodo(server, tmp_path).fetch(entry, 28)
    assert file.record == SourceRecord("zenodo", NAME, file.bytes, entry.file(28).md5, verified=True)


def test_every_official_url_is_kept() -> None:
    for size in subset("pathmnist").sizes:
        file = subset("pathmnist").file(size)
        assert Zenodo(Path("cache")).places(file) == (file.url,)


def test_endpoint_and_mirrors_make_the_places() -> None:
    file = subset("pathmnist").file(64)
    source = Zenodo(Path("cache"), mirrors=["http://a/b/", "https://c?key=1"], endpoint="http://127.0.0.1:9/proxy/")
    assert source.places(file) == (
        "http://a/b/pathmnist_64.npz",
        "https://c/pathmnist_64.npz?key=1",
        "http://127.0.0.1:9/proxy/records/10519652/files/pathmnist_64.npz?download=1",
    )


def test_mirror_is_tried_first(server: ZenodoServer, entry: Subset, content: bytes, tmp_path: Path) -> None:
    with zenodo_server() as mirror:
        mirror.files[NAME] = content
        zenodo(server, tmp_path, f"{mirror.url}/deep/").fetch(entry, 28)
        assert [seen.target for seen in mirror.seen] == [f"/deep/{NAME}"]
    assert server.seen == []


@pytest.mark.parametrize("reply", [Reply(status=404), Reply(body=b"wrong"), Reply(status=503), Reply(drop_after=0)])
def test_bad_mirror_falls_through(
    server: ZenodoServer, entry: Subset, content: bytes, tmp_path: Path, reply: Reply
) -> None:
    with zenodo_server() as mirror:
        mirror.files[NAME] = content
        mirror.then = reply
        file = zenodo(server, tmp_path, mirror.url).fetch(entry, 28)
    assert file.path.read_bytes() == content
    assert len(server.seen) == 1


def test_all_places_down_names_each(server: ZenodoServer, entry: Subset, tmp_path: Path) -> None:
    server.then = Reply(status=404)
    with zenodo_server() as mirror:
        mirror.then = Reply(body=b"wrong")
        with pytest.raises(SourceError) as caught:
            zenodo(server, tmp_path, mirror.url).fetch(entry, 28)
    message = line(caught)
    assert f"{mirror.url}/{NAME}: sent a file of MD5" in message
    assert f"{server.url}/records/10519652/files/{NAME}: answered 404" in message
    assert "--mirror" in message
    assert "--source" in message
    assert names(tmp_path) <= {f"{NAME}.lock"}


@pytest.mark.parametrize("url", ["ftp://host/x", "host/x", "", "http://", "http://[bad", "http://h:x", "file:///etc"])
def test_mirror_that_is_no_web_address(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source("zenodo", mirrors=[url], cache_dir=tmp_path)
    assert line(caught).startswith("--mirror ")


@given(st.text())
def test_any_text_as_an_endpoint_is_taken_or_refused_in_one_line(url: str) -> None:
    with contextlib.suppress(SourceError):
        Zenodo(Path("cache"), endpoint=url)


def test_endpoint_from_the_environment(
    server: ZenodoServer, entry: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDMNIST_ENDPOINT", server.url)
    open_source("zenodo", cache_dir=tmp_path, patience=QUICK).fetch(entry, 28)
    assert len(server.seen) == 1
    monkeypatch.setenv("MEDMNIST_ENDPOINT", "nonsense")
    with pytest.raises(SourceError, match=r"^MEDMNIST_ENDPOINT 'nonsense' is no web address"):
        open_source("zenodo", cache_dir=tmp_path)


def test_default_endpoint_and_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source("zenodo")
    assert isinstance(source, Zenodo)
    assert (source.endpoint, source.cache_dir) == ("https://zenodo.org", user_cache())
    assert user_cache().name == "medmnist-hf"
    assert not user_cache().exists()
    monkeypatch.setenv("MEDMNIST_ROOT", str(tmp_path))
    assert download_cache() == tmp_path
    source = open_source("zenodo")
    assert isinstance(source, Zenodo)
    assert source.cache_dir == tmp_path


def test_cached_file_with_a_wrong_md5_is_replaced(
    server: ZenodoServer, entry: Subset, content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / NAME
    path.write_bytes(content[:-1])
    zenodo(server, tmp_path).fetch(entry, 28)
    assert path.read_bytes() == content
    wrong = hashlib.md5(content[:-1], usedforsecurity=False).hexdigest()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert wrong in caplog.text
    assert "downloading it anew" in caplog.text


def test_cached_file_with_a_wrong_md5_is_never_used(server: ZenodoServer, entry: Subset, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"wrong")
    server.then = Reply(status=404)
    for _ in range(2):
        with pytest.raises(SourceError) as caught:
            zenodo(server, tmp_path).fetch(entry, 28)
        assert "404" in line(caught)


@contextlib.contextmanager
def read_only_folder() -> Iterator[Path]:
    """A folder for `plain_user`, outside of tmp_path, which no other user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@contextlib.contextmanager
def plain_user(folder: Path, mode: int = 0o555) -> Iterator[None]:
    """Give the folder a mode that binds this process, even one that began as root."""
    folder.chmod(mode)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_read_only_cache_with_a_good_file(server: ZenodoServer, entry: Subset, content: bytes) -> None:
    with read_only_folder() as folder:
        (folder / NAME).write_bytes(content)
        with plain_user(folder):
            assert zenodo(server, folder).fetch(entry, 28).verified
        assert names(folder) == {NAME}
    assert server.seen == []


@pytest.mark.parametrize("old", [None, b"wrong"])
def test_read_only_cache_without_a_good_file(server: ZenodoServer, entry: Subset, old: bytes | None) -> None:
    with read_only_folder() as folder:
        if old:
            (folder / NAME).write_bytes(old)
        with plain_user(folder), pytest.raises(SourceError) as caught:
            zenodo(server, folder).fetch(entry, 28)
        message = line(caught)
        assert ("has MD5" if old else "is not in") in message
        assert "Permission denied" in message
        assert "set MEDMNIST_ROOT" in message
        assert names(folder) == ({NAME} if old else set())
    assert server.seen == []


def test_cache_that_is_a_file(server: ZenodoServer, entry: Subset, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SourceError) as caught:
        zenodo(server, tmp_path / "file").fetch(entry, 28)
    assert "cannot be written to" in line(caught)


def test_folder_in_place_of_the_cached_file(server: ZenodoServer, entry: Subset, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(SourceError) as caught:
        zenodo(server, tmp_path).fetch(entry, 28)
    assert "Is a directory" in line(caught)


@pytest.mark.skipif("MEDMNIST_ROOT" not in os.environ, reason="MEDMNIST_ROOT names no folder of official files")
@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_official_files_in_the_cache_are_used_without_network_or_writing(flag: str) -> None:
    root = Path(ROOT)
    before = names(root)
    for source in (Zenodo(root, endpoint="http://127.0.0.1:1", patience=QUICK), Folder(root)):
        file = source.fetch(subset(flag), 28)
        assert (file.verified, file.md5, file.counts) == (True, subset(flag).file(28).md5, subset(flag).counts)
    assert names(root) == before


ROOT = os.environ.get("MEDMNIST_ROOT", "")


def _fetch(url: str, cache: Path, entry: Subset, kind: str) -> None:
    source: Source = Zenodo(cache, endpoint=url, patience=QUICK) if kind == "zenodo" else Phantom(cache, rows=3000)
    source.fetch(entry, 28)


def run_together(server: ZenodoServer, cache: Path, entry: Subset, kind: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    children = [spawn.Process(target=_fetch, args=(server.url, cache, entry, kind)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]


def test_processes_at_once_fetch_once(server: ZenodoServer, entry: Subset, content: bytes, tmp_path: Path) -> None:
    server.then = Reply(pause=1.0)
    run_together(server, tmp_path, entry, "zenodo")
    assert (tmp_path / NAME).read_bytes() == content
    assert [seen.sent for seen in server.seen] == [len(content)]


def test_waits_for_a_holder_of_the_lock_and_says_so(
    server: ZenodoServer, entry: Subset, content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spawn = multiprocessing.get_context("spawn")
    held, release = spawn.Event(), spawn.Event()
    child = spawn.Process(target=_hold, args=(tmp_path, content, held, release))
    child.start()
    assert held.wait(30)

    class Waited(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            """Let the other process go on once this one has said that it waits."""
            release.set()

    handler = Waited()
    logging.getLogger("medmnist_hf.files").addHandler(handler)
    try:
        zenodo(server, tmp_path).fetch(entry, 28)
    finally:
        logging.getLogger("medmnist_hf.files").removeHandler(handler)
        release.set()
        child.join()
    assert "waiting for it" in caplog.text
    assert server.seen == []


def _hold(cache: Path, content: bytes, held: Event, release: Event) -> None:
    with filelock.FileLock(cache / f"{NAME}.lock"):
        held.set()
        assert release.wait(30)
        (cache / NAME).write_bytes(content)


# a folder


def test_folder(entry: Subset, content: bytes, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(content)
    for allow in (False, True):
        file = open_source(str(tmp_path), allow_unverified=allow).fetch(entry, 28)
        assert (file.path, file.kind, file.bytes) == (tmp_path / NAME, "folder", len(content))
        assert (file.md5, file.verified, file.counts) == (entry.file(28).md5, True, entry.counts)
    assert names(tmp_path) == {NAME}


def test_folder_with_a_wrong_md5(content: bytes, entry: Subset, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(content)
    real = subset("breastmnist")
    found = entry.file(28).md5
    with pytest.raises(SourceError) as caught:
        open_source(str(tmp_path)).fetch(real, 28)
    message = line(caught)
    for text in (str(tmp_path / NAME), found, real.file(28).md5, "--allow-unverified", "--source zenodo"):
        assert text in message
    file = open_source(str(tmp_path), allow_unverified=True).fetch(real, 28)
    assert (file.md5, file.verified, file.counts) == (found, False, None)
    assert file.record == SourceRecord("folder", NAME, len(content), found, verified=False)


def test_missing_folder_and_missing_file(entry: Subset, tmp_path: Path) -> None:
    for spec in (str(tmp_path / "none"), "zendo", "", " "):
        with pytest.raises(SourceError) as caught:
            open_source(spec)
        assert "'zenodo', 'phantom' or a folder" in line(caught)
    (tmp_path / "breastmnist_64.npz").mkdir()
    for size, name in ((28, NAME), (64, "breastmnist_64.npz")):
        with pytest.raises(SourceError) as caught:
            open_source(str(tmp_path)).fetch(entry, size)
        assert f"no file {name} in {tmp_path}" in line(caught)


def test_unreadable_file(entry: Subset) -> None:
    with read_only_folder() as folder:
        (folder / NAME).write_bytes(b"secret")
        (folder / NAME).chmod(0)
        with plain_user(folder), pytest.raises(SourceError) as caught:
            Folder(folder).fetch(entry, 28)
    assert "Permission denied" in line(caught)


@pytest.mark.parametrize("make", [Folder, Zenodo, Phantom])
def test_folder_that_nobody_may_enter(entry: Subset, make: Callable[[Path], Source]) -> None:
    with read_only_folder() as folder:
        with plain_user(folder, 0), pytest.raises(SourceError) as caught:
            make(folder / "deeper").fetch(entry, 28)
        assert "Permission denied" in line(caught)


@pytest.mark.parametrize("spec", ["n" * 300, "a\0b", "~nobody-of-this-name/data", "~nobody-of-this-name"])
def test_text_that_is_no_folder(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(spec)
    line(caught)
    if "\0" not in spec:
        monkeypatch.setenv("MEDMNIST_ROOT", spec)
        with pytest.raises(SourceError) as caught:
            open_source("zenodo").fetch(subset("breastmnist"), 28)
        line(caught)


def test_home_is_expanded(content: bytes, entry: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / NAME).write_bytes(content)
    assert open_source("~/data").fetch(entry, 28).path == tmp_path / "data" / NAME


def test_folder_named_like_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zenodo").mkdir()
    assert open_source("./zenodo").kind == "folder"
    assert open_source("zenodo").kind == "zenodo"


# the phantom


def test_phantom_is_made_once(tmp_path: Path) -> None:
    entry = subset("chestmnist")
    source = open_source("phantom", cache_dir=tmp_path, phantom_rows=40, seed=3)
    first = source.fetch(entry, 64)
    made = first.path.stat().st_mtime_ns
    second = source.fetch(entry, 64)
    assert first == second
    assert second.path.stat().st_mtime_ns == made
    assert first.path.name == f"chestmnist_64-rows40-seed3-v{GENERATOR_VERSION}.npz"
    assert first.path.parent == tmp_path / "phantom"
    assert first.md5 == hashlib.md5(first.path.read_bytes(), usedforsecurity=False).hexdigest()
    assert (first.kind, first.verified, first.counts) == ("phantom", False, phantom_counts(entry, 40))
    assert first.record.synthetic
    assert names(first.path.parent) <= {first.path.name, f"{first.path.name}.md5", f"{first.path.name}.lock"}


def test_phantoms_of_other_rows_seeds_and_sizes_are_other_files(tmp_path: Path) -> None:
    entry = subset("breastmnist")
    files = [
        Phantom(tmp_path, rows=rows, seed=seed).fetch(entry, size)
        for rows in (8, 9)
        for seed in (0, 1)
        for size in (28, 64)
    ]
    assert len({file.path for file in files}) == len({file.md5 for file in files}) == 8


@pytest.mark.parametrize("damage", ["flip", "cut", "no note", "empty note", "other note", "no file"])
def test_damaged_phantom_is_made_anew(tmp_path: Path, damage: str) -> None:
    entry = subset("breastmnist")
    good = Phantom(tmp_path).fetch(entry, 28)
    content = good.path.read_bytes()
    note = good.path.with_name(good.path.name + ".md5")
    if damage == "flip":
        good.path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    elif damage == "cut":
        good.path.write_bytes(content[:-5])
    elif damage == "no file":
        good.path.unlink()
    elif damage == "no note":
        note.unlink()
    else:
        note.write_text("" if damage == "empty note" else f"{'0' * 32}  x\n")
    assert Phantom(tmp_path).fetch(entry, 28) == good
    assert good.path.read_bytes() == content
    assert note.read_text().split() == [good.md5, good.path.name]


def test_left_over_of_a_killed_run_is_swept(tmp_path: Path) -> None:
    folder = tmp_path / "phantom"
    folder.mkdir()
    name = f"breastmnist-rows64-seed0-v{GENERATOR_VERSION}.npz"
    (folder / f".{name}.0123456789abcdef.tmp").write_bytes(b"half")
    Phantom(tmp_path).fetch(subset("breastmnist"), 28)
    assert not list(folder.glob("*.tmp")) + list(folder.glob(".*.tmp"))


def test_phantoms_made_by_processes_at_once_are_whole(server: ZenodoServer, tmp_path: Path) -> None:
    run_together(server, tmp_path, subset("breastmnist"), "phantom")
    file = Phantom(tmp_path, rows=3000).fetch(subset("breastmnist"), 28)
    assert file.counts == phantom_counts(subset("breastmnist"), 3000)
    assert len(list((tmp_path / "phantom").glob("*.npz"))) == 1


def test_phantoms_stay_out_of_the_folder_of_official_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDMNIST_ROOT", str(tmp_path))
    file = open_source("phantom", phantom_rows=4).fetch(subset("breastmnist"), 28)
    assert user_cache() in file.path.parents
    assert names(tmp_path) == set()


def test_phantom_in_a_read_only_folder() -> None:
    with read_only_folder() as folder:
        with plain_user(folder), pytest.raises(SourceError) as caught:
            Phantom(folder).fetch(subset("breastmnist"), 28)
        assert "cannot be written to" in line(caught)


@pytest.mark.parametrize(("rows", "seed"), [(0, 0), (-1, 0), (4, -1)])
def test_phantom_options_out_of_range(tmp_path: Path, rows: int, seed: int) -> None:
    with pytest.raises(SourceError) as caught:
        open_source("phantom", cache_dir=tmp_path, phantom_rows=rows, seed=seed).fetch(subset("breastmnist"), 28)
    assert "phantom" in line(caught)
    assert not list(tmp_path.rglob("*.npz"))


# all of them


def test_unknown_size(tmp_path: Path) -> None:
    sources: list[Source] = [Zenodo(tmp_path), Folder(tmp_path), Phantom(tmp_path)]
    for source in sources:
        with pytest.raises(CatalogError, match="no size 29"):
            source.fetch(subset("breastmnist"), 29)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("spec", ["phantom", "."])
def test_mirror_goes_with_zenodo_only(spec: str) -> None:
    with pytest.raises(SourceError, match=r"^--mirror goes with --source zenodo, not with"):
        open_source(spec, mirrors=["http://127.0.0.1"])


def test_downloads_are_always_checked() -> None:
    with pytest.raises(SourceError, match=r"^--allow-unverified goes with a folder"):
        open_source("zenodo", allow_unverified=True)


def test_a_phantom_is_never_an_official_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        open_source("phantom", allow_unverified=True, cache_dir=tmp_path)
    assert line(caught).startswith("--allow-unverified goes with a folder")


@pytest.mark.parametrize("spec", ["zenodo", "."])
def test_phantom_options_go_with_the_phantom_only(spec: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(spec, phantom_rows=4)
    assert line(caught).startswith(f"--phantom-rows goes with --source phantom, not with {spec!r}")
    with pytest.raises(SourceError) as caught:
        open_source(spec, seed=1)
    assert line(caught).startswith(f"--seed goes with --source phantom, not with {spec!r}")
    assert open_source(spec, seed=0).kind != "phantom"


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_no_official_file_is_larger_than_it_may_be(real_data: Path, flag: str) -> None:
    assert (real_data / f"{flag}.npz").stat().st_size < largest_npz(subset(flag), 28)


@pytest.mark.parametrize("flag", ["bloodmnist", "chestmnist", "nodulemnist3d"])
def test_not_even_a_file_that_is_not_compressed_is(tmp_path: Path, flag: str) -> None:
    entry = dataclasses.replace(subset(flag), counts=SplitCounts(40, 10, 20))
    columns = len(entry.labels) if entry.task is Task.MULTI_LABEL else 1
    arrays = {}
    for split, name in NPZ_SPLITS.items():
        arrays[f"{name}_images"] = np.zeros((entry.counts[split], *entry.file(28).image_shape), np.uint8)
        arrays[f"{name}_labels"] = np.zeros((entry.counts[split], columns), np.int64)
    np.savez(tmp_path / "file.npz", **arrays)  # type: ignore[arg-type]
    assert (tmp_path / "file.npz").stat().st_size < largest_npz(entry, 28)


def test_without_a_network_only_the_first_of_many_files_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    patience = dataclasses.replace(QUICK, attempts=6)
    source = Zenodo(tmp_path, endpoint=REFUSED, patience=patience)
    for flag, waited in (("breastmnist", 2), ("retinamnist", 0), ("pathmnist", 0)):
        caplog.clear()
        with pytest.raises(SourceError, match=r"no connection.*check the network"):
            source.fetch(subset(flag), 28)
        assert len(caplog.records) == waited
