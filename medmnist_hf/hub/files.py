"""Files to push, identified by size and digest, and the check of which files may be pushed.

A folder may come from anywhere, and a link in it may point to any private file of the user. So only regular files are
pushed, and neither the file nor a folder on the way to it may be a link.
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
"""Largest picture in bytes; those on cards and of models have at most 2 MB."""

_PICTURE_PIXELS: Final = 1 << 28
"""Most pixels in all frames of a picture, so that decoding takes seconds; pictures on cards have 20 million."""


@dataclass(frozen=True, slots=True)
class PushFile:
    """One file to push.

    Attributes:
        source: Content of the file, or its local path.
        size: Size in bytes.
        sha256: SHA-256 of the content, 64 hex digits.
    """

    source: Path | bytes
    size: int
    sha256: str

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Make a file from its content."""
        return cls(content, len(content), hashlib.sha256(content).hexdigest())

    @classmethod
    def from_folder(cls, folder: Path, name: str) -> Self:
        """Make a file of any size that stays on disk; arguments and errors as in `inside`."""
        path = inside(folder, name)
        with open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(path, file.tell(), digest)

    @classmethod
    def document(cls, folder: Path, name: str) -> Self:
        """Make a file from a small file that is read into memory; arguments and errors as in `inside`."""
        return cls.from_bytes(read_document(inside(folder, name)))

    @classmethod
    def picture(cls, folder: Path, name: str) -> Self:
        """Make a file from a PNG or GIF, by its suffix, after decoding all its frames.

        Raises:
            UnfitFileError: As in `inside`, or the file is not a valid picture.
            OSError: The file cannot be read.
        """
        content = read_document(inside(folder, name), _PICTURE_BYTES)
        kind = PurePosixPath(name).suffix.removeprefix(".").upper()
        try:
            _decode(content, kind)
        except Exception as error:  # for damaged files Pillow raises errors of many types
            raise UnfitFileError(folder / name, f"it is not a valid {kind}: {first_line(error)}") from None
        return cls.from_bytes(content)

    def git_oid(self) -> str:
        """Return Git's object id of the content: SHA-1 over the header ``blob SIZE NUL`` and the content."""
        content = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file in a folder after checking that it may be pushed.

    Args:
        folder: The folder, which may itself be a link.
        name: Path relative to the folder, with slashes.

    Raises:
        UnfitFileError: The file is outside the folder, or the path contains a link.
    """
    parts, path = PurePosixPath(name).parts, folder
    if PurePosixPath(name).is_absolute() or ".." in parts:
        raise UnfitFileError(folder / name, "it is outside the pushed folder")
    for part in parts:
        path /= part
        if path.is_symlink():
            target = os.readlink(path)  # noqa: PTH115
            raise UnfitFileError(path, f"it is a link to {target}, and links are not pushed")
    return path


def _decode(content: bytes, kind: str) -> None:
    from PIL import Image  # noqa: PLC0415  (not needed to push a model without figures)

    with Image.open(io.BytesIO(content), formats=(kind,)) as picture:
        remaining = _PICTURE_PIXELS
        for frame in range(getattr(picture, "n_frames", 1)):
            remaining -= picture.width * picture.height
            if remaining < 0:
                raise ValueError(f"it has more than {_PICTURE_PIXELS:,} pixels")
            picture.seek(frame)
            picture.load()
