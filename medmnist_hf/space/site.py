"""Write the folder of the Space: the page, the facts it reads, and pictures of subsets that are built."""

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from medmnist_hf.catalog import subsets
from medmnist_hf.errors import BuildError, cannot_write
from medmnist_hf.files import write_atomically
from medmnist_hf.leaderboard.results import Result
from medmnist_hf.space.facts import board_facts, boards_of, subset_facts
from medmnist_hf.space.pictures import PictureFiles
from medmnist_hf.space.record import PICTURES, RECORD_NAME, Pictures, Record, compact


@cache
def page_files(entries: tuple[Result, ...] = ()) -> dict[str, bytes]:
    """The files of the page and of its facts: path -> content; pictures and the record of them are not among them.

    Args:
        entries: Further results for the leaderboards than published ones.
    """
    files = dict(_walk(resources.files("medmnist_hf.space").joinpath("static")))
    facts = {"subsets": subset_facts(), "leaderboard": board_facts()}
    facts |= {f"leaderboard/{entry.flag}": boards_of(entry.flag, entries) for entry in subsets()}
    return files | {f"data/{name}.json": compact(value).encode() for name, value in facts.items()}


def _walk(folder: Traversable, prefix: str = "") -> Iterable[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _walk(entry, f"{path}/")
        else:
            yield path, entry.read_bytes()


def write_site(out: Path, pictures: Iterable[PictureFiles] = (), entries: Iterable[Result] = ()) -> Record:
    """Write the folder of the Space; pictures of an earlier run that are not written again are removed.

    Args:
        out: The folder; it must be missing, empty or written before.
        pictures: The pictures, which are written one after another.
        entries: Further results for the leaderboards.

    Returns:
        The record of the pictures, which is written last.

    Raises:
        BuildError: The folder holds other files or is not writable, or two pictures have the same name.
    """
    records: list[Pictures] = []
    page = page_files(tuple(entries))
    boards = {path: hashlib.sha256(page[path]).hexdigest() for path in page if page[path] != page_files().get(path)}
    try:
        if not (out / RECORD_NAME).is_file():
            if out.is_dir() and any(out.iterdir()):
                raise BuildError(f"{out} holds other files: choose a new folder for the Space")
            _write(out / RECORD_NAME, Record().to_json().encode())  # an interrupted run can be repeated
        for path, content in page.items():
            _write(out / path, content)
        for each in pictures:
            if any(each.record.data == other.data for other in records):
                raise BuildError(f"{each.record.data} would be written twice: are two of the feature stores the same?")
            for path, content in each.files.items():
                _write(out / path, content)
            records.append(each.record)
        record = Record(tuple(records), boards)
        _write(out / RECORD_NAME, record.to_json().encode())
        kept = {path for each in records for path in each.files}
        for file in (out / PICTURES).glob("*"):
            if f"{PICTURES}/{file.name}" not in kept:
                file.unlink()
    except OSError as error:
        raise BuildError(cannot_write(f"the Space in {out}", error, "run again")) from None
    return record


def stale_files(folder: Path) -> list[str]:
    """Paths of the files in a folder that are missing, foreign, or differ from a Space without pictures."""
    expected = {**page_files(), RECORD_NAME: Record().to_json().encode()}
    existing = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return sorted(path for path in expected.keys() | existing.keys() if expected.get(path) != existing.get(path))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
