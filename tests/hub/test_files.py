"""A file that will lie on the Hub is known by the digests that the Hub itself computes."""

import hashlib
from pathlib import Path

from medmnist_hf.hub.files import PushFile


def test_git_names_a_file_as_git_does(tmp_path: Path) -> None:
    """The name of the empty file and of a line, as ``git hash-object`` prints them, in memory and on disk."""
    assert PushFile.from_bytes(b"").git_oid() == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    line = PushFile.from_bytes(b"hello\n")
    assert line.git_oid() == "ce013625030ba8dba906f756967f9e9ca394464a"
    (tmp_path / "line").write_bytes(b"hello\n")
    assert PushFile(tmp_path / "line", line.size, line.sha256).git_oid() == line.git_oid()


def test_size_and_digest_of_a_file_in_memory() -> None:
    file = PushFile.from_bytes(b"hello\n")
    assert (file.source, file.size, file.sha256) == (b"hello\n", 6, hashlib.sha256(b"hello\n").hexdigest())
