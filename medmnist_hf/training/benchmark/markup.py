"""Render HTML and SVG from templates that escape every value."""

import re
from functools import cache

import jinja2
from markupsafe import Markup

from medmnist_hf.cards.environment import environment


def render(template: str, **values: object) -> Markup:
    """Render a template of this package.

    Args:
        template: File name of the template.
        values: Values of its variables; text is escaped unless it is the result of `render`.
    """
    return Markup(_environment().get_template(template).render(values))


@cache
def _environment() -> jinja2.Environment:
    templates = environment("medmnist_hf.training.benchmark", autoescape=True)
    templates.filters["breakable"] = _breakable
    return templates


def _breakable(text: str) -> Markup:
    """Allow line breaks after slashes and underscores, since names of models are long."""
    return Markup("<wbr>").join(re.split(r"(?<=[/_])(?=\S)", text))
