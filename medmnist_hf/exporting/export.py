"""Export a config to the formats of other tools: official PNG or GIF with CSV, ImageFolder, NPZ, Vertex AI.

Exports are named after the official file, so one folder can hold several subsets and sizes::

    OUT/pathmnist_64/train0_3.png   OUT/pathmnist_64.csv      png, gif (as the `save` of the official package)
    OUT/pathmnist_64/train/3_lymphocytes/train00000.png       imagefolder
    OUT/pathmnist_64.npz                                      npz
    OUT/pathmnist_64/train/train00000.png   OUT/pathmnist_64/import.jsonl    vertex
"""

import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from medmnist_hf.catalog import SPLITS, Subset, entries, split_name
from medmnist_hf.data.rows import Rows
from medmnist_hf.errors import MedMNISTError, cannot_write
from medmnist_hf.exporting.imagefolder import write_imagefolder
from medmnist_hf.exporting.npz import write_npz
from medmnist_hf.exporting.official import write_gif, write_png
from medmnist_hf.exporting.vertex import write_vertex
from medmnist_hf.files import BusyError, expand_user, sole_process, sync_folder
from medmnist_hf.manifest import MANIFEST_NAME
from medmnist_hf.vertex import check_folder

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Exported:
    """Result of an export.

    Attributes:
        paths: The files and folders written.
        rows: Number of images or volumes written.
    """

    paths: tuple[Path, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Format:
    """An export format.

    Attributes:
        ndims: 2 if it supports images, 3 if it supports volumes.
        suffixes: Suffixes of the files and folders that it writes, after the name of the config. The last one is
            written last, so its presence implies a complete export.
        write: Called with the config, the splits in order, a folder, the official name of the config and a progress
            function, which it calls with the number of rows just written. Writes ``NAME + suffix`` to the folder for
            each suffix. May raise `OSError`.
        in_cloud_storage: Whether `write` also needs `folder`, the ``gs://BUCKET/FOLDER`` that the export is copied to.
    """

    ndims: tuple[int, ...]
    suffixes: tuple[str, ...]
    write: Callable[..., None]
    in_cloud_storage: bool = False


_LOCK: Final = ".lock"
"""Lock file in the hidden folder of a running export."""

FORMATS: Final = {
    "png": Format((2,), ("", ".csv"), write_png),
    "imagefolder": Format((2,), ("",), write_imagefolder),
    "gif": Format((3,), ("", ".csv"), write_gif),
    "npz": Format((2, 3), (".npz",), write_npz),
    "vertex": Format((2,), ("",), write_vertex, in_cloud_storage=True),
}
"""All formats by name. To add one, write its function in a new module and list it here."""


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
    """Export a config to a folder, in the format of another tool.

    The export is written to a hidden folder and moved into place when it is complete. Memory is bounded by one block
    of rows and the labels, for configs of any size.

    Args:
        rows: The config, see `medmnist_hf.data.rows.open_rows`.
        out: Folder that receives the export; created if needed. Other files in it are not touched.
        form: ``png``, ``imagefolder`` or ``vertex`` for images, ``gif`` for volumes, ``npz`` for both. By default
            ``png`` for images and ``gif`` for volumes.
        splits: Splits to write; all if empty.
        gcs: Only for ``vertex``: the folder in Cloud Storage that the export will be copied to, as
            ``gs://BUCKET/FOLDER``.
        force: Replace an earlier export of the same name.
        on_progress: Called with the number of rows just written.

    Raises:
        CatalogError: Unknown split.
        SourceError: The config lacks a split or holds something else.
        BuildError: A shard is missing or damaged.
        MedMNISTError: The format is unknown or does not suit the subset, `gcs` is missing or not valid, the target
            already exists, or the folder is not writable.
    """
    out, entry = expand_user(out), rows.entry
    form = form or ("gif" if entry.ndim == 3 else "png")
    plan = _format(form, entry)
    write = _bind_folder(plan, form, gcs)
    splits = [split_name(split) for split in splits]
    total = rows_of(rows, splits)
    chosen = [split for split in SPLITS if split in splits or not splits]
    name = official_name(entry, rows.size)
    targets = tuple(out / f"{name}{suffix}" for suffix in plan.suffixes)
    _check_free(targets, force=force)
    try:
        with _staged(out, targets) as stage:
            write(rows, chosen, stage, name, on_progress)
    except OSError as error:
        raise MedMNISTError(cannot_write(targets[0], error, "check the folder")) from None
    return Exported(targets, total)


def rows_of(rows: Rows, splits: Sequence[str] = ()) -> int:
    """Number of rows in some splits; in all if `splits` is empty.

    Raises:
        CatalogError: Unknown split.
    """
    return sum(rows.count(split) for split in dict.fromkeys(map(split_name, splits or SPLITS)))


def official_name(subset: Subset, size: int) -> str:
    """The official package's name of a config: flag and size, without the size at 28, e.g. ``pathmnist_224``."""
    return subset.file(size).name.removesuffix(".npz")


def _format(form: str, subset: Subset) -> Format:
    if form not in FORMATS:
        raise MedMNISTError(f"unknown format {form!r}: choose from {', '.join(FORMATS)}")
    if subset.ndim not in FORMATS[form].ndims:
        kind = "volumes" if subset.ndim == 3 else "images"
        *others, last = (name for name, each in FORMATS.items() if subset.ndim in each.ndims)
        fit = f"{', '.join(others)} or {last}"
        raise MedMNISTError(f"{subset.flag} holds {kind}, which the format {form} does not support: choose {fit}")
    return FORMATS[form]


def _bind_folder(plan: Format, form: str, gcs: str | None) -> Callable[..., None]:
    """The format's `write`, with the folder in Cloud Storage if it needs one."""
    if plan.in_cloud_storage:
        return partial(plan.write, folder=check_folder(gcs))
    if gcs is not None:
        raise MedMNISTError(f"the format {form} does not use Cloud Storage: leave out --gcs, or choose vertex")
    return plan.write


def _check_free(targets: Sequence[Path], *, force: bool) -> None:
    for target in targets:
        if any(target.glob(f"*/{MANIFEST_NAME}")):
            raise MedMNISTError(f"{target} is a build, which an export never replaces: choose another --out")
        if not force and (target.exists() or target.is_symlink()):
            raise MedMNISTError(f"{target} already exists: choose another folder, or pass --force to replace it")


@contextmanager
def _staged(out: Path, targets: Sequence[Path]) -> Iterator[Path]:
    """Yield a hidden folder next to the targets, and move its files to the targets at the end."""
    created = [folder for folder in (out, *out.parents) if not folder.exists()]
    stage = out / f".{targets[0].name}.{secrets.token_hex(4)}.tmp"
    try:
        stage.mkdir(parents=True)
        with sole_process(stage / _LOCK, f"exporting to {stage}"):
            _remove_unfinished(out, stage)
            new, old = stage / "new", stage / "old"
            new.mkdir()
            old.mkdir()
            yield new
            # Move the last one (the CSV) away first and back last, so that a CSV implies complete images.
            for target in reversed(targets):
                if target.exists() or target.is_symlink():
                    target.rename(old / target.name)
            for target in targets:
                (new / target.name).rename(target)
            sync_folder(out)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        for folder in created:
            with suppress(OSError):
                folder.rmdir()
        raise
    shutil.rmtree(stage, ignore_errors=True)


def _remove_unfinished(out: Path, own: Path) -> None:
    """Remove the hidden folders of killed exports of any config; running exports hold their lock."""
    names = "|".join(re.escape(official_name(entry, file.size)) for entry in entries() for file in entry.files)
    stage = re.compile(rf"\.({names})(\.npz)?\.[0-9a-f]{{8}}\.tmp")
    for path in list(out.iterdir()):
        if path != own and stage.fullmatch(path.name) and (path / _LOCK).is_file() and not path.is_symlink():
            with suppress(BusyError), sole_process(path / _LOCK, "exporting", wait=False):
                shutil.rmtree(path, ignore_errors=True)
