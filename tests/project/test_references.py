"""``medmnist_hf/references.bib`` parses, is clean, and holds exactly the works that the catalog cites."""

import re

import pytest
from bibtexparser.entrypoint import parse_string

from medmnist_hf.catalog import collection, entries, subset
from tests.fixtures.paths import ROOT

BIB = ROOT / "medmnist_hf" / "references.bib"
TEXT = BIB.read_text(encoding="utf-8")
LIBRARY = parse_string(TEXT)
KEYS = [entry.key for entry in LIBRARY.entries]
CITED = {key for entry in entries() for key in entry.citations} | set(collection().citations)


def field(key: str, name: str) -> str:
    entry_field = LIBRARY.entries_dict[key].fields_dict.get(name)
    return "" if entry_field is None else str(entry_field.value)


def test_every_block_parses() -> None:
    assert LIBRARY.failed_blocks == []
    assert len(KEYS) == len(set(KEYS)) == TEXT.count("\n@")


def test_a_broken_or_repeated_entry_would_be_detected() -> None:
    repeated = parse_string(TEXT + "\n@article{pathmnist,\n title = {Again}\n}\n")
    broken = parse_string(TEXT + "\n@article{other,\n title = {Never closed\n}\n")
    assert len(repeated.failed_blocks) == 1
    assert len(broken.failed_blocks) == 1


def test_entries_are_exactly_those_cited() -> None:
    assert set(KEYS) == CITED


@pytest.mark.parametrize("key", KEYS)
def test_entry_is_complete(key: str) -> None:
    assert field(key, "title") and field(key, "author")
    assert re.fullmatch(r"(19|20)\d\d", field(key, "year"))
    published = "publisher" if LIBRARY.entries_dict[key].entry_type == "misc" else "journal"  # misc: data of a paper
    assert field(key, published) or field(key, "booktitle")


@pytest.mark.parametrize("key", KEYS)
def test_authors_are_last_name_first(key: str) -> None:
    for author in field(key, "author").split(" and "):
        assert author == "others" or re.fullmatch(r"[^,{}]+(, III)?, [^,{}]+", author)


@pytest.mark.parametrize("key", KEYS)
def test_doi_and_pages_are_bare(key: str) -> None:
    assert re.fullmatch(r"(10\.\d{4,}/\S+)?", field(key, "doi"))
    assert "-" not in field(key, "pages").replace("--", "")


@pytest.mark.parametrize("key", KEYS)
def test_capitals_of_names_are_braced(key: str) -> None:
    """BibTeX styles lowercase titles, so a word with a capital after its first letter must be in braces."""
    bare = re.sub(r"\{[^{}]*\}", "", field(key, "title"))
    assert re.findall(r"\b\w+[A-Z]\w*\b", bare) == []


def test_text_is_clean() -> None:
    assert not re.search(r",\s*\n\}", TEXT), "comma before a closing brace"
    assert " AND " not in TEXT
    assert TEXT.count("{") == TEXT.count("}")
    assert all(line == line.rstrip() for line in TEXT.splitlines())
    assert TEXT.endswith("}\n")


def test_sources_that_upstream_lacks() -> None:
    assert "DeepDRiD" in field("retinamnist", "title")
    assert subset("retinamnist").citations == ("retinamnist",)
    assert "medmnistv2" in subset("adrenalmnist3d").citations
    assert "MitoEM" in field("synapsemnist3d", "title")
    assert subset("synapsemnist3d").citations == ("medmnistv2", "synapsemnist3d")
    assert subset("pneumoniamnist").citations == subset("octmnist").citations


def test_dois_are_unique() -> None:
    dois = [field(key, "doi") for key in KEYS if field(key, "doi")]
    assert len(dois) == len(set(dois))
