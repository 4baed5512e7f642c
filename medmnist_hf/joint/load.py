"""`load_many`: several subsets as one data set, with global labels."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

from medmnist_hf.catalog import DEFAULT_SIZE, Subset
from medmnist_hf.data.loading import check_options, load_place
from medmnist_hf.errors import CatalogError, MedMNISTError, SourceError, shorten
from medmnist_hf.files import expand_user
from medmnist_hf.joint.combine import Interleave, Stop, combine
from medmnist_hf.joint.labels import JointLabels, expand_names
from medmnist_hf.loading.load import find_or_build
from medmnist_hf.places.advice import how_to_build
from medmnist_hf.places.local_paths import check_loadable
from medmnist_hf.places.names import parse_name
from medmnist_hf.places.resolver import Place, Repository, find_below, resolve_config

Balance = Literal["concatenate", "interleave"]

_REPLACED: Final = {"columns", "features"}
"""Arguments of `datasets.load_dataset` that would change the columns that are combined."""


def load_many(
    names: str | Iterable[str | Path],
    size: int | str | None = None,
    split: str | None = None,
    root: str | Path | None = None,
    *,
    balance: Balance = "concatenate",
    stop: Stop = "all_exhausted",
    seed: int = 0,
    as_rgb: bool = False,
    revision: str | None = None,
    streaming: bool = False,
    build: bool = False,
    **options: Any,
) -> Any:
    """Load several subsets as one data set, whose images are neither decoded nor copied.

    The classes are those of all subsets in the order of the names, see `medmnist_hf.JointLabels`.

    Args:
        names: Names as for `load`, in a sequence or separated by commas; ``all-2d`` or ``all-3d`` for all of a kind.
            2D subsets and volumes cannot be mixed.
        size: Edge length in pixels or voxels, the same for all; if None, that of the names, or 28.
        split: As for `load`; an expression such as ``train[:10%]`` is taken of each subset.
        root: As for `load`.
        balance: ``concatenate`` keeps all rows in order, subset by subset. ``interleave`` draws the subset of each
            row at random, all equally often in expectation; the rows of a subset stay in order. With ``split=None``
            only ``train`` is interleaved, because the other splits are scored, each row once.
        stop: For ``interleave``: ``all_exhausted`` repeats subsets until each row was drawn at least once,
            ``first_exhausted`` stops when the smallest has no more rows.
        seed: Seed of ``interleave``: the same order every time.
        as_rgb: Decode gray images to RGB, so that all images of 2D subsets have one shape.
        revision: As for `load`; the same for all.
        streaming: Read while iterating instead of preparing local copies.
        build: Build what is missing, as for `load`.
        **options: Further arguments of `datasets.load_dataset`.

    Returns:
        As from `load`, with the columns:

        - ``image``: a PIL image as stored, gray or RGB, or RGB if `as_rgb`; or a volume.
        - ``label``: the global class id. If ChestMNIST, the multi-label subset, is among the names, it is a list for
          every row: of the findings present, or of the one class of a row from another subset.
        - ``subset``: `ClassLabel`, the position of the subset.
        - ``task``, ``modality``: strings, as in the catalog.

    Raises:
        CatalogError: A name, the split, size or an argument is not valid, or the subsets cannot be combined.
        SourceError: As for `load`; if several builds are missing, the message names all of them and one command.
        BuildError: As for `load`.
        MedMNISTError: An argument is unknown.
    """
    _check_choice("balance", balance, get_args(Balance))
    _check_choice("stop", stop, get_args(Stop))
    if replaced := _REPLACED & options.keys():
        raise MedMNISTError(f"load_many combines whole rows: leave out {', '.join(sorted(replaced))}")
    check_options(options)
    if root is not None:
        check_loadable(expand_user(root))
    places = _find_all(expand_names(names), size, root, revision, build=build)
    joint = JointLabels(tuple(map(_entry_of, places)))
    resolved = _only_size({entry.flag: place.size for entry, place in zip(joint.subsets, places, strict=True)})
    loaded = [load_place(place, split, streaming=streaming, options=options) for place in places]

    interleave = Interleave(seed, stop) if balance == "interleave" else None
    if not isinstance(loaded[0], dict):
        return combine(loaded, joint, resolved, as_rgb=as_rgb, interleave=interleave)
    return type(loaded[0])(
        {
            name: combine(
                [splits[name] for splits in loaded],
                joint,
                resolved,
                as_rgb=as_rgb,
                interleave=interleave if name == "train" else None,
            )
            for name in loaded[0]
        }
    )


def _find_all(
    texts: list[str | Path], size: int | str | None, root: str | Path | None, revision: str | None, *, build: bool
) -> list[Place]:
    """Find or build each config, after checking that the named subsets can be combined."""
    names = list(map(parse_name, texts))
    known = [(name, name.entry) for name in names if name.entry is not None]
    if known or not names:
        JointLabels(tuple(entry for _, entry in known))
    chosen = {entry.flag: resolve_config(name, size, entry)[1] for name, entry in known}
    sizes = {flag: number or DEFAULT_SIZE for flag, number in chosen.items()}
    number = _only_size(sizes) if sizes else None
    if number is not None and root is not None and not build:
        flags = [entry for name, entry in known if name.path is None and name.repository is None]
        _check_present(expand_user(root), flags, number)
    places = [find_or_build(text, size, root, revision, build=build, npz=False) for text in texts]
    remote = [place.entry for place in places if isinstance(place, Repository) and place.entry and place.searched]
    return [
        replace(place, more=tuple(entry for entry in remote if entry != place.entry))
        if isinstance(place, Repository) and place.searched
        else place
        for place in places
    ]


def _check_present(folder: Path, entries: list[Subset], size: int) -> None:
    """Name all missing builds at once, if there are several; `find` describes a single one."""
    absent = [entry for entry in entries if not find_below(folder, entry, size)]
    if len(absent) < 2:
        return
    first, *more = absent
    source = folder if all((folder / entry.file(size).name).is_file() for entry in absent) else None
    state = "" if folder.is_dir() else " (no such folder)"
    raise SourceError(
        f"no build of {', '.join(entry.flag for entry in absent)} at size {size} in {folder}{state}: "
        f"{how_to_build(first, size, None if source else folder, source, more=more)}"
    )


def _entry_of(place: Place) -> Subset:
    if place.entry is None:
        raise SourceError(f"{place.where} does not name its subset: load it by a name that ends in its flag")
    return place.entry


def _only_size(sizes: dict[str, int]) -> int:
    (first, size), *others = sizes.items()
    if other := next((name for name, number in others if number != size), None):
        raise CatalogError(
            f"{first} at size {size} and {other} at size {sizes[other]} cannot be combined: name one size"
        )
    return size


def _check_choice(argument: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise CatalogError(f"unknown {argument} {shorten(value)}: choose from {', '.join(choices)}")
