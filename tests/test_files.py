"""``medmnist_hf.files``: whole or not at all."""

import errno
import threading
import time
from pathlib import Path

import pytest

from medmnist_hf.files import sole_process, sync_folder, write_atomically


@pytest.mark.parametrize(("content", "stored"), [("Größe\n", "Größe\n".encode()), (b"\x00\xff", b"\x00\xff")])
def test_replaces_the_content(tmp_path: Path, content: str | bytes, stored: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old and longer than the new content")
    write_atomically(path, content)
    assert path.read_bytes() == stored
    assert list(tmp_path.iterdir()) == [path]


def test_a_fault_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
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
    held = threading.Event()

    def first() -> None:
        with sole_process(tmp_path / "a.lock", "writing a"):
            held.set()
            time.sleep(0.2)
            seen.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    held.wait()
    with sole_process(tmp_path / "a.lock", "writing a"):
        seen.append("second")
    thread.join()
    assert seen == ["first", "second"]
    assert caplog.messages == ["another process is writing a: waiting for it"]


def test_a_folder_that_cannot_be_synced_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("medmnist_hf.files.os.fsync", refuse)
    sync_folder(tmp_path)
