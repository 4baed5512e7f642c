"""Sources: Zenodo with its cache and mirrors, folders, phantoms, and the errors of each."""

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
from medmnist_hf.files import Slots
from medmnist_hf.manifest import SourceRecord
from medmnist_hf.network import Limits
from tests.fixtures.zenodo import Reply, ZenodoServer, zenodo_server

REFUSED = "http://127.0.0.1:9"
"""A port that no service uses and that the system never assigns."""

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
    """BreastMNIST with the MD5 and counts of a phantom, which thereby passes for the official file."""
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
    """The message of an error, which must be one line."""
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


def test_zenodo_reports_progress_of_downloads_only(server: ZenodoServer, entry: Subset, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    source = zenodo(server, tmp_path)
    file = source.fetch(entry, 28, on_bytes=lambda received, total: seen.append((received, total)))
    assert seen[-1] == (file.bytes, file.bytes)
    seen.clear()
    source.fetch(entry, 28, on_bytes=lambda received, total: seen.append((received, total)))
    assert seen == []


def test_zenodo_delivers_the_expected_file(server: ZenodoServer, entry: Subset, tmp_path: Path) -> None:
    source = zenodo(server, tmp_path)
    expected = source.expected_file(entry, 28)
    assert server.seen == []
    assert dataclasses.replace(source.fetch(entry, 28), bytes=0) == expected


def test_a_file_has_the_record_of_a_manifest(server: ZenodoServer, entry: Subset, tmp_path: Path) -> None:
    file = zenodo(server, tmp_path).fetch(entry, 28)
    assert file.record == SourceRecord("zenodo", NAME, file.bytes, entry.file(28).md5, verified=True)


def test_official_urls_are_used_unchanged() -> None:
    for size in subset("pathmnist").sizes:
        file = subset("pathmnist").file(size)
        assert Zenodo(Path("cache")).places(file) == (file.url,)


def test_mirrors_come_before_the_endpoint() -> None:
    file = subset("pathmnist").file(64)
    source = Zenodo(Path("cache"), mirrors=["http://a/b/", "https://c?key=1"], endpoint="http://127.0.0.1:9/proxy/")
    assert source.places(file) == (
        "http://a/b/pathmnist_64.npz",
        "https://c/pathmnist_64.npz?key=1",
        "http://127.0.0.1:9/proxy/records/10519652/files/pathmnist_64.npz?download=1",
    )


def test_a_mirror_is_tried_first(server: ZenodoServer, entry: Subset, content: bytes, tmp_path: Path) -> None:
    with zenodo_server() as mirror:
        mirror.files[NAME] = content
        zenodo(server, tmp_path, f"{mirror.url}/deep/").fetch(entry, 28)
        assert [seen.target for seen in mirror.seen] == [f"/deep/{NAME}"]
    assert server.seen == []


@pytest.mark.parametrize("reply", [Reply(status=404), Reply(body=b"wrong"), Reply(status=503), Reply(drop_after=0)])
def test_the_endpoint_is_tried_after_a_faulty_mirror(
    server: ZenodoServer, entry: Subset, content: bytes, tmp_path: Path, reply: Reply
) -> None:
    with zenodo_server() as mirror:
        mirror.files[NAME] = content
        mirror.then = reply
        file = zenodo(server, tmp_path, mirror.url).fetch(entry, 28)
    assert file.path.read_bytes() == content
    assert len(server.seen) == 1


def test_an_error_names_every_server_that_failed(server: ZenodoServer, entry: Subset, tmp_path: Path) -> None:
    server.then = Reply(status=404)
    with zenodo_server() as mirror:
        mirror.then = Reply(body=b"wrong")
        with pytest.raises(SourceError) as caught:
            zenodo(server, tmp_path, mirror.url).fetch(entry, 28)
    message = line(caught)
    assert f"{mirror.url}/{NAME}: sent a file with MD5" in message
    assert f"{server.url}/records/10519652/files/{NAME}: answered 404" in message
    assert "--mirror" in message
    assert "--source" in message
    assert names(tmp_path) <= {f"{NAME}.lock"}


@pytest.mark.parametrize("url", ["ftp://host/x", "host/x", "", "http://", "http://[bad", "http://h:x", "file:///etc"])
def test_a_mirror_with_an_invalid_url_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source("zenodo", mirrors=[url], cache_dir=tmp_path)
    assert line(caught).startswith("--mirror ")


@given(st.text())
def test_any_text_as_an_endpoint_is_accepted_or_refused_in_one_line(url: str) -> None:
    with contextlib.suppress(SourceError):
        Zenodo(Path("cache"), endpoint=url)


def test_endpoint_from_the_environment(
    server: ZenodoServer, entry: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDMNIST_ENDPOINT", server.url)
    open_source("zenodo", cache_dir=tmp_path, patience=QUICK).fetch(entry, 28)
    assert len(server.seen) == 1
    monkeypatch.setenv("MEDMNIST_ENDPOINT", "nonsense")
    with pytest.raises(SourceError, match=r"^MEDMNIST_ENDPOINT 'nonsense' is not a valid URL"):
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
    assert "downloading it again" in caplog.text


def test_cached_file_with_a_wrong_md5_is_never_used(server: ZenodoServer, entry: Subset, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"wrong")
    server.then = Reply(status=404)
    for _ in range(2):
        with pytest.raises(SourceError) as caught:
            zenodo(server, tmp_path).fetch(entry, 28)
        assert "404" in line(caught)


@contextlib.contextmanager
def read_only_folder() -> Iterator[Path]:
    """A folder for `plain_user`, outside of tmp_path, because other users cannot enter that."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@contextlib.contextmanager
def plain_user(folder: Path, mode: int = 0o555) -> Iterator[None]:
    """Set the mode of a folder and make it apply to this process, even if that runs as root."""
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


def test_a_cache_that_is_a_file_is_refused(server: ZenodoServer, entry: Subset, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SourceError) as caught:
        zenodo(server, tmp_path / "file").fetch(entry, 28)
    assert "is not writable" in line(caught)


def test_a_folder_in_place_of_the_cached_file_is_refused(server: ZenodoServer, entry: Subset, tmp_path: Path) -> None:
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


def test_concurrent_processes_fetch_once(server: ZenodoServer, entry: Subset, content: bytes, tmp_path: Path) -> None:
    server.then = Reply(pause=1.0)
    run_together(server, tmp_path, entry, "zenodo")
    assert (tmp_path / NAME).read_bytes() == content
    assert [seen.sent for seen in server.seen] == [len(content)]


def _fetch_in_a_slot(url: str, folder: Path, entry: Subset, index: int) -> None:
    Zenodo(folder / "cache", endpoint=url, patience=QUICK, slots=Slots(folder / "slots", 2)).fetch(
        entry, 28, into=folder / str(index)
    )


def test_slots_limit_downloads(server: ZenodoServer, entry: Subset, content: bytes, tmp_path: Path) -> None:
    server.then = Reply(pause=0.3)
    spawn = multiprocessing.get_context("spawn")
    children = [
        spawn.Process(target=_fetch_in_a_slot, args=(server.url, tmp_path, entry, index)) for index in range(4)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0, 0]
    assert all((tmp_path / str(index) / NAME).read_bytes() == content for index in range(4))
    assert len(server.seen) == 4 and server.most_at_once == 2


@pytest.mark.parametrize("cached", [False, True])
def test_a_file_is_fetched_into_a_folder_unless_it_is_cached(
    server: ZenodoServer, entry: Subset, content: bytes, tmp_path: Path, cached: bool
) -> None:
    source, into = zenodo(server, tmp_path / "cache"), tmp_path / "into"
    if cached:
        source.fetch(entry, 28)
    before = names(tmp_path / "cache") if cached else set()
    file = source.fetch(entry, 28, into=into)
    assert file.path == (tmp_path / "cache" if cached else into) / NAME and file.path.read_bytes() == content
    assert into.exists() is not cached and (names(tmp_path / "cache") if cached else set()) == before
    assert (tmp_path / "cache").exists() is cached
    phantom = Phantom(tmp_path / "user", rows=16)
    if cached:
        phantom.fetch(entry, 28)
    assert (into in phantom.fetch(entry, 28, into=into).path.parents) is not cached


def test_a_process_waits_for_the_lock_and_logs_it(
    server: ZenodoServer, entry: Subset, content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spawn = multiprocessing.get_context("spawn")
    locked, release = spawn.Event(), spawn.Event()
    child = spawn.Process(target=_hold, args=(tmp_path, content, locked, release))
    child.start()
    assert locked.wait(30)

    class Waited(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            """Let the other process continue once this one has logged that it waits."""
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


def _hold(cache: Path, content: bytes, locked: Event, release: Event) -> None:
    with filelock.FileLock(cache / f"{NAME}.lock"):
        locked.set()
        assert release.wait(30)
        (cache / NAME).write_bytes(content)


# Folders


def test_a_folder_provides_its_files(entry: Subset, content: bytes, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(content)
    for allow in (False, True):
        file = open_source(str(tmp_path), allow_unverified=allow).fetch(entry, 28)
        assert (file.path, file.kind, file.bytes) == (tmp_path / NAME, "folder", len(content))
        assert (file.md5, file.verified, file.counts) == (entry.file(28).md5, True, entry.counts)
    assert names(tmp_path) == {NAME}


def test_a_file_with_a_wrong_md5_must_be_allowed(content: bytes, entry: Subset, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(content)
    real = subset("breastmnist")
    md5 = entry.file(28).md5
    with pytest.raises(SourceError) as caught:
        open_source(str(tmp_path)).fetch(real, 28)
    message = line(caught)
    for text in (str(tmp_path / NAME), md5, real.file(28).md5, "--allow-unverified", "--source zenodo"):
        assert text in message
    file = open_source(str(tmp_path), allow_unverified=True).fetch(real, 28)
    assert (file.md5, file.verified, file.counts) == (md5, False, None)
    assert file.record == SourceRecord("folder", NAME, len(content), md5, verified=False)


def test_a_missing_folder_or_file_is_reported(entry: Subset, tmp_path: Path) -> None:
    for spec in (str(tmp_path / "none"), "zendo", "", " "):
        with pytest.raises(SourceError) as caught:
            open_source(spec)
        assert "'zenodo', 'phantom' or a folder" in line(caught)
    (tmp_path / "breastmnist_64.npz").mkdir()
    for size, name in ((28, NAME), (64, "breastmnist_64.npz")):
        with pytest.raises(SourceError) as caught:
            open_source(str(tmp_path)).fetch(entry, size)
        assert f"no file {name} in {tmp_path}" in line(caught)


def test_an_unreadable_file_is_reported(entry: Subset) -> None:
    with read_only_folder() as folder:
        (folder / NAME).write_bytes(b"secret")
        (folder / NAME).chmod(0)
        with plain_user(folder), pytest.raises(SourceError) as caught:
            Folder(folder).fetch(entry, 28)
    assert "Permission denied" in line(caught)


@pytest.mark.parametrize("make", [Folder, Zenodo, Phantom])
def test_an_inaccessible_folder_is_reported(entry: Subset, make: Callable[[Path], Source]) -> None:
    with read_only_folder() as folder:
        with plain_user(folder, 0), pytest.raises(SourceError) as caught:
            make(folder / "deeper").fetch(entry, 28)
        assert "Permission denied" in line(caught)


@pytest.mark.parametrize("spec", ["n" * 300, "a\0b", "~nobody-of-this-name/data", "~nobody-of-this-name"])
def test_text_that_cannot_be_a_folder_is_refused(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(spec)
    line(caught)
    if "\0" not in spec:
        monkeypatch.setenv("MEDMNIST_ROOT", spec)
        with pytest.raises(SourceError) as caught:
            open_source("zenodo").fetch(subset("breastmnist"), 28)
        line(caught)


def test_a_tilde_is_expanded_to_the_home_folder(
    content: bytes, entry: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / NAME).write_bytes(content)
    assert open_source("~/data").fetch(entry, 28).path == tmp_path / "data" / NAME


def test_a_folder_may_be_named_like_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zenodo").mkdir()
    assert open_source("./zenodo").kind == "folder"
    assert open_source("zenodo").kind == "zenodo"


# Phantoms


def test_a_phantom_is_generated_once(tmp_path: Path) -> None:
    entry = subset("chestmnist")
    source = open_source("phantom", cache_dir=tmp_path, phantom_rows=40, seed=3)
    first = source.fetch(entry, 64)
    modified = first.path.stat().st_mtime_ns
    second = source.fetch(entry, 64)
    assert first == second
    assert second.path.stat().st_mtime_ns == modified
    assert first.path.name == f"chestmnist_64-rows40-seed3-v{GENERATOR_VERSION}.npz"
    assert first.path.parent == tmp_path / "phantom"
    assert first.md5 == hashlib.md5(first.path.read_bytes(), usedforsecurity=False).hexdigest()
    assert (first.kind, first.verified, first.counts) == ("phantom", False, phantom_counts(entry, 40))
    assert first.record.synthetic
    assert names(first.path.parent) <= {first.path.name, f"{first.path.name}.md5", f"{first.path.name}.lock"}


def test_rows_seed_and_size_of_a_phantom_determine_its_file(tmp_path: Path) -> None:
    entry = subset("breastmnist")
    files = [
        Phantom(tmp_path, rows=rows, seed=seed).fetch(entry, size)
        for rows in (8, 9)
        for seed in (0, 1)
        for size in (28, 64)
    ]
    assert len({file.path for file in files}) == len({file.md5 for file in files}) == 8


@pytest.mark.parametrize("damage", ["flip", "cut", "no note", "empty note", "other note", "no file"])
def test_a_damaged_phantom_is_regenerated(tmp_path: Path, damage: str) -> None:
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


def test_temporary_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "phantom"
    folder.mkdir()
    name = f"breastmnist-rows64-seed0-v{GENERATOR_VERSION}.npz"
    (folder / f".{name}.0123456789abcdef.tmp").write_bytes(b"half")
    Phantom(tmp_path).fetch(subset("breastmnist"), 28)
    assert not list(folder.glob("*.tmp")) + list(folder.glob(".*.tmp"))


def test_concurrent_processes_generate_a_complete_phantom(server: ZenodoServer, tmp_path: Path) -> None:
    run_together(server, tmp_path, subset("breastmnist"), "phantom")
    file = Phantom(tmp_path, rows=3000).fetch(subset("breastmnist"), 28)
    assert file.counts == phantom_counts(subset("breastmnist"), 3000)
    assert len(list((tmp_path / "phantom").glob("*.npz"))) == 1


def test_phantoms_stay_out_of_the_folder_of_official_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDMNIST_ROOT", str(tmp_path))
    file = open_source("phantom", phantom_rows=4).fetch(subset("breastmnist"), 28)
    assert user_cache() in file.path.parents
    assert names(tmp_path) == set()


def test_a_phantom_in_a_read_only_folder_is_reported() -> None:
    with read_only_folder() as folder:
        with plain_user(folder), pytest.raises(SourceError) as caught:
            Phantom(folder).fetch(subset("breastmnist"), 28)
        assert "is not writable" in line(caught)


@pytest.mark.parametrize(("rows", "seed"), [(0, 0), (-1, 0), (4, -1)])
def test_phantom_options_out_of_range_are_refused(tmp_path: Path, rows: int, seed: int) -> None:
    with pytest.raises(SourceError) as caught:
        open_source("phantom", cache_dir=tmp_path, phantom_rows=rows, seed=seed).fetch(subset("breastmnist"), 28)
    assert "phantom" in line(caught)
    assert not list(tmp_path.rglob("*.npz"))


# All sources


def test_an_unknown_size_is_refused(tmp_path: Path) -> None:
    sources: list[Source] = [Zenodo(tmp_path), Folder(tmp_path), Phantom(tmp_path)]
    for source in sources:
        with pytest.raises(CatalogError, match="no size 29"):
            source.fetch(subset("breastmnist"), 29)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("spec", ["phantom", "."])
def test_a_mirror_requires_zenodo(spec: str) -> None:
    with pytest.raises(SourceError, match=r"^--mirror requires --source zenodo, not "):
        open_source(spec, mirrors=["http://127.0.0.1"])


def test_downloads_are_always_checked() -> None:
    with pytest.raises(SourceError, match=r"^--allow-unverified requires a folder"):
        open_source("zenodo", allow_unverified=True)


def test_a_phantom_is_never_an_official_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        open_source("phantom", allow_unverified=True, cache_dir=tmp_path)
    assert line(caught).startswith("--allow-unverified requires a folder")


@pytest.mark.parametrize("spec", ["zenodo", "."])
def test_phantom_options_require_a_phantom(spec: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(spec, phantom_rows=4)
    assert line(caught).startswith(f"--phantom-rows requires --source phantom, not {spec!r}")
    with pytest.raises(SourceError) as caught:
        open_source(spec, seed=1)
    assert line(caught).startswith(f"--seed requires --source phantom, not {spec!r}")
    assert open_source(spec, seed=0).kind != "phantom"


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_official_files_are_within_the_size_limit(real_data: Path, flag: str) -> None:
    assert (real_data / f"{flag}.npz").stat().st_size < largest_npz(subset(flag), 28)


@pytest.mark.parametrize("flag", ["bloodmnist", "chestmnist", "nodulemnist3d"])
def test_uncompressed_files_are_within_the_size_limit(tmp_path: Path, flag: str) -> None:
    entry = dataclasses.replace(subset(flag), counts=SplitCounts(40, 10, 20))
    columns = len(entry.labels) if entry.task is Task.MULTI_LABEL else 1
    arrays = {}
    for split, name in NPZ_SPLITS.items():
        arrays[f"{name}_images"] = np.zeros((entry.counts[split], *entry.file(28).image_shape), np.uint8)
        arrays[f"{name}_labels"] = np.zeros((entry.counts[split], columns), np.int64)
    np.savez(tmp_path / "file.npz", **arrays)  # type: ignore[arg-type]
    assert (tmp_path / "file.npz").stat().st_size < largest_npz(entry, 28)


def test_without_a_network_only_the_first_of_many_files_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    patience = dataclasses.replace(QUICK, attempts=6)
    source = Zenodo(tmp_path, endpoint=REFUSED, patience=patience)
    for flag, waited in (("breastmnist", 2), ("retinamnist", 0), ("pathmnist", 0)):
        caplog.clear()
        with pytest.raises(SourceError, match=r"no connection.*check the network"):
            source.fetch(subset(flag), 28)
        assert len(caplog.records) == waited
