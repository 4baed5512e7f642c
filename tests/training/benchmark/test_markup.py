"""`medmnist_hf.training.benchmark.markup`: every value is escaped once, and long names can wrap."""

import jinja2
import pytest
from markupsafe import Markup

from medmnist_hf.training.benchmark import markup


@pytest.fixture
def templates(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Templates of the test, which replace those of the package."""
    texts: dict[str, str] = {}
    monkeypatch.setattr(markup._environment(), "loader", jinja2.DictLoader(texts))
    return texts


def test_text_is_escaped_but_rendered_markup_is_not(templates: dict[str, str]) -> None:
    templates["inner.html"] = "<b>{{ name }}</b>"
    templates["outer.html"] = "<p>{{ part }}{{ text }}</p>"
    part = markup.render("inner.html", name="<script>")
    assert part == Markup("<b>&lt;script&gt;</b>")
    page = markup.render("outer.html", part=part, text="a & b")
    assert page == "<p><b>&lt;script&gt;</b>a &amp; b</p>"


def test_names_can_wrap_after_slashes_and_underscores(templates: dict[str, str]) -> None:
    templates["name.html"] = "{{ name | breakable }}"
    assert markup.render("name.html", name="timm/vit_<b>") == "timm/<wbr>vit_<wbr>&lt;b&gt;"


def test_a_missing_value_is_an_error(templates: dict[str, str]) -> None:
    templates["name.html"] = "{{ name }}"
    with pytest.raises(jinja2.UndefinedError):
        markup.render("name.html")
