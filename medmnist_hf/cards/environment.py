"""The environment of Jinja templates: undefined names are errors, and untrusted text is never markup.

Text from a file, a recipe or a server goes through the filter ``plain``, or ``code`` for a code span. ``row`` joins
cells to a table row.
"""

import re
from collections.abc import Iterable

import jinja2


def environment(package: str, *, autoescape: bool = False) -> jinja2.Environment:
    """Create an environment for a package's folder ``templates``, with the filters ``plain``, ``code`` and ``row``."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=autoescape,
    )
    templates.filters |= {"plain": plain, "code": code, "row": row}
    return templates


def plain(text: object) -> str:
    """Escape text for Markdown, on one line, so that none of it becomes markup, HTML, a formula or a heading."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*\[\]<>|&~$]|^#)", r"\\\1", line)


def code(text: object) -> str:
    """Format text as a Markdown code span, on one line, whatever backticks it contains."""
    line = " ".join(str(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if len(fence) > 1 else f"`{line}`"


def row(cells: Iterable[object]) -> str:
    """Join cells to a row of a Markdown table, escaping bars that are not escaped yet."""
    texts = (re.sub(r"(?<!\\)\|", r"\\|", str(cell)) for cell in cells)
    return f"| {' | '.join(texts)} |"
