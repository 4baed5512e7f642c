"""`medmnist_hf.files`: atomic writes, locks, and reading only regular files."""

import errno
import fcntl
import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medmnist_hf.errors import MedMNISTError, first_line
from medmnist_hf.files import (
    BusyError,
    Slots,
    UnfitFileError,
    name_missing_locks,
    open_regular,
    read_document,
    regular_size,
    sha256_of,
    sole_process,
    sync_folder,
    write_atomically,
)


@pytest.mark.parametrize(("content", "stored"), [("Größe\n", "Größe\n".encode()), (b"\x00\xff", b"\x00\xff")])
def test_replaces_the_content(tmp_path: Path, content: str | bytes, stored: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old and longer than the new content")
    write_atomically(path, content)
    assert path.read_bytes() == stored
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_reported_with_the_path(tmp_path: Path) -> None:
    """Simulated by a limit on file size. Python's own error has no path if a write fails halfway."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, old[1]))
    try:
        with pytest.raises(OSError) as caught:
            write_atomically(path, bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])


def test_an_error_leaves_the_old_content_and_no_new_file(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    (target / "kept").touch()
    with pytest.raises(OSError):
        write_atomically(target, "a file cannot replace a folder")
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "kept"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "file", "text")
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    locked = threading.Event()

    def first() -> None:
        with sole_process(tmp_path / "a.lock", "writing a"):
            locked.set()
            time.sleep(0.2)
            seen.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    locked.wait()
    with sole_process(tmp_path / "a.lock", "writing a"):
        seen.append("second")
    thread.join()
    assert seen == ["first", "second"]
    assert caplog.messages == ["another process is writing a: waiting for it"]


def test_without_waiting_the_other_process_is_reported(tmp_path: Path) -> None:
    with (
        sole_process(tmp_path / "a.lock", "writing a"),
        pytest.raises(BusyError, match="another process is writing a: wait until it ends, then run again"),
        sole_process(tmp_path / "a.lock", "writing a", wait=False),
    ):
        pass
    with sole_process(tmp_path / "a.lock", "writing a", wait=False):
        pass


def test_slots_limit_how_many_hold_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("medmnist_hf.files._SLOT_PAUSE", 0.01)
    slots, active, most = Slots(tmp_path / "slots", 2), [0], [0]
    counting = threading.Lock()

    def hold() -> None:
        with slots.hold("downloading"):
            with counting:
                active[0] += 1
                most[0] = max(most[0], active[0])
            time.sleep(0.05)
            with counting:
                active[0] -= 1

    threads = [threading.Thread(target=hold) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [2]
    assert {path.name for path in slots.folder.iterdir()} == {"0.lock", "1.lock"}
    assert set(caplog.messages) == {"others are downloading (at most 2 at a time): waiting for one of them"}
    assert len(caplog.messages) == 3, "once per process that waits"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    message = rf"^cannot lock .*a\.lock \({os.strerror(number)}\): use a folder on a file system that has file locks$"
    with pytest.raises(MedMNISTError, match=message), sole_process(tmp_path / "a.lock", "writing a"):
        pass


@pytest.mark.parametrize("error", [NotImplementedError("no flock here"), OSError(errno.ENOSYS, "no")])
def test_other_errors_for_missing_locks_are_named(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(MedMNISTError, match=r"^cannot lock .*a\.lock"), name_missing_locks(tmp_path / "a.lock"):
        raise error


def test_a_folder_that_cannot_be_synced_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("medmnist_hf.files.os.fsync", refuse)
    sync_folder(tmp_path)


@pytest.fixture(params=["FIFO", "link to a device", "folder"])
def irregular(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "path"
    if request.param == "FIFO":
        os.mkfifo(path)
    elif request.param == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("read", [open_regular, regular_size, sha256_of, read_document])
def test_only_regular_files_are_read(irregular: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(UnfitFileError) as caught:
        read(irregular)
    assert first_line(caught.value) == caught.value.strerror == str(caught.value) == "it is not a regular file"
    assert caught.value.filename == str(irregular)


def test_a_document_has_a_size_limit(tmp_path: Path) -> None:
    path, link = tmp_path / "path", tmp_path / "link"
    path.write_bytes(b"12345")
    link.symlink_to(path)
    assert read_document(path, 5) == read_document(link, 5) == open_regular(path).read() == b"12345"
    assert regular_size(link) == 5
    with pytest.raises(UnfitFileError, match="it has more than 4 bytes"):
        read_document(path, 4)
    with path.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(UnfitFileError, match="it has more than 16,777,216 bytes"):
        read_document(path)
