"""A file as it will lie on the Hub, known by its size and digest; what may leave this machine as one.

A folder may come from anywhere, and what a link in it points to may be any file of whoever pushes. So a file is taken
only if it is a regular one and neither it nor a folder on the way to it is a link.
"""

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Self

from medmnist_hf.errors import first_line
from medmnist_hf.files import UnfitFileError, open_regular, read_document

_PICTURE_BYTES: Final = 16 << 20
"""Bytes of the largest picture: those that cards and models show have 2 MB at most."""

_PICTURE_PIXELS: Final = 1 << 28
"""Pixels of all frames of the largest picture, so that decoding it takes seconds: those of cards have 20 million."""


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

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> Self:
        """A file of any size that stays on disk; arguments and errors as in `inside`."""
        path = inside(folder, name)
        with open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(path, file.tell(), digest)

    @classmethod
    def document(cls, folder: Path, name: str) -> Self:
        """A small file that is kept as it was read; arguments and errors as in `inside`."""
        return cls.from_bytes(read_document(inside(folder, name)))

    @classmethod
    def picture(cls, folder: Path, name: str) -> Self:
        """A PNG or GIF, by the end of its name, whose frames can all be decoded.

        Raises:
            UnfitFileError: As in `inside`, or it is no such picture.
            OSError: It cannot be read.
        """
        content = read_document(inside(folder, name), _PICTURE_BYTES)
        kind = PurePosixPath(name).suffix.removeprefix(".").upper()
        try:
            _decode(content, kind)
        except Exception as error:  # Pillow's readers raise whatever the first wrong byte leads to
            raise UnfitFileError(folder / name, f"it is no {kind} that can be shown: {first_line(error)}") from None
        return cls.from_bytes(content)

    def git_oid(self) -> str:
        """Git's name for the content as a regular file: SHA-1 over the header ``blob SIZE NUL`` and the content."""
        content = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def inside(folder: Path, name: str) -> Path:
    """The path of a file below a folder, if it may leave this machine.

    Args:
        folder: The folder, which may itself be a link.
        name: Path below it, with slashes.

    Raises:
        UnfitFileError: It is not below the folder, or a link leads to it.
    """
    parts, path = PurePosixPath(name).parts, folder
    if PurePosixPath(name).is_absolute() or ".." in parts:
        raise UnfitFileError(folder / name, "it lies outside of the folder that is pushed")
    for part in parts:
        path /= part
        if path.is_symlink():
            raise UnfitFileError(path, f"it is a link, to {os.readlink(path)}, and a push follows none")  # noqa: PTH115
    return path


def _decode(content: bytes, kind: str) -> None:
    from PIL import Image  # noqa: PLC0415  (a push of a model without figures does without)

    with Image.open(io.BytesIO(content), formats=(kind,)) as picture:
        left = _PICTURE_PIXELS
        for frame in range(getattr(picture, "n_frames", 1)):
            left -= picture.width * picture.height
            if left < 0:
                raise ValueError(f"it has more than {_PICTURE_PIXELS:,} pixels")
            picture.seek(frame)
            picture.load()
