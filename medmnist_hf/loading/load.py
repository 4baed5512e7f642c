"""`load` and `load_arrays`: `medmnist_hf.places` finds the data, and `medmnist_hf.data` reads it.

Neither can build what is missing: that lies above them.
"""

from pathlib import Path
from typing import Any

from medmnist_hf.catalog import DEFAULT_SIZE, split_name
from medmnist_hf.data.arrays import Arrays, arrays_at
from medmnist_hf.errors import SourceError
from medmnist_hf.files import expand_user
from medmnist_hf.places.local_paths import check_loadable
from medmnist_hf.places.names import parse_name
from medmnist_hf.places.resolver import Place, builds_cache, find, find_below, find_local, wanted_size


def load(
    name: str | Path,
    size: int | str | None = None,
    split: str | None = None,
    root: str | Path | None = None,
    *,
    revision: str | None = None,
    streaming: bool = False,
    build: bool = False,
    **options: Any,
) -> Any:
    """Load a data set in one size.

    The rows are those of the folder, or of the commit on the Hub, that is found: a copy that `datasets` prepared of
    another build or commit is never used. A build that was not named and is not verified is logged.

    Args:
        name: A flag in any letter case, also with a size (``pathmnist``, ``pathmnist-64``); a repository on the Hub
            (``you/pathmnist``, ``you/pathmnist@v1``); or the path of a build (``dist/pathmnist``).
        size: Edge length in pixels or voxels; None takes that of the name, or 28.
        split: ``train``, ``validation`` (or ``val``), ``test``, or an expression such as ``train[:10%]``; None for
            all splits.
        root: Folder of builds, the ``--root`` of ``medmnist-hf build``, and the only place that is looked at. By
            default that of the environment variable ``MEDMNIST_DATA``, ``dist``, the user's cache of builds, then the
            Hub.
        revision: Branch, tag or commit on the Hub, which is then the only place.
        streaming: Read while iterating instead of preparing a local copy.
        build: Where no build is on this machine, make one, in `root` or the user's cache of builds: the official file
            is downloaded from Zenodo, unless ``MEDMNIST_ROOT`` has it, checked and converted. Nothing is asked of the
            Hub. Needs the extra ``build``.
        **options: Further arguments of `datasets.load_dataset`.

    Returns:
        A `datasets.Dataset` for one split, a `datasets.DatasetDict` for all; the iterable forms when streaming. Column
        ``image`` holds a PIL image (2D) or a nested list of uint8 voxels (3D), column ``label`` a class id, or for
        ChestMNIST the list of the findings present. A row that holds something else is a `SourceError` when it is
        decoded.

    Raises:
        CatalogError: The name is none, or an unknown split or size.
        SourceError: There is no such data in any of the places; the message names them and how to build. Or its card
            is of another build, its path is none that `datasets` can read, the Hub refuses, or the official file
            cannot be fetched.
        BuildError: The build is damaged, or cannot be written.
        MedMNISTError: An unknown argument.
    """
    from medmnist_hf.data.loading import check_options, load_place

    check_options(options)
    if root is not None:
        check_loadable(expand_user(root))
    place = _find(name, size, root, revision, build=build, npz=False)
    return load_place(place, split, streaming=streaming, options=options)


def load_arrays(
    name: str | Path,
    size: int | str | None = None,
    split: str = "train",
    root: str | Path | None = None,
    *,
    revision: str | None = None,
    build: bool = False,
    cache_dir: str | Path | None = None,
    cache: bool = True,
) -> Arrays:
    """Load a split of a data set as arrays.

    It is decoded once, into files that all later calls and processes map into memory: only what is looked at is read,
    so that a split may be larger than the memory. The files are found again by digests of the data, so they are never
    those of another build.

    Args:
        name: As for `load`; or an NPZ file named as the official one, or a folder with it. Of an NPZ file that is not
            the official one it is logged that it is unverified.
        size: Edge length in pixels or voxels; None takes that of the name, or 28.
        split: ``train``, ``validation`` (or ``val``) or ``test``. For parts or unions of them see `to_arrays`.
        root: As for `load`; it may hold NPZ files.
        revision: As for `load`.
        build: As for `load`.
        cache_dir: Folder of the decoded files; ``HF_HOME/medmnist-hf/arrays`` if None.
        cache: False decodes into memory and writes nothing.

    Returns:
        The split in the order of the official file. Cached images share their memory with all processes that read
        them; `torch.from_numpy` takes them as they are. What you write to them is copied and stays with your process.

    Raises:
        CatalogError: The name is none, or an unknown split or size.
        SourceError: As for `load`.
        BuildError: A shard is missing or damaged, or a build cannot be written.
        ReadError: The NPZ file is damaged, or of another subset.
        MedMNISTError: The cache has no room or cannot be written to.
    """
    split = split_name(split)
    place = _find(name, size, root, revision, build=build, npz=True)
    return arrays_at(place, split, cache_dir=cache_dir, cache=cache)


def _find(
    name: str | Path, size: int | str | None, root: str | Path | None, revision: str | None, *, build: bool, npz: bool
) -> Place:
    if not build:
        return find(name, size, root=root, revision=revision, npz=npz)
    named = parse_name(name)
    if named.entry is None or named.repository is not None or revision is not None:
        raise SourceError(f"build=True builds what is named by its flag, e.g. pathmnist, not {named.text}")
    from medmnist_hf.loading.build_missing import build_missing

    entry = named.entry
    number = wanted_size(named, size, entry) or DEFAULT_SIZE
    if root is None:
        return find_local(entry, number, npz=npz) or build_missing(entry, number, builds_cache())
    folder = expand_user(root)
    return find_below(folder, entry, number, npz=npz) or build_missing(entry, number, folder)
