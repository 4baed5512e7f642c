"""``medmnist_hf.cards.bibliography``: the fields that cards print."""

import pytest
from bibtexparser.entrypoint import parse_string

from medmnist_hf.cards.bibliography import parse, reference
from medmnist_hf.catalog import bibtex, citation_keys, subsets
from medmnist_hf.errors import CatalogError

KEYS = sorted(citation_keys(*subsets()))


def test_the_text_of_every_entry_is_complete() -> None:
    """`catalog.bibtex` cuts entries out of the file without a parser."""
    library = parse_string(bibtex(*subsets()))
    assert library.failed_blocks == []
    assert sorted(library.entries_dict) == KEYS
    for key, entry in library.entries_dict.items():
        assert {name.lower() for name in entry.fields_dict} == set(reference(key).fields)
        assert entry.fields_dict["year"].value == reference(key).fields["year"]


@pytest.mark.parametrize("key", KEYS)
def test_printed_fields_are_plain_text(key: str) -> None:
    entry = reference(key)
    for text in (entry.title, entry.venue, entry.short, *entry.authors):
        assert text
        assert not set("{}\\\n") & set(text)
    assert entry.url.startswith("https://doi.org/10.") or "doi" not in entry.fields


def test_short_forms() -> None:
    single = parse("@book{a,\n author = {Curie, Marie},\n journal = {{C}omptes},\n year = {1898}\n}")["a"]
    pair = parse("@book{b,\n author = {Curie, Marie and Curie, Pierre},\n booktitle = {X},\n year = {1898}\n}")["b"]
    group = parse("@book{c,\n author = {Curie, Marie and others},\n journal = {X},\n year = {1898}\n}")["c"]
    assert [each.short for each in (single, pair, group)] == [
        "Curie, Comptes, 1898",
        "Curie and Curie, X, 1898",
        "Curie et al., X, 1898",
    ]
    assert pair.authors == ("Marie Curie", "Pierre Curie")
    assert group.authors == ("Marie Curie",)
    assert reference("medmnistv2").short == "Yang et al., Scientific Data, 2023"


def test_an_unknown_key_is_refused_in_one_line() -> None:
    with pytest.raises(CatalogError, match=r"^no entry 'unheard' in references\.bib: "):
        reference("unheard")


@pytest.mark.parametrize("broken", ["@article{b,\n title = {Never closed\n}\n", "@article{a,\n title = {Again}\n}\n"])
def test_a_malformed_entry_is_refused_in_one_line(broken: str) -> None:
    with pytest.raises(CatalogError, match=r"^references\.bib has an invalid entry at line 5: correct or remove it$"):
        parse("\n@article{a,\n title = {Closed}\n}\n" + broken)
