"""The environment of Jinja templates: a name without a value is an error, and a Markdown row keeps its bars."""

import jinja2


def environment(package: str, *, autoescape: bool = False) -> jinja2.Environment:
    """An environment for the folder ``templates`` of a package, with the filter ``row`` for cells of a table."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=autoescape,
    )
    made.filters["row"] = lambda cells: f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"
    return made
