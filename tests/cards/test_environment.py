"""``medmnist_hf.cards.environment``: names must have values, bars in cells are escaped, HTML escaping is optional."""

import jinja2
import pytest
from markdown_it import MarkdownIt

from medmnist_hf.cards.environment import code, environment, plain, row

HOSTILE = (
    *(
        "<script>alert(1)</script>",
        "<img src=x onerror=y>",
        "![a](http://b/c.png)",
        "[a](javascript:b)",
        "<http://a.b>",
    ),
    *("# a", "**a** ~~b~~", "`a`", "``a", "`", "a|b", r"a\|b", r"\\|", "$a$", "&lt;b&gt;", "a\n# b", "> a", "a`b``c"),
)


def test_a_name_without_a_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'flag' is undefined"):
        environment("medmnist_hf.cards").from_string("{{ flag }}").render()


def test_a_bar_in_a_cell_is_escaped() -> None:
    text = environment("medmnist_hf.cards").from_string("{{ cells | row }}").render(cells=["a|b", 2])
    assert text == r"| a\|b | 2 |"


@pytest.mark.parametrize(("autoescape", "text"), [(False, "<b>"), (True, "&lt;b&gt;")])
def test_html_escaping_is_optional(autoescape: bool, text: str) -> None:
    templates = environment("medmnist_hf.cards", autoescape=autoescape)
    assert templates.from_string("{{ value }}").render(value="<b>") == text
    assert "card.md.j2" in templates.list_templates()


@pytest.mark.parametrize("text", HOSTILE)
def test_untrusted_text_stays_text_in_markdown(text: str) -> None:
    """Parsed in a paragraph, a list, a quote and a table by a parser that keeps HTML."""
    line = " ".join(text.split())
    for written, inner in ((plain(text), "text"), (code(text), "code_inline")):
        table = f"{row([written])}\n| --- |\n{row([written])}"
        for place in (written, f"a {written} b", f"- {written}", f"> {written}", table):
            tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(place)
            parts = [part for token in tokens for part in token.children or ()]
            assert {part.type for part in parts} <= {"text", inner, "text_special"}, place
            assert not {token.type for token in tokens} & {"heading_open", "html_block", "fence"}
            if place is not table:
                assert line in "".join(part.content for part in parts)


def test_a_row_keeps_its_cells_whatever_they_contain() -> None:
    cells = [write(text) for text in HOSTILE for write in (plain, code)]
    table = MarkdownIt("gfm-like", {"linkify": False}).parse("\n".join([row(cells), "| --- " * len(cells) + "|"]))
    assert len([token for token in table if token.type == "th_open"]) == len(cells)
