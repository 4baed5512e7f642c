"""How Sphinx builds this documentation; docs/contributing/documentation.md says why so."""

import os
import re
import tomllib
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.nodes import make_refnode

ROOT = Path(__file__).parents[1]
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]

project = "medmnist-hf"
author = "the medmnist-hf contributors"
copyright = "the medmnist-hf contributors"
version = release = installed_version("medmnist-hf")

exclude_patterns = ["cards/space"]  # a page of its own
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton"]

html_theme = "pydata_sphinx_theme"
html_title = f"medmnist-hf {version}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_sidebars = {"changelog": [], "cli": []}  # pages of their own, in no section
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

# Headings have the anchors that GitHub gives them.
myst_heading_anchors = 4
nb_execution_mode = "off"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# A name in single backticks is a link where the reference has that name, and code where it does not.
default_role = "py:obj"
nitpick_ignore_regex = [
    ("py:obj", ".*"),
    ("py:.*", r"(collections|pathlib)\..*"),
    ("py:.*", r"(datasets|evaluate|huggingface_hub|numpy|PIL|torch|transformers)\..*"),
    ("py:.*", r".*\._[A-Z]\w*"),  # type variables
    ("py:class", r"(dict|tuple)\[\w+"),  # the type of an attribute of settings, cut at its comma
]

NDARRAY = re.compile(r"~?numpy\.ndarray\[tuple\[~?(?:typing\.)?Any, \.\.\.\], ~?numpy\.dtype\[([\w.~]+)\]\]")
"""How a type hint `NDArray[uint8]` is spelled once Python has evaluated it."""

BOUNDED = re.compile(r"~?(?:typing\.)?Annotated\[([\w.~]+), [\w.~]+\((?:[^()]|\([^()]*\))*\)\]")
"""A type that is narrowed for what is read from a file."""

GOOGLE = Config(napoleon_use_ivar=True, napoleon_use_rtype=False, napoleon_attr_annotations=True)


def shorten_types(text: str) -> str:
    """Write the types of a signature as its author did."""
    return BOUNDED.sub(r"\1", NDARRAY.sub(r"~numpy.typing.NDArray[\1]", text))


def on_docstring(_app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Make reStructuredText of a docstring in Google style.

    `sphinx.ext.napoleon` would take what stands before the first colon of an attribute's docstring for its type.
    """
    kind = "function" if what in {"attribute", "data", "property"} else what
    google = GoogleDocstring(list(lines), GOOGLE, None, kind, name, value, options)
    lines[:] = shorten_types("\n".join(google.lines())).splitlines()


def on_signature(
    _app: Any, _what: str, _name: str, _value: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Shorten the types of a signature."""
    return signature and shorten_types(signature), returns and shorten_types(returns)


def on_missing_name(app: Any, _env: Any, node: Any, content: Any) -> Any:
    """Link a name in backticks without its module, such as `Subset`, where the reference has one such name."""
    if node.get("reftype") != "obj" or not node["reftarget"].isidentifier():
        return None
    python = app.env.get_domain("py")
    found = [
        name
        for name in python.objects
        if name.rpartition(".")[2] == node["reftarget"] and not python.objects[name].aliased
    ]
    if len(found) != 1:
        return None
    entry = python.objects[found[0]]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, found[0])


PAGES_OF = {"CHANGELOG.md": "/changelog.md", "CONTRIBUTING.md": "/contributing/index.md", "README.md": "/index.md"}
"""File outside of docs/ -> the page of the site that includes it."""

LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")
"""A Markdown link to a file: its text, the path, the anchor."""


def lead_out(text: str, folder: Path) -> str:
    """Make links to files of the repository, written as GitHub needs them, links of this site.

    What has a page here is linked there, any other file in the repository.

    Args:
        text: Markdown.
        folder: What its links are relative to.
    """

    def target(match: re.Match[str]) -> str:
        words, path, anchor = match[1], Path(os.path.normpath(folder / match[2])), match[3] or ""
        if not path.exists() or not path.is_relative_to(ROOT):
            return match[0]  # reported by Sphinx
        inside = path.relative_to(ROOT)
        if inside.parts[0] == "cards":  # a link in docs/, which Markdown links are resolved through
            return f"{{doc}}`{words} </{inside.with_suffix('')}>`"
        if inside.parts[0] == "docs":
            return f"[{words}](/{Path(*inside.parts[1:])}{anchor})"
        if inside.name in PAGES_OF:
            return f"[{words}]({PAGES_OF[inside.name]})"
        return f"[{words}]({REPOSITORY}/blob/main/{inside}{anchor})"

    return LINK.sub(target, text)


def on_page(_app: Any, page: str, source: list[str]) -> None:
    """Rewrite the links of a page that is read."""
    source[0] = lead_out(source[0], (ROOT / "docs" / page).parent)


def on_include(_app: Any, path: Path, _page: str, source: list[str]) -> None:
    """Rewrite the links of a file that a page includes."""
    source[0] = lead_out(source[0], (ROOT / "docs" / path).resolve().parent)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", on_page)
    app.connect("include-read", on_include)
    app.connect("autodoc-process-docstring", on_docstring)
    app.connect("autodoc-process-signature", on_signature)
    app.connect("missing-reference", on_missing_name)
