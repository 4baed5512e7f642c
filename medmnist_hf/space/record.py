"""What a folder of the Space holds besides the page: ``data/site.json`` records each picture and its provenance."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from medmnist_hf.errors import BuildError, cannot_read
from medmnist_hf.files import read_document
from medmnist_hf.manifest import Provenance
from medmnist_hf.typed_json import Bounds, Name, OneOf, Pattern, Sha256, decode_versioned, encode, text_of

RECORD_NAME: Final = "data/site.json"
PICTURES: Final = "pictures"
"""Folder of the pictures and of the JSON files that describe them."""

FORMAT: Final = 1

GALLERY: Final = "gallery"
ATLAS: Final = "atlas"

_Board = Annotated[str, Pattern(r"data/leaderboard/\w{1,40}\.json", "a leaderboard")]
_Path = Annotated[str, Pattern(rf"{PICTURES}/[\w.-]{{1,200}}", f"a file in {PICTURES}/")]


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of one subset: its gallery, or the atlas of its features by one model.

    Attributes:
        kind: ``gallery`` or ``atlas``.
        subset: Flag of the subset.
        size: Edge length of the images in pixels or voxels.
        model: Model of the features; empty for a gallery.
        provenance: Provenance of the images: ``verified``, ``unverified`` or ``synthetic``.
        data: The JSON file that describes them.
        cover: A small picture of a gallery; empty for an atlas.
        files: Path -> SHA-256, for all of their files.
    """

    kind: Annotated[str, OneOf(GALLERY, ATLAS)]
    subset: Name
    size: Annotated[int, Bounds(1)]
    model: str
    provenance: Annotated[str, OneOf(*Provenance)]
    data: _Path
    cover: str
    files: dict[_Path, Sha256]


@dataclass(frozen=True, slots=True)
class Record:
    """What a folder holds besides the page of this version.

    Attributes:
        pictures: The pictures, in the order in which the page lists them.
        boards: Path -> SHA-256, for the leaderboards with further results than published ones.
    """

    pictures: tuple[Pictures, ...] = ()
    boards: dict[_Board, Sha256] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of ``data/site.json``."""
        return text_of({"format": FORMAT} | encode(self))


def compact(value: object) -> str:
    """The text of a JSON file without spaces, since the page loads it."""
    return json.dumps(encode(value), ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def read_record(folder: Path) -> Record:
    """Read the record of a folder.

    Raises:
        BuildError: The folder is not one of the Space, or the record is not valid.
    """
    path = folder / RECORD_NAME
    remedy = "write the folder with medmnist-hf space"
    try:
        text = read_document(path)
    except (FileNotFoundError, NotADirectoryError):
        raise BuildError(f"no {RECORD_NAME} in {folder}, so it is not a folder of the Space: {remedy}") from None
    except OSError as error:
        raise BuildError(cannot_read(path, error, remedy)) from None
    try:
        record: Record = decode_versioned(text, Record, FORMAT)
        for each in record.pictures:
            if not {each.data, each.cover} <= {*each.files, ""}:
                raise ValueError(f"the files of {each.subset} lack {each.data} or {each.cover}")
    except ValueError as error:
        raise BuildError(f"{path} is not valid ({error}): {remedy}") from None
    return record
