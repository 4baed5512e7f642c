"""The environment of templates: names must have values, rows keep their bars, HTML is escaped on request."""

import jinja2
import pytest

from medmnist_hf.cards.environment import environment


def test_a_name_without_a_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'flag' is undefined"):
        environment("medmnist_hf.cards").from_string("{{ flag }}").render()


def test_a_bar_within_a_cell_ends_no_cell() -> None:
    text = environment("medmnist_hf.cards").from_string("{{ cells | row }}").render(cells=["a|b", 2])
    assert text == r"| a\|b | 2 |"


@pytest.mark.parametrize(("autoescape", "text"), [(False, "<b>"), (True, "&lt;b&gt;")])
def test_escaping_is_a_choice(autoescape: bool, text: str) -> None:
    made = environment("medmnist_hf.cards", autoescape=autoescape)
    assert made.from_string("{{ value }}").render(value="<b>") == text
    assert "card.md.j2" in made.list_templates()
