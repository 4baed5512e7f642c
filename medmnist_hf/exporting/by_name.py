"""`medmnist_hf.export` and `medmnist_hf.montage`: the same as the commands, of data that is found by its name.

Example:
    >>> import medmnist_hf
    >>> medmnist_hf.montage("pathmnist", "pathmnist.png", root="dist", seed=0)  # doctest: +SKIP
    PosixPath('pathmnist.png')
"""

from collections.abc import Sequence
from pathlib import Path

from medmnist_hf.data.rows import open_rows
from medmnist_hf.exporting.export import Exported
from medmnist_hf.exporting.export import export as export_rows
from medmnist_hf.exporting.montage import export_montage


def export(
    name: str | Path,
    out: str | Path,
    size: int | str | None = None,
    form: str | None = None,
    *,
    splits: Sequence[str] = (),
    root: str | Path | None = None,
    revision: str | None = None,
    gcs: str | None = None,
    force: bool = False,
) -> Exported:
    """Write a data set in another form below a folder.

    Args:
        name: Name of the data set, as for `medmnist_hf.load`; an NPZ file will do.
        out: Folder that receives the export; made if needed. Nothing else in it is touched.
        size: Edge length in pixels or voxels; None takes that of the name, or 28.
        form: ``png``, ``imagefolder`` or ``vertex`` for images, ``gif`` for volumes, ``npz`` for both; None is ``png``
            or ``gif``.
        splits: Splits to write; all if empty.
        root: Folder of builds or of NPZ files, as for `medmnist_hf.load_arrays`.
        revision: Branch, tag or commit on the Hub.
        gcs: For ``vertex`` alone: the folder in Cloud Storage that the written one will be copied to.
        force: Replace what an earlier export left under the same name.

    Returns:
        What was written.

    Raises:
        CatalogError: The name is none, or an unknown split or size.
        SourceError: There is no such data, or it holds something else.
        BuildError: A shard is missing or damaged.
        ReadError: The NPZ file is damaged.
        MedMNISTError: A form that does not suit the subset, something is there already, or the folder cannot be
            written to.
    """
    rows = open_rows(name, size, root=root, revision=revision)
    return export_rows(rows, out, form, splits=splits, gcs=gcs, force=force)


def montage(
    name: str | Path,
    path: str | Path,
    size: int | str | None = None,
    *,
    split: str = "train",
    length: int = 20,
    seed: int | None = None,
    replace: bool = False,
    labels: bool = False,
    root: str | Path | None = None,
    revision: str | None = None,
    force: bool = False,
) -> Path:
    """Draw random rows of a split as a square of tiles: a PNG of images, or a GIF through the slices of volumes.

    Args:
        name: Name of the data set, as for `export`.
        path: The picture, ending in ``.png`` for images and ``.gif`` for volumes; its folder is made if needed.
        size: Edge length in pixels or voxels; None takes that of the name, or 28.
        split: ``train``, ``validation`` (or ``val``) or ``test``.
        length: Tiles in each direction.
        seed: Seed of the choice, 0 to 2**32 - 1; None draws others each time.
        replace: A row may be drawn several times.
        labels: Write the name of the class, or of the findings, below each tile.
        root: As for `export`.
        revision: Branch, tag or commit on the Hub.
        force: Replace the file if it is there.

    Returns:
        The path of the picture.

    Raises:
        CatalogError: The name is none, or an unknown split or size.
        SourceError: There is no such data, or it holds something else.
        BuildError: A shard is missing or damaged.
        ReadError: The NPZ file is damaged.
        MedMNISTError: The ending does not suit, too few rows, too large a picture, the file is there already or
            cannot be written.
    """
    rows = open_rows(name, size, root=root, revision=revision)
    return export_montage(
        rows, path, split=split, length=length, seed=seed, replace=replace, labels=labels, force=force
    )
