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
    """One entry.

    Attributes:
        key: Its BibTeX key.
        fields: Field name in lower case -> value as plain text.
    """

    key: str
    fields: dict[str, str]

    @property
    def authors(self) -> tuple[str, ...]:
        """Authors with the first name first; those hidden behind "and others" are missing."""
        names = (name for name in self.fields["author"].split(" and ") if name != "others")
        return tuple(" ".join(reversed([part.strip() for part in name.split(",", 1)])) for name in names)

    @property
    def title(self) -> str:
        """Title as plain text."""
        return self.fields["title"]

    @property
    def venue(self) -> str:
        """Journal or proceedings."""
        return self.fields.get("journal") or self.fields["booktitle"]

    @property
    def short(self) -> str:
        """For prose, e.g. ``Yang et al., Scientific Data, 2023``."""
        last = [name.split(",")[0] for name in self.fields["author"].split(" and ")]
        who = last[0] if len(last) == 1 else " and ".join(last) if len(last) == 2 else f"{last[0]} et al."
        return f"{who.replace(' and others', ' et al.')}, {self.venue}, {self.fields['year']}"

    @property
    def url(self) -> str:
        """Where its DOI leads; empty without one."""
        doi = self.fields.get("doi")
        return f"https://doi.org/{doi}" if doi else ""


def _plain(value: str) -> str:
    for tex, text in _TEX:
        value = value.replace(tex, text)
    return " ".join(value.split())


def parse(text: str) -> dict[str, Reference]:
    """Read the entries of a BibTeX file, by key.

    Raises:
        CatalogError: An entry cannot be read, or its key is there twice.
    """
    library = parse_string(text)
    for block in library.failed_blocks:
        raise CatalogError(
            f"{_BIB.name} has an entry that is not valid from line {(block.start_line or 0) + 1} on: fix it"
        )
    return {
        entry.key: Reference(entry.key, {field.key.lower(): _plain(field.value) for field in entry.fields})
        for entry in library.entries
    }


@cache
def _references() -> dict[str, Reference]:
    return parse(_BIB.read_text(encoding="utf-8"))


def reference(key: str) -> Reference:
    """An entry of ``references.bib`` by its key.

    Raises:
        CatalogError: There is none.
    """
    try:
        return _references()[key]
    except KeyError:
        raise CatalogError(f"no entry {key!r} in {_BIB.name}: add it, or fix the citation in the catalogue") from None
