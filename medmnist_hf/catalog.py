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
from medmnist_hf.source_images.rules import IdRule, MetadataRule

SPLITS: Final = ("train", "validation", "test")
"""Split names of every data set here, in order."""

NPZ_SPLITS: Final = {"train": "train", "validation": "val", "test": "test"}
"""Split name -> prefix of its arrays in an official NPZ file."""

DEFAULT_SIZE: Final = 28
"""Size of the original MedMNIST files and of the default config."""

ALL: Final = "all"
"""Stands for every subset, or for every size of a subset."""

NAMESPACE: Final = "medmnist"
"""Hub organization whose repositories are loaded by default."""


class Task(StrEnum):
    """What a subset asks a model to predict."""

    BINARY = "binary-class"
    """One of two classes; scores are probabilities of label 1."""

    MULTI_CLASS = "multi-class"
    """One of several classes."""

    ORDINAL = "ordinal-regression"
    """One of several grades in order, scored as classes."""

    MULTI_LABEL = "multi-label"
    """Any number of findings."""

    @property
    def official_name(self) -> str:
        """The task as the ``medmnist`` package spells it."""
        return "multi-label, binary-class" if self is Task.MULTI_LABEL else self.value


def split_name(split: str) -> str:
    """Return the name of a split; ``val``, the official package's name, becomes ``validation``.

    Raises:
        CatalogError: The split is unknown.
    """
    if split == NPZ_SPLITS["validation"]:
        return "validation"
    if split not in SPLITS:
        raise CatalogError(f"unknown split {shorten(split)}: choose from {', '.join(SPLITS)}")
    return split


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """Number of rows in each split of a subset, the same for all sizes."""

    train: int
    validation: int
    test: int

    def __getitem__(self, split: str) -> int:
        """Rows of one split; raises `CatalogError` for an unknown split."""
        return int(getattr(self, split_name(split)))

    @property
    def total(self) -> int:
        """Rows of all splits."""
        return self.train + self.validation + self.test


@dataclass(frozen=True, slots=True)
class DataFile:
    """One official NPZ file.

    Attributes:
        name: File name, e.g. ``pathmnist_224.npz``; size 28 has no suffix.
        size: Edge length of an image or volume, in pixels or voxels.
        image_shape: Shape of one row: ``(H, W)``, ``(H, W, 3)`` or ``(D, H, W)``, uint8.
        md5: MD5 of the file, 32 hex digits, as published on Zenodo.
        url: Download URL on Zenodo.
    """

    name: str
    size: int
    image_shape: tuple[int, ...]
    md5: str
    url: str


@dataclass(frozen=True, slots=True, repr=False)
class Subset:
    """One data set of MedMNIST, or a variant of one: a file of others with other rows, e.g. in corrected splits.

    Attributes:
        flag: Identifier, e.g. ``pathmnist``, ``dermamnist-corrected``.
        python_class: Class name in the official package, e.g. ``PathMNIST``; used as the title.
        ndim: 2 for images, 3 for volumes.
        channels: 1 for grayscale, 3 for RGB.
        task: What a model predicts.
        labels: Class names (findings for the multi-label task), indexed by the stored label.
        modality: Imaging modality, as named in the MedMNIST paper.
        counts: Rows of each split.
        files: The official files, by ascending size.
        license: Hub license id, e.g. ``cc-by-4.0``.
        citations: BibTeX keys in ``medmnist_hf/references.bib``: the source data, then papers on its labels or faults.
        annotations_creators: Hub metadata value saying who made the labels.
        description: What the data shows and how it was split, in our own words.
        caveats: What to know about this subset before trusting a number.
        ids: What the names of its source images say; None if nothing is known.
        metadata: The CSV file about its source images; None if there is none.
        base: Flag of the subset whose folder and repository hold it; its own, unless it is a variant.
        variant: Name of a variant, e.g. ``corrected``; empty otherwise.
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
    ids: IdRule | None
    metadata: MetadataRule | None
    base: str
    variant: str

    def __repr__(self) -> str:
        """Summary on one line; the attributes hold the details."""
        things = "volumes" if self.ndim == 3 else "images"
        sizes = ", ".join(map(str, self.sizes))
        labels = f"{len(self.labels)} {'findings' if self.task is Task.MULTI_LABEL else 'classes'}"
        return f"<Subset {self.flag}: {self.counts.total:,} {things}, {self.task.value}, {labels}, sizes {sizes}>"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes in which the subset is published, ascending."""
        return tuple(file.size for file in self.files)

    def file(self, size: int | str) -> DataFile:
        """Return the file of one size; raises `CatalogError` if there is none.

        Args:
            size: Edge length; config names such as ``"28"`` are accepted too.
        """
        for file in self.files:
            if size in (file.size, str(file.size), self.config_name(file.size)):
                return file
        raise CatalogError(f"{self.flag} has no size {size}: choose from {', '.join(self.config_names)}")

    def config_name(self, size: int) -> str:
        """Name of the config of a size: ``28``, or for a variant ``28-corrected``."""
        return f"{size}-{self.variant}" if self.variant else str(size)

    @property
    def config_names(self) -> tuple[str, ...]:
        """Names of the configs of all sizes, then, for a subset, those of its variants."""
        own = [self.config_name(size) for size in self.sizes]
        return (*own, *(name for each in variants(self) for name in each.config_names))

    def config(self, size: int | str) -> "tuple[Subset, int]":
        """The subset or its variant, and the size, of a config such as ``28`` or ``28-corrected``.

        Raises:
            CatalogError: There is no such config.
        """
        for entry in (self, *variants(self)):
            for each in entry.sizes:
                if size == entry.config_name(each) or (entry is self and size == each):
                    return entry, each
        return self, self.file(size).size  # raises the error


@dataclass(frozen=True, slots=True)
class Collection:
    """Facts about MedMNIST as a whole.

    Attributes:
        version: Version of the official data release the files belong to.
        record: Zenodo record number of that release.
        homepage: Project page.
        code: Repository of the official package.
        code_version: Release of the official package whose interface `medmnist_hf.official` has.
        citations: BibTeX keys of the MedMNIST papers.
        caveats: What to know about every subset.
        license_names: Hub license id -> full name.
        license_urls: Hub license id -> URL of the text.
    """

    version: str
    record: str
    homepage: str
    code: str
    code_version: str
    citations: tuple[str, ...]
    caveats: tuple[str, ...]
    license_names: dict[str, str]
    license_urls: dict[str, str]


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(resources.files("medmnist_hf").joinpath("catalog.toml").read_text(encoding="utf-8"))


@cache
def collection() -> Collection:
    """Return the facts shared by all subsets."""
    table = _tables()["collection"]
    licenses = table["licenses"]
    return Collection(
        version=table["version"],
        record=table["record"],
        homepage=table["homepage"],
        code=table["code"],
        code_version=table["code_version"],
        citations=tuple(table["citations"]),
        caveats=tuple(table["caveats"]),
        license_names={key: value["name"] for key, value in licenses.items()},
        license_urls={key: value["url"] for key, value in licenses.items()},
    )


def _parse(flag: str, table: dict[str, Any], file_url: str) -> Subset:
    ndim, channels = table["ndim"], table["channels"]
    files = []
    ids, metadata = table.get("ids"), table.get("metadata")
    for size, md5 in sorted((int(key), value) for key, value in table["md5"].items()):
        official_name = f"{flag}.npz" if size == DEFAULT_SIZE else f"{flag}_{size}.npz"
        name = table["file_name"].format(size=size) if "file_name" in table else official_name
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
        ids=IdRule(**ids | {"group": tuple(ids["group"])}) if ids else None,
        metadata=MetadataRule(**metadata | {"columns": tuple(metadata["columns"]), "codes": tuple(metadata["codes"])})
        if metadata
        else None,
        base=table.get("base", flag),
        variant=table.get("name", ""),
    )


@cache
def _variants() -> tuple[Subset, ...]:
    tables = _tables()
    parsed = []
    for flag, table in tables["variants"].items():
        base = tables["subsets"][table["base"]]
        metadata = base["metadata"] if table["metadata"] else None
        merged = base | table | {"python_class": table["title"], "ids": None, "metadata": metadata}
        parsed.append(_parse(flag, merged, table["file_url"]))
    return tuple(parsed)


def variants(entry: Subset) -> tuple[Subset, ...]:
    """Return the variants of a subset, in the order of the catalog; none for a variant."""
    return () if entry.variant else tuple(each for each in _variants() if each.base == entry.flag)


def entries() -> tuple[Subset, ...]:
    """Return all subsets, then all variants."""
    return (*subsets(), *_variants())


def is_config_name(name: str) -> bool:
    """Whether a name has the form of a config's: a size, or a size and the name of a variant."""
    size, dash, variant = name.partition("-")
    return size.isdecimal() and size.isascii() and (not dash or variant in {each.variant for each in _variants()})


def config_order(name: str) -> tuple[str, int]:
    """Key that sorts names of configs by ascending size, those of a subset before those of its variants."""
    size, _, variant = name.partition("-")
    return variant, int(size)


@cache
def subsets() -> tuple[Subset, ...]:
    """Return all subsets in the order of the MedMNIST papers: 2D first, then 3D."""
    tables = _tables()
    url = tables["collection"]["file_url"]
    return tuple(_parse(flag, table, url) for flag, table in tables["subsets"].items())


def citation_keys(*entries: Subset) -> tuple[str, ...]:
    """Return the BibTeX keys to cite for subsets: the papers on MedMNIST, then those on the source data, each once."""
    return tuple(dict.fromkeys((*collection().citations, *(key for entry in entries for key in entry.citations))))


def bibtex(*entries: Subset) -> str:
    """Return the BibTeX entries of `citation_keys`, without a final newline."""
    text = resources.files("medmnist_hf").joinpath("references.bib").read_text(encoding="utf-8")
    # Only the extra `build` installs a BibTeX parser, and citing must not need an extra.
    texts = {match[1]: match[0] for match in re.finditer(r"^@\w+\{([^,\s]+),.*?^\}", text, re.DOTALL | re.MULTILINE)}
    return "\n\n".join(texts[key] for key in citation_keys(*entries))


_SIZED_FLAG: Final = re.compile(r"(?P<flag>\w+?(?:-[a-z]+)?)(?:[-_](?P<size>\d{1,4}(?:-[a-z]+)?))?", re.ASCII | re.I)


def split_flag(name: str) -> tuple[str, str | None]:
    """Split a name such as ``pathmnist-64`` or ``dermamnist-28-corrected`` into flag and config; None without one."""
    match = _SIZED_FLAG.fullmatch(name)
    return (name, None) if match is None else (match["flag"], match["size"] and match["size"].lower())


def sized_subset(name: str) -> tuple[Subset, int | None]:
    """Look up a subset by a flag that may end in a size: ``pathmnist``, ``PathMNIST-64``, ``dermamnist-28-corrected``.

    Returns:
        The subset and the size; None if the name has no size.

    Raises:
        CatalogError: The flag is unknown, or the subset does not have that size.
    """
    flag, size = split_flag(name)
    entry = subset(flag)
    return (entry, None) if size is None else entry.config(size)


def cite(*names: str) -> str:
    """Return the papers to cite in BibTeX: those on MedMNIST, then those on the source data of each subset.

    Args:
        *names: Flags, optionally with a size (``PathMNIST-64``), or ``all``. With no names, only MedMNIST is cited.

    Returns:
        The text of a ``.bib`` file with each entry once, without a final newline.

    Raises:
        CatalogError: A flag is unknown, or the subset does not have that size.

    Example:
        >>> print(cite("pathmnist").splitlines()[0])
        @article{medmnistv2,
    """
    return bibtex(*(entry for name in names for entry in (subsets() if name == ALL else (sized_subset(name)[0],))))


def subset(flag: str) -> Subset:
    """Look up a subset, or a variant such as ``dermamnist-corrected``, by its flag, in any letter case.

    Raises:
        CatalogError: The flag is unknown; the message suggests the closest one.
    """
    by_flag = {entry.flag: entry for entry in entries()}
    entry = by_flag.get(flag.lower())
    if entry is None:
        matches = difflib.get_close_matches(flag.lower(), by_flag, n=1)
        hint = f"did you mean {matches[0]!r}?" if matches else f"`medmnist-hf list` shows all {len(subsets())}"
        raise CatalogError(f"unknown subset {shorten(flag)}: {hint}")
    return entry
