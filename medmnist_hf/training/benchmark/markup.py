"""HTML and SVG by templates that escape every value."""

import re
from functools import cache

import jinja2
from markupsafe import Markup

from medmnist_hf.cards.environment import environment


def render(template: str, **values: object) -> Markup:
    """Render a template of this package.

    Args:
        template: Its file name.
        values: What it shows; text is escaped, unless it was rendered here.
    """
    return Markup(_environment().get_template(template).render(values))


@cache
def _environment() -> jinja2.Environment:
    made = environment("medmnist_hf.training.benchmark", autoescape=True)
    made.filters["breakable"] = _breakable
    return made


def _breakable(text: str) -> Markup:
    """Text that may be broken after a slash or an underscore, as names of models must be."""
    return Markup("<wbr>").join(re.split(r"(?<=[/_])(?=\S)", text))
