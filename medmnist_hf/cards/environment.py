"""The environment of Jinja templates: a name without a value is an error, and words of others are text, never markup.

What a file, a recipe or a server says goes through the filter ``plain``, or ``code`` where it stands in a code span;
``row`` makes cells a row of a table.
"""

import re
from collections.abc import Iterable

import jinja2


def environment(package: str, *, autoescape: bool = False) -> jinja2.Environment:
    """An environment for the folder ``templates`` of a package, with the filters ``plain``, ``code`` and ``row``."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=autoescape,
    )
    made.filters |= {"plain": plain, "code": code, "row": row}
    return made


def plain(text: object) -> str:
    """Text that Markdown shows as it is, on one line: no markup, HTML, formula or heading comes of it."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*\[\]<>|&~$]|^#)", r"\\\1", line)


def code(text: object) -> str:
    """Text as a code span of Markdown, whatever backticks it holds, on one line."""
    line = " ".join(str(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if len(fence) > 1 else f"`{line}`"


def row(cells: Iterable[object]) -> str:
    """Cells as a row of a Markdown table; bars in them that are not escaped yet are."""
    texts = (re.sub(r"(?<!\\)\|", r"\\|", str(cell)) for cell in cells)
    return f"| {' | '.join(texts)} |"
