"""A file as it will lie on the Hub, known by its size and digest."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class PushFile:
    """One file to be on the Hub.

    Attributes:
        source: Its content, or the local file that holds it.
        size: Size in bytes.
        sha256: SHA-256 of the content, 64 hex digits.
    """

    source: Path | bytes
    size: int
    sha256: str

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """A file that lies in memory."""
        return cls(content, len(content), hashlib.sha256(content).hexdigest())

    def git_oid(self) -> str:
        """Git's name for the content as a regular file: SHA-1 over the header ``blob SIZE NUL`` and the content."""
        content = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
