"""`medmnist_hf.export` and `medmnist_hf.montage`, the Python counterparts of the commands.

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
    """Export a data set to a folder, in the format of another tool.

    Args:
        name: Name of the data set, as for `medmnist_hf.load`, or an NPZ file.
        out: Folder that receives the export; created if needed. Other files in it are not touched.
        size: Edge length in pixels or voxels; if None, that of the name, or 28.
        form: ``png``, ``imagefolder`` or ``vertex`` for images, ``gif`` for volumes, ``npz`` for both. By default
            ``png`` for images and ``gif`` for volumes.
        splits: Splits to write; all if empty.
        root: Folder of builds or of NPZ files, as for `medmnist_hf.load_arrays`.
        revision: Branch, tag or commit on the Hub.
        gcs: Only for ``vertex``: the folder in Cloud Storage that the export will be copied to.
        force: Replace an earlier export of the same name.

    Returns:
        The paths and the number of rows written.

    Raises:
        CatalogError: The name, split or size is not valid.
        SourceError: No such data exists, or it holds something else.
        BuildError: A shard is missing or damaged.
        ReadError: The NPZ file is damaged.
        MedMNISTError: The format does not suit the subset, the target already exists, or the folder is not writable.
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
        path: The picture to write, ``*.png`` for images and ``*.gif`` for volumes; its folder is created if needed.
        size: Edge length in pixels or voxels; if None, that of the name, or 28.
        split: ``train``, ``validation`` (or ``val``) or ``test``.
        length: Number of tiles in each direction.
        seed: Seed of the random choice, 0 to 2**32 - 1; None chooses other rows each time.
        replace: Draw rows with replacement.
        labels: Write the name of the class, or of the findings, below each tile.
        root: As for `export`.
        revision: Branch, tag or commit on the Hub.
        force: Replace an existing file.

    Returns:
        The path of the picture.

    Raises:
        CatalogError: The name, split or size is not valid.
        SourceError: No such data exists, or it holds something else.
        BuildError: A shard is missing or damaged.
        ReadError: The NPZ file is damaged.
        MedMNISTError: The suffix is wrong, the split has too few rows, the picture would be too large, or the file
            already exists or cannot be written.
    """
    rows = open_rows(name, size, root=root, revision=revision)
    return export_montage(
        rows, path, split=split, length=length, seed=seed, replace=replace, labels=labels, force=force
    )
