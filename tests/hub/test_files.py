"""A file to push has the digests that the Hub computes, and links and files outside the folder are refused."""

import hashlib
import io
from pathlib import Path

import pytest
from PIL import Image

from medmnist_hf.files import UnfitFileError
from medmnist_hf.hub import files
from medmnist_hf.hub.files import PushFile, inside


def test_object_ids_equal_those_of_git(tmp_path: Path) -> None:
    """The ids of an empty file and of a line, as ``git hash-object`` prints them, in memory and on disk."""
    assert PushFile.from_bytes(b"").git_oid() == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    line = PushFile.from_bytes(b"hello\n")
    assert line.git_oid() == "ce013625030ba8dba906f756967f9e9ca394464a"
    (tmp_path / "line").write_bytes(b"hello\n")
    assert PushFile(tmp_path / "line", line.size, line.sha256).git_oid() == line.git_oid()


def test_size_and_digest_of_a_file_in_memory() -> None:
    file = PushFile.from_bytes(b"hello\n")
    assert (file.source, file.size, file.sha256) == (b"hello\n", 6, hashlib.sha256(b"hello\n").hexdigest())


def test_a_file_in_a_folder_has_its_size_and_digest(tmp_path: Path) -> None:
    (tmp_path / "real" / "in").mkdir(parents=True)
    (tmp_path / "real" / "in" / "line").write_bytes(b"hello\n")
    (tmp_path / "link").symlink_to("real")  # the pushed folder itself may be a link
    line = PushFile.from_bytes(b"hello\n")
    file = PushFile.from_folder(tmp_path / "link", "in/line")
    assert (file.source, file.size, file.sha256) == (tmp_path / "link" / "in" / "line", line.size, line.sha256)
    assert PushFile.document(tmp_path / "link", "in/line") == line


def test_files_outside_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (folder := tmp_path / "folder").mkdir()
    (folder / "in").symlink_to("..")
    for name in ("../secret", "in/../../secret", str(tmp_path / "secret")):
        with pytest.raises(UnfitFileError, match="is outside the pushed folder"):
            inside(folder, name)
    with pytest.raises(UnfitFileError, match=r"it is a link to \.\., and links are not pushed") as caught:
        inside(folder, "in/secret")
    assert caught.value.filename == str(folder / "in")


def animation(frames: int) -> bytes:
    buffer = io.BytesIO()
    first, *others = [Image.new("L", (8, 8), gray) for gray in range(frames)]
    first.save(buffer, "GIF", save_all=True, append_images=others)
    return buffer.getvalue()


def test_all_frames_of_a_picture_are_decoded_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.gif").write_bytes(animation(5))
    assert PushFile.picture(tmp_path, "a.gif") == PushFile.from_bytes(animation(5))
    (tmp_path / "a.gif").write_bytes(animation(5)[:-40])
    with pytest.raises(UnfitFileError, match="it is not a valid GIF"):
        PushFile.picture(tmp_path, "a.gif")
    (tmp_path / "a.gif").write_bytes(animation(5))
    monkeypatch.setattr(files, "_PICTURE_PIXELS", 4 * 64)
    with pytest.raises(UnfitFileError, match="it has more than 256 pixels"):
        PushFile.picture(tmp_path, "a.gif")
    monkeypatch.setattr(files, "_PICTURE_BYTES", 10)
    with pytest.raises(UnfitFileError, match="more than 10 bytes"):
        PushFile.picture(tmp_path, "a.gif")
