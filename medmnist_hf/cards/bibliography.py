"""Entries of ``references.bib``, with the few fields that cards print."""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from bibtexparser.entrypoint import parse_string

from medmnist_hf.errors import CatalogError

_BIB: Final = resources.files("medmnist_hf") / "references.bib"

_TEX: Final = (("``", "“"), ("''", "”"), ("---", "—"), ("--", "–"), (r"\&", "&"), ("{", ""), ("}", ""))


@dataclass(frozen=True, slots=True)
class Reference:
    """One BibTeX entry.

    Attributes:
        key: BibTeX key.
        fields: Field name in lower case -> value as plain text.
    """

    key: str
    fields: dict[str, str]

    @property
    def authors(self) -> tuple[str, ...]:
        """Authors, first names first, without those abbreviated as "and others"."""
        names = (name for name in self.fields["author"].split(" and ") if name != "others")
        return tuple(" ".join(reversed([part.strip() for part in name.split(",", 1)])) for name in names)

    @property
    def title(self) -> str:
        """Title as plain text."""
        return self.fields["title"]

    @property
    def venue(self) -> str:
        """Journal, proceedings, or publisher of data."""
        return self.fields.get("journal") or self.fields.get("booktitle") or self.fields["publisher"]

    @property
    def short(self) -> str:
        """Short form for prose, e.g. ``Yang et al., Scientific Data, 2023``."""
        surnames = [name.split(",")[0] for name in self.fields["author"].split(" and ")]
        authors = f"{surnames[0]} et al." if len(surnames) > 2 else " and ".join(surnames)
        return f"{authors.replace(' and others', ' et al.')}, {self.venue}, {self.fields['year']}"

    @property
    def url(self) -> str:
        """URL of the DOI; empty if the entry has none."""
        doi = self.fields.get("doi")
        return f"https://doi.org/{doi}" if doi else ""


def _plain(value: str) -> str:
    for tex, text in _TEX:
        value = value.replace(tex, text)
    return " ".join(value.split())


def parse(text: str) -> dict[str, Reference]:
    """Read the entries of a BibTeX file, by key.

    Raises:
        CatalogError: An entry is malformed, or its key occurs twice.
    """
    library = parse_string(text)
    for block in library.failed_blocks:
        raise CatalogError(
            f"{_BIB.name} has an invalid entry at line {(block.start_line or 0) + 1}: correct or remove it"
        )
    return {
        entry.key: Reference(entry.key, {field.key.lower(): _plain(field.value) for field in entry.fields})
        for entry in library.entries
    }


@cache
def _references() -> dict[str, Reference]:
    return parse(_BIB.read_text(encoding="utf-8"))


def reference(key: str) -> Reference:
    """Look up an entry of ``references.bib`` by its key.

    Raises:
        CatalogError: No entry has this key.
    """
    try:
        return _references()[key]
    except KeyError:
        raise CatalogError(
            f"no entry {key!r} in {_BIB.name}: add it, or correct the citation in the catalog"
        ) from None
