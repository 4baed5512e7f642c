"""`load` and `load_arrays`: find the data with `medmnist_hf.places`, read it with `medmnist_hf.data`.

Building a missing config is done here, since both packages are layers below the conversion.
"""

from pathlib import Path
from typing import Any

from medmnist_hf.catalog import DEFAULT_SIZE, split_name
from medmnist_hf.data.arrays import Arrays, arrays_at
from medmnist_hf.errors import SourceError
from medmnist_hf.files import expand_user
from medmnist_hf.places.local_paths import check_loadable
from medmnist_hf.places.names import parse_name
from medmnist_hf.places.resolver import Place, builds_cache, find, find_below, find_local, resolve_config


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

    The rows are always those of the build, or of the commit on the Hub, that is found: a copy that `datasets` prepared
    from another build or commit is never used. An unverified build that was found by its flag logs a warning.

    Args:
        name: A flag in any letter case, optionally with a size (``pathmnist``, ``pathmnist-64``); a repository on the
            Hub (``you/pathmnist``, ``you/pathmnist@v1``); or the path of a build (``dist/pathmnist``).
        size: Edge length in pixels or voxels, or the name of a config such as ``28-corrected``; if None, that of the
            name, or 28.
        split: ``train``, ``validation`` (or ``val``), ``test``, or an expression such as ``train[:10%]``; None for
            all splits.
        root: Folder of builds, as the ``--root`` of ``medmnist-hf build``, and the only place searched. By default,
            the folder in the environment variable ``MEDMNIST_DATA``, ``dist``, the user's cache of builds and the Hub
            are searched, in this order.
        revision: Branch, tag or commit on the Hub, which is then the only place.
        streaming: Read while iterating instead of preparing a local copy.
        build: If there is no local build, create one in `root` or the user's cache of builds. The official file is
            downloaded from Zenodo, unless ``MEDMNIST_ROOT`` has it, then checked and converted. The Hub is not
            contacted. Needs the extra ``build``.
        **options: Further arguments of `datasets.load_dataset`.

    Returns:
        A `datasets.Dataset` for one split or a `datasets.DatasetDict` for all; their iterable variants if streaming.
        Column ``image`` holds a PIL image (2D) or a nested list of uint8 voxels (3D), column ``label`` a class id, or
        for ChestMNIST the list of the findings present. Decoding a row that holds something else raises a
        `SourceError`.

    Raises:
        CatalogError: The name, split or size is not valid.
        SourceError: No such data exists, and the message names the places searched and how to build it; or the card
            belongs to another build, `datasets` cannot read the path, the Hub refuses, or the official file cannot be
            fetched.
        BuildError: The build is damaged, or cannot be written.
        MedMNISTError: An argument is unknown.
    """
    from medmnist_hf.data.loading import check_options, load_place

    check_options(options)
    if root is not None:
        check_loadable(expand_user(root))
    place = find_or_build(name, size, root, revision, build=build, npz=False)
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

    The split is decoded once, into files that later calls and processes map into memory. Only the accessed rows are
    read, so a split may be larger than the memory. The files are identified by digests of the data, so they never
    belong to another build.

    Args:
        name: As for `load`; also an NPZ file with an official name, or a folder with one. An NPZ file that differs
            from the official one logs a warning.
        size: As for `load`.
        split: ``train``, ``validation`` (or ``val``) or ``test``. For parts or unions of them see `to_arrays`.
        root: As for `load`; may also hold NPZ files.
        revision: As for `load`.
        build: As for `load`.
        cache_dir: Folder of the decoded files; that of ``MEDMNIST_ARRAYS`` or ``HF_HOME/medmnist-hf/arrays`` if None.
        cache: False decodes into memory and writes nothing.

    Returns:
        The split in the order of the official file. Processes that read cached images share their memory, and
        `torch.from_numpy` accepts them without a copy. Writing to them only changes this process's copy.

    Raises:
        CatalogError: The name, split or size is not valid.
        SourceError: As for `load`.
        BuildError: A shard is missing or damaged, or a build cannot be written.
        ReadError: The NPZ file is damaged, or holds another subset.
        MedMNISTError: The cache is full or not writable.
    """
    split = split_name(split)
    place = find_or_build(name, size, root, revision, build=build, npz=True)
    return arrays_at(place, split, cache_dir=cache_dir, cache=cache)


def find_or_build(
    name: str | Path, size: int | str | None, root: str | Path | None, revision: str | None, *, build: bool, npz: bool
) -> Place:
    """Find a config, see `medmnist_hf.places.resolver.find`; if `build`, build it if it is missing.

    Raises:
        CatalogError: The name is not valid, or the subset has no such size.
        SourceError: No such data exists, or it cannot be built.
        BuildError: A manifest cannot be read, or the build cannot be written.
    """
    if not build:
        return find(name, size, root=root, revision=revision, npz=npz)
    named = parse_name(name)
    if named.entry is None or named.repository is not None or revision is not None:
        raise SourceError(f"build=True needs the flag of a subset, e.g. pathmnist, not {named.text}")
    from medmnist_hf.loading.build_missing import build_missing

    entry, number = resolve_config(named, size, named.entry)
    assert entry is not None  # that of the name
    number = number or DEFAULT_SIZE
    if root is None:
        return find_local(entry, number, npz=npz) or build_missing(entry, number, builds_cache())
    folder = expand_user(root)
    return find_below(folder, entry, number, npz=npz) or build_missing(entry, number, folder)
