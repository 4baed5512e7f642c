"""A page of a score card or a comparison: sections of text, tables and drawings, as HTML and as Markdown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import jinja2
from markupsafe import Markup

from medmnist_hf.cards.environment import environment, plain
from medmnist_hf.training.benchmark.report import markdown_table
from medmnist_hf.training.benchmark.tables import Table


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a page.

    Attributes:
        title: Its heading.
        texts: Paragraphs.
        tables: Tables.
        drawings: SVG elements with their captions; Markdown leaves them out.
    """

    title: str
    texts: Sequence[str] = ()
    tables: Sequence[Table] = ()
    drawings: Sequence[tuple[str, Markup]] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Attributes:
        title: Its title.
        warnings: What a reader must know first.
        lead: First paragraph.
        sections: Its sections.
    """

    title: str
    warnings: Sequence[str]
    lead: str
    sections: Sequence[Section]


def html(page: Page) -> str:
    """Format a page as one HTML file without scripts, which needs no other file and no network; text is escaped."""
    return render("page.html.j2", page=page)


def markdown(page: Page) -> str:
    """Format a page as GitHub-flavored Markdown, without its drawings."""
    parts = [f"# {plain(page.title)}", *(f"> **{plain(warning)}**" for warning in page.warnings), plain(page.lead)]
    for section in page.sections:
        parts += [f"## {plain(section.title)}", *map(plain, section.texts)]
        parts += [markdown_table(table) for table in section.tables]
    return "\n\n".join(parts) + "\n"


def render(template: str, **values: object) -> Markup:
    """Render a template of this package; text is escaped unless it is the result of `render`."""
    return Markup(_environment().get_template(template).render(values))


@cache
def _environment() -> jinja2.Environment:
    templates = environment("medmnist_hf.training.scorecard", autoescape=True)
    templates.filters["breakable"] = _breakable
    return templates


def _breakable(text: str) -> Markup:
    """Allow line breaks after slashes and underscores, since names of models are long."""
    return Markup("<wbr>").join(re.split(r"(?<=[/_])(?=\S)", text))
