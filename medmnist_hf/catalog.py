"""The subsets and files of MedMNIST as frozen dataclasses, read from ``catalog.toml``.

Example:
    >>> from medmnist_hf.catalog import subset
    >>> subset("pathmnist").file(224).name
    'pathmnist_224.npz'
"""

import difflib
import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any, Final

from medmnist_hf.errors import CatalogError, shorten

SPLITS: Final = ("train", "validation", "test")
"""Split names of every data set here, in order."""

NPZ_SPLITS: Final = {"train": "train", "validation": "val", "test": "test"}
"""Our split name -> the prefix of its members in an official NPZ file."""

DEFAULT_SIZE: Final = 28
"""The size of the original MedMNIST files and of the default config."""


ALL: Final = "all"
"""Stands for every subset, or for every size of a subset."""

NAMESPACE: Final = "medmnist"
"""The organization on the Hub whose repositories are loaded by default."""


class Task(StrEnum):
    """What a subset asks a model to predict."""

    BINARY = "binary-class"
    MULTI_CLASS = "multi-class"
    ORDINAL = "ordinal-regression"
    MULTI_LABEL = "multi-label"

    @property
    def official_name(self) -> str:
        """The task as the ``medmnist`` package spells it."""
        return "multi-label, binary-class" if self is Task.MULTI_LABEL else self.value


def split_name(split: str) -> str:
    """The name of a split here; the official package says ``val`` for ``validation``.

    Raises:
        CatalogError: It is no split.
    """
    if split == NPZ_SPLITS["validation"]:
        return "validation"
    if split not in SPLITS:
        raise CatalogError(f"unknown split {shorten(split)}: choose from {', '.join(SPLITS)}")
    return split


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """Rows in each split of one subset; the same for all its sizes."""

    train: int
    validation: int
    test: int

    def __getitem__(self, split: str) -> int:
        """Rows of a split by name; raises `CatalogError` for a name that is no split."""
        return int(getattr(self, split_name(split)))

    @property
    def total(self) -> int:
        """Rows of all splits together."""
        return self.train + self.validation + self.test


@dataclass(frozen=True, slots=True)
class DataFile:
    """One official NPZ file.

    Attributes:
        name: File name, e.g. ``pathmnist_224.npz``; no suffix at size 28.
        size: Edge length of an image or a volume, in pixels or voxels.
        image_shape: Shape of one row: ``(H, W)``, ``(H, W, 3)`` or ``(D, H, W)``, uint8.
        md5: MD5 of the file, 32 hex digits, as Zenodo publishes it.
        url: Where Zenodo serves it.
    """

    name: str
    size: int
    image_shape: tuple[int, ...]
    md5: str
    url: str


@dataclass(frozen=True, slots=True, repr=False)
class Subset:
    """One of the data sets.

    Attributes:
        flag: Identifier, e.g. ``pathmnist``; also the repository name.
        python_class: Class name in the official package, e.g. ``PathMNIST``; used as the title.
        ndim: 2 for images, 3 for volumes.
        channels: 1 for gray-scale, 3 for RGB.
        task: What is predicted.
        labels: Class names (findings for the multi-label task), index = stored label.
        modality: Imaging modality, as the MedMNIST paper names it.
        counts: Rows of each split.
        files: The official files by ascending size.
        license: Hub license id, e.g. ``cc-by-4.0``.
        citations: BibTeX keys in ``medmnist_hf/references.bib``: the source data, then papers on its labels or faults.
        annotations_creators: Hub metadata value saying who made the labels.
        description: What the data is, in our own words.
        caveats: What a user must know of this subset before trusting a number.
    """

    flag: str
    python_class: str
    ndim: int
    channels: int
    task: Task
    labels: tuple[str, ...]
    modality: str
    counts: SplitCounts
    files: tuple[DataFile, ...]
    license: str
    citations: tuple[str, ...]
    annotations_creators: str
    description: str
    caveats: tuple[str, ...]

    def __repr__(self) -> str:
        """On one line, what it is; the attributes have the rest."""
        things = "volumes" if self.ndim == 3 else "images"
        sizes = ", ".join(map(str, self.sizes))
        labels = f"{len(self.labels)} {'findings' if self.task is Task.MULTI_LABEL else 'classes'}"
        return f"<Subset {self.flag}: {self.counts.total:,} {things}, {self.task.value}, {labels}, sizes {sizes}>"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes in which the subset is published, ascending."""
        return tuple(file.size for file in self.files)

    def file(self, size: int | str) -> DataFile:
        """The official file of one size; raises `CatalogError` if it is not published in that size.

        Args:
            size: The size, also as text, as the name of a config is.
        """
        for file in self.files:
            if size in (file.size, str(file.size)):
                return file
        raise CatalogError(f"{self.flag} has no size {size}: choose from {', '.join(map(str, self.sizes))}")


@dataclass(frozen=True, slots=True)
class Collection:
    """What holds for all of MedMNIST.

    Attributes:
        version: Version of the official data release the files belong to.
        record: Zenodo record number of that release.
        homepage: Project page.
        citations: BibTeX keys of the MedMNIST papers.
        caveats: What a user must know of every subset.
        license_names: Hub license id -> its name in full.
        license_urls: Hub license id -> where its text stands.
    """

    version: str
    record: str
    homepage: str
    citations: tuple[str, ...]
    caveats: tuple[str, ...]
    license_names: dict[str, str]
    license_urls: dict[str, str]


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(resources.files("medmnist_hf").joinpath("catalog.toml").read_text(encoding="utf-8"))


@cache
def collection() -> Collection:
    """Facts shared by all subsets."""
    table = _tables()["collection"]
    licenses = table["licenses"]
    return Collection(
        version=table["version"],
        record=table["record"],
        homepage=table["homepage"],
        citations=tuple(table["citations"]),
        caveats=tuple(table["caveats"]),
        license_names={key: value["name"] for key, value in licenses.items()},
        license_urls={key: value["url"] for key, value in licenses.items()},
    )


def _parse(flag: str, table: dict[str, Any], file_url: str) -> Subset:
    ndim, channels = table["ndim"], table["channels"]
    files = []
    for size, md5 in sorted((int(key), value) for key, value in table["md5"].items()):
        name = f"{flag}.npz" if size == DEFAULT_SIZE else f"{flag}_{size}.npz"
        shape = (size,) * ndim + ((channels,) if channels > 1 else ())
        files.append(DataFile(name=name, size=size, image_shape=shape, md5=md5, url=file_url.format(name=name)))
    return Subset(
        flag=flag,
        python_class=table["python_class"],
        ndim=ndim,
        channels=channels,
        task=Task(table["task"]),
        labels=tuple(table["labels"]),
        modality=table["modality"],
        counts=SplitCounts(**table["counts"]),
        files=tuple(files),
        license=table["license"],
        citations=tuple(table["citations"]),
        annotations_creators=table["annotations_creators"],
        description=table["description"].strip(),
        caveats=tuple(table["caveats"]),
    )


@cache
def subsets() -> tuple[Subset, ...]:
    """All subsets in the order of the MedMNIST papers: 2D first, then 3D."""
    tables = _tables()
    url = tables["collection"]["file_url"]
    return tuple(_parse(flag, table, url) for flag, table in tables["subsets"].items())


def citation_keys(*entries: Subset) -> tuple[str, ...]:
    """BibTeX keys to cite with subsets: first the papers of MedMNIST, then those of the source data, each once."""
    return tuple(dict.fromkeys((*collection().citations, *(key for entry in entries for key in entry.citations))))


def bibtex(*entries: Subset) -> str:
    """The BibTeX entries of `citation_keys`, without a final newline."""
    text = resources.files("medmnist_hf").joinpath("references.bib").read_text(encoding="utf-8")
    # A parser of BibTeX comes with the extra `build` only, and citing needs no extra.
    texts = {match[1]: match[0] for match in re.finditer(r"^@\w+\{([^,\s]+),.*?^\}", text, re.DOTALL | re.MULTILINE)}
    return "\n\n".join(texts[key] for key in citation_keys(*entries))


SIZED_FLAG: Final = re.compile(r"(?P<flag>\w+?)(?:[-_](?P<size>\d{1,4}))?", re.ASCII)
"""A flag, also with a size: ``pathmnist``, ``pathmnist-64``."""


def sized_subset(name: str) -> tuple[Subset, int | None]:
    """A subset by its flag, which may have a size behind it: ``pathmnist``, ``PathMNIST-64``.

    Returns:
        The subset, and the size; None where the name has none.

    Raises:
        CatalogError: The flag is unknown, or the subset has no such size.
    """
    match = SIZED_FLAG.fullmatch(name)
    if match is None or match["size"] is None:
        return subset(name), None
    entry = subset(match["flag"])
    return entry, entry.file(match["size"]).size


def cite(*names: str) -> str:
    """The papers to cite, in BibTeX: those of MedMNIST, then those of the source data of each subset.

    Args:
        *names: Flags, also with a size (``PathMNIST-64``), or ``all``; without any, MedMNIST alone is cited.

    Returns:
        The text of a ``.bib`` file with each entry once, without a final newline.

    Raises:
        CatalogError: A flag is unknown, or the subset has no such size.

    Example:
        >>> print(cite("pathmnist").splitlines()[0])
        @article{medmnistv2,
    """
    return bibtex(*(entry for name in names for entry in (subsets() if name == ALL else (sized_subset(name)[0],))))


def subset(flag: str) -> Subset:
    """One subset by its flag, in any letter case.

    Raises:
        CatalogError: The flag is unknown; the message names the nearest one.
    """
    known = {entry.flag: entry for entry in subsets()}
    entry = known.get(flag.lower())
    if entry is None:
        near = difflib.get_close_matches(flag.lower(), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"`medmnist-hf list` shows all {len(known)}"
        raise CatalogError(f"unknown subset {shorten(flag)}: {hint}")
    return entry
