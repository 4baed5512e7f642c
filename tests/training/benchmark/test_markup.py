"""`medmnist_hf.training.benchmark.markup`: every value escaped once, names broken where they may be."""

import jinja2
import pytest
from markupsafe import Markup

from medmnist_hf.training.benchmark import markup


@pytest.fixture
def templates(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Templates of the test in the place of the package's."""
    texts: dict[str, str] = {}
    monkeypatch.setattr(markup._environment(), "loader", jinja2.DictLoader(texts))
    return texts


def test_text_is_escaped_and_what_was_rendered_is_not_escaped_again(templates: dict[str, str]) -> None:
    templates["inner.html"] = "<b>{{ name }}</b>"
    templates["outer.html"] = "<p>{{ part }}{{ text }}</p>"
    part = markup.render("inner.html", name="<script>")
    assert part == Markup("<b>&lt;script&gt;</b>")
    page = markup.render("outer.html", part=part, text="a & b")
    assert page == "<p><b>&lt;script&gt;</b>a &amp; b</p>"


def test_a_name_may_be_broken_after_slashes_and_underscores(templates: dict[str, str]) -> None:
    templates["name.html"] = "{{ name | breakable }}"
    assert markup.render("name.html", name="timm/vit_<b>") == "timm/<wbr>vit_<wbr>&lt;b&gt;"


def test_a_value_that_was_forgotten_is_an_error(templates: dict[str, str]) -> None:
    templates["name.html"] = "{{ name }}"
    with pytest.raises(jinja2.UndefinedError):
        markup.render("name.html")
