"""Entries of ``references.bib``: their text as it stands, and the few fields that cards print."""

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from medmnist_hf.errors import CatalogError

_BIB: Final = resources.files("medmnist_hf") / "references.bib"

_ENTRY: Final = re.compile(r"^@\w+\{\s*([^,\s]+)\s*,", re.MULTILINE)
_FIELD: Final = re.compile(r"^\s*(\w+)\s*=\s*\{", re.MULTILINE)
_TEX: Final = (("``", "“"), ("''", "”"), ("---", "—"), ("--", "–"), (r"\&", "&"), ("{", ""), ("}", ""))


@dataclass(frozen=True, slots=True)
class Reference:
    """One entry.

    Attributes:
        key: Its BibTeX key.
        text: The entry as it stands in the file, without a final newline.
        fields: Field name in lower case -> value as plain text.
    """

    key: str
    text: str
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


def _closing(text: str, opening: int) -> int:
    """Position of the brace that closes the one at `opening`."""
    depth = 0
    for position in range(opening, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise CatalogError(f"{_BIB.name} has an unclosed brace after {text[opening : opening + 20]!r}: close it")


def _plain(value: str) -> str:
    for tex, text in _TEX:
        value = value.replace(tex, text)
    return " ".join(value.split())


def parse(text: str) -> dict[str, Reference]:
    """Cut a BibTeX file into its entries; values must stand in braces, as they do in ours.

    Raises:
        CatalogError: A brace is never closed.
    """
    found = {}
    for match in _ENTRY.finditer(text):
        entry = text[match.start() : _closing(text, text.index("{", match.start())) + 1]
        fields = {
            field[1].lower(): _plain(entry[field.end() : _closing(entry, field.end() - 1)])
            for field in _FIELD.finditer(entry)
        }
        found[match[1]] = Reference(match[1], entry, fields)
    return found


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
        raise CatalogError(f"no entry {key!r} in {_BIB.name}: add it, or mend the citation in the catalogue") from None
