"""``medmnist_hf.files``: whole or not at all."""

from pathlib import Path

import pytest

from medmnist_hf.files import write_atomically


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
