"""A config out of Parquet, into the forms other tools read: official PNG or GIF with CSV, ImageFolder, NPZ, Vertex AI.

What is written lies below a folder under the name of the official file, so several subsets and sizes share it::

    OUT/pathmnist_64/train0_3.png   OUT/pathmnist_64.csv      png, gif (as the `save` of the official package)
    OUT/pathmnist_64/train/3_lymphocytes/train00000.png       imagefolder
    OUT/pathmnist_64.npz                                      npz
    OUT/pathmnist_64/train/train00000.png   OUT/pathmnist_64/import.jsonl    vertex
"""

import json
import re
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.lib import format as npy

from medmnist_hf.catalog import NPZ_SPLITS, SPLITS, Subset, Task
from medmnist_hf.data.rows import Rows
from medmnist_hf.errors import MedMNISTError, first_line
from medmnist_hf.export.images import FRAME_MS, gif_files, png_files
from medmnist_hf.export.montage import montage, save_gif, save_png, volume_montage
from medmnist_hf.export.vertex import write_vertex
from medmnist_hf.files import sync_folder
from medmnist_hf.manifest import MANIFEST_NAME
from medmnist_hf.vertex import check_folder

Progress = Callable[[int], object]

_AUTOML_SPLITS: Final = {"train": "TRAIN", "validation": "VALIDATION", "test": "TEST"}
_DEFLATE_LEVEL: Final = 6
"""That of `numpy.savez_compressed`."""

_MONTAGE_BYTES: Final = 1 << 30
"""Raw pixels of the largest montage."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Attributes:
        paths: The folder and files that now lie in the target folder.
        rows: Images or volumes written.
    """

    paths: tuple[Path, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class _Format:
    """One way out: for which dimensions, under which names, written by what; `located` if that needs a folder too."""

    ndims: tuple[int, ...]
    suffixes: tuple[str, ...]
    write: Callable[..., None]
    located: bool = False


def export(
    rows: Rows,
    out: str | Path,
    form: str | None = None,
    *,
    splits: Sequence[str] = (),
    gcs: str | None = None,
    force: bool = False,
    on_progress: Progress = lambda rows: None,
) -> Exported:
    """Write a config below a folder in another form.

    All is written beside its place and moved there when it is complete. Memory is bounded by one block of rows and
    the labels, whatever the size of the config.

    Args:
        rows: The config, see `medmnist_hf.data.rows.open_rows`.
        out: Folder that receives the export; made if needed. Nothing else in it is touched.
        form: ``png``, ``imagefolder`` or ``vertex`` for images, ``gif`` for volumes, ``npz`` for both; None is ``png``
            or ``gif``.
        splits: Splits to write; all if empty.
        gcs: For ``vertex``, and for that alone: the folder in Cloud Storage that the written one will be copied to, as
            ``gs://BUCKET/FOLDER``.
        force: Replace what an earlier export left under the same name.
        on_progress: Called with a number of rows as they are written.

    Raises:
        CatalogError: Unknown split.
        SourceError: The config lacks a split or holds something else.
        BuildError: A shard is missing or damaged.
        MedMNISTError: Unknown form or one that does not suit the subset, `gcs` is missing or no such folder, something
            is there already, or the folder cannot be written to.
    """
    out, entry = Path(out).expanduser(), rows.entry
    form = form or ("gif" if entry.ndim == 3 else "png")
    plan = _format(form, entry)
    write = _located(plan, form, gcs)
    total = rows_of(rows, splits)
    chosen = [split for split in SPLITS if split in splits or not splits]
    name = official_name(entry, rows.size)
    targets = tuple(out / f"{name}{suffix}" for suffix in plan.suffixes)
    _check_free(targets, force=force)
    try:
        with _staged(out, targets) as stage:
            write(rows, chosen, stage, name, on_progress)
    except OSError as error:
        raise MedMNISTError(
            f"cannot write {targets[0]} ({first_line(error)}): check the folder and its space"
        ) from None
    return Exported(targets, total)


def rows_of(rows: Rows, splits: Sequence[str] = ()) -> int:
    """Rows that an export of some splits writes; of all splits if none is named.

    Raises:
        CatalogError: Unknown split.
        SourceError: The config lacks a split.
        MedMNISTError: A split is empty.
    """
    return sum(_filled(rows, split) for split in dict.fromkeys(splits or SPLITS))


def official_name(subset: Subset, size: int) -> str:
    """What the official package calls a config: flag and size, without the size at 28, e.g. ``pathmnist_224``."""
    return subset.file(size).name.removesuffix(".npz")


def class_folder(subset: Subset, label: int) -> str:
    """Folder of a class in an ImageFolder, e.g. ``7_cancer-associated-stroma``.

    Readers of such folders number classes in the order of their names; the leading number, padded to one width, makes
    that the order of the labels, so that a class keeps its id. All other characters than ASCII letters and digits
    become hyphens, since some label names hold commas and brackets.
    """
    width = len(str(len(subset.labels) - 1))
    return f"{label:0{width}d}_{re.sub(r'[^A-Za-z0-9]+', '-', subset.labels[label]).strip('-')}"


def export_montage(
    rows: Rows,
    path: str | Path,
    *,
    split: str = "train",
    length: int = 20,
    seed: int | None = None,
    replace: bool = False,
    force: bool = False,
) -> Path:
    """Draw random rows of a split as a square of tiles: a PNG of images, or a GIF through the slices of volumes.

    The rows are those the official `montage` picks after ``numpy.random.seed(seed)``, in the same places.

    Args:
        rows: The config, see `medmnist_hf.data.rows.open_rows`.
        path: The picture, ending in ``.png`` for images and ``.gif`` for volumes; its folder is made if needed.
        split: Name of a split.
        length: Tiles in each direction.
        seed: Seed of the choice, 0 to 2**32 - 1; None draws others each time.
        replace: A row may be drawn several times.
        force: Replace the file if it is there.

    Returns:
        The path of the picture.

    Raises:
        CatalogError: Unknown split.
        SourceError: The config lacks the split or holds something else.
        BuildError: A shard is missing or damaged.
        MedMNISTError: The ending does not suit, too few rows, too large a picture, the file is there already or
            cannot be written.
    """
    path, entry = Path(path).expanduser(), rows.entry
    suffix, kind = (".gif", "volumes") if entry.ndim == 3 else (".png", "images")
    if path.suffix.lower() != suffix:
        raise MedMNISTError(f"no montage of {entry.flag} as {path.name}: it holds {kind}, name a file *{suffix}")
    count = _filled(rows, split)
    row_bytes = int(np.prod(rows.shape))
    if length < 1 or length * length * row_bytes > _MONTAGE_BYTES:
        most = int((_MONTAGE_BYTES // row_bytes) ** 0.5)
        raise MedMNISTError(
            f"no montage of {length} x {length} {kind} at size {rows.size}: give a length of 1 to {most}"
        )
    if seed is not None and not 0 <= seed < 1 << 32:
        raise MedMNISTError(f"no montage with the seed {seed}: give one of 0 to {(1 << 32) - 1}")
    if length * length > count and not replace:
        raise MedMNISTError(
            f"{split} of {entry.flag} has {count} {kind}, a montage of {length} x {length} needs {length * length}: "
            f"give a length of at most {int(count**0.5)}, or allow repeats with --replace"
        )
    if path.is_dir() or (path.exists() and not force):
        raise MedMNISTError(
            f"{path} is there already: choose another name{'' if path.is_dir() else ' or pass --force'}"
        )
    images = rows.sample(split, np.random.RandomState(seed).choice(count, length * length, replace))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.ndim == 3:
            save_gif(volume_montage(images, length, border=0), path, milliseconds=FRAME_MS)
        else:
            save_png(montage(images, length, border=0), path)
    except OSError as error:
        raise MedMNISTError(f"cannot write {path} ({first_line(error)}): check the folder and its space") from None
    return path


def _format(form: str, subset: Subset) -> _Format:
    if form not in _FORMATS:
        raise MedMNISTError(f"unknown format {form!r}: choose from {', '.join(_FORMATS)}")
    if subset.ndim not in _FORMATS[form].ndims:
        kind = "volumes" if subset.ndim == 3 else "images"
        *others, last = (name for name, each in _FORMATS.items() if subset.ndim in each.ndims)
        fit = f"{', '.join(others)} or {last}"
        raise MedMNISTError(f"{subset.flag} holds {kind}, which the format {form} does not take: choose {fit}")
    return _FORMATS[form]


def _located(plan: _Format, form: str, gcs: str | None) -> Callable[..., None]:
    """What writes a form, told of the folder in Cloud Storage where the form needs it."""
    if plan.located:
        return partial(plan.write, folder=check_folder(gcs))
    if gcs is not None:
        raise MedMNISTError(f"the format {form} names nothing in Cloud Storage: leave out --gcs, or take vertex")
    return plan.write


def _filled(rows: Rows, split: str) -> int:
    count = rows.count(split)
    if not count:
        raise MedMNISTError(f"{split} of {rows.where} is empty: leave it out with --split")
    return count


def _check_free(targets: Sequence[Path], *, force: bool) -> None:
    for target in targets:
        if any(target.glob(f"*/{MANIFEST_NAME}")):
            raise MedMNISTError(f"{target} is a build, which no export replaces: choose another folder with --out")
        if not force and (target.exists() or target.is_symlink()):
            raise MedMNISTError(f"{target} is there already: choose another folder, or pass --force to replace it")


@contextmanager
def _staged(out: Path, targets: Sequence[Path]) -> Iterator[Path]:
    """A hidden folder beside the targets; what lies in it under their names is moved there at the end."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    stage = out / f".{targets[0].name}.{secrets.token_hex(4)}.tmp"
    try:
        stage.mkdir(parents=True)
        new, old = stage / "new", stage / "old"
        new.mkdir()
        old.mkdir()
        yield new
        # The last target goes first and comes last: where the CSV lies, its images are complete.
        for target in reversed(targets):
            if target.exists() or target.is_symlink():
                target.rename(old / target.name)
        for target in targets:
            (new / target.name).rename(target)
        sync_folder(out)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise
    shutil.rmtree(stage, ignore_errors=True)


def _write_png(rows: Rows, splits: Sequence[str], stage: Path, name: str, on_progress: Progress) -> None:
    files = ((split, png_files(rows, split)) for split in splits)
    _write_official(rows, files, stage / name, suffix="png", on_progress=on_progress)


def _write_gif(rows: Rows, splits: Sequence[str], stage: Path, name: str, on_progress: Progress) -> None:
    files = ((split, gif_files(rows, split)) for split in splits)
    _write_official(rows, files, stage / name, suffix="gif", on_progress=on_progress)


def _write_official(
    rows: Rows,
    files: Iterable[tuple[str, Iterator[list[bytes]]]],
    folder: Path,
    *,
    suffix: str,
    on_progress: Progress,
) -> None:
    """Names and CSV lines as `medmnist.utils.save_fn` of release 3.0.2 makes them."""
    folder.mkdir()
    with folder.with_name(f"{folder.name}.csv").open("x", encoding="utf-8", newline="") as table:
        for split, blocks in files:
            index, labels = 0, rows.labels(split)
            for block in blocks:
                for content in block:
                    texts = [str(value) for value in labels[index].tolist()]
                    file = f"{NPZ_SPLITS[split]}{index}_{'_'.join(texts)}.{suffix}"
                    (folder / file).write_bytes(content)
                    table.write(f"{_AUTOML_SPLITS[split]},{file},{','.join(texts)}\n")
                    index += 1
                on_progress(len(block))


def _write_imagefolder(rows: Rows, splits: Sequence[str], stage: Path, name: str, on_progress: Progress) -> None:
    """One folder a class; for the multi-label task ``metadata.jsonl`` with the ids of the findings present."""
    multi = rows.entry.task is Task.MULTI_LABEL
    classes = [class_folder(rows.entry, label) for label in range(len(rows.entry.labels))]
    for split in splits:
        labels, folder = rows.labels(split), stage / name / split
        places = [folder] if multi else [folder / each for each in classes]
        if not multi and (missing := sorted(set(range(len(classes))) - set(labels[:, 0].tolist()))):
            raise MedMNISTError(
                f"{split} of {rows.where} has no row of class {rows.entry.labels[missing[0]]!r}, so that readers of "
                "an ImageFolder would number its classes otherwise: choose the format png or npz"
            )
        for place in places:
            place.mkdir(parents=True)
        index, width = 0, len(str(len(labels) - 1))
        lines = []
        for block in png_files(rows, split):
            for content in block:
                file = f"{split}{index:0{width}d}.png"
                (places[0 if multi else labels[index, 0]] / file).write_bytes(content)
                if multi:
                    lines.append(json.dumps({"file_name": file, "label": np.flatnonzero(labels[index]).tolist()}))
                index += 1
            on_progress(len(block))
        if multi:
            (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_npz(rows: Rows, splits: Sequence[str], stage: Path, name: str, on_progress: Progress) -> None:
    """The official members in the official order, which is another one for volumes; deflated as `numpy` does."""
    if rows.entry.ndim == 3:
        members = [(split, part) for split in splits for part in ("images", "labels")]
    else:
        members = [(split, part) for part in ("images", "labels") for split in splits]
    with zipfile.ZipFile(stage / f"{name}.npz", "x", zipfile.ZIP_DEFLATED, compresslevel=_DEFLATE_LEVEL) as archive:
        for split, part in members:
            labels = rows.labels(split)
            shape = labels.shape if part == "labels" else (len(labels), *rows.shape)
            # A member's size is not known to zipfile beforehand: ZIP64 always, as `numpy.savez` has it.
            with archive.open(f"{NPZ_SPLITS[split]}_{part}.npy", "w", force_zip64=True) as member:
                npy.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
                if part == "labels":
                    member.write(labels.tobytes())
                    continue
                for block in rows.images(split):
                    member.write(np.ascontiguousarray(block).data)
                    on_progress(len(block))


_FORMATS: Final = {
    "png": _Format((2,), ("", ".csv"), _write_png),
    "imagefolder": _Format((2,), ("",), _write_imagefolder),
    "gif": _Format((3,), ("", ".csv"), _write_gif),
    "npz": _Format((2, 3), (".npz",), _write_npz),
    "vertex": _Format((2,), ("",), write_vertex, located=True),
}

FORMATS: Final = tuple(_FORMATS)
"""Names of the forms a config can be exported in."""
