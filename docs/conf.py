"""How Sphinx builds this documentation; docs/contributing/documentation.md says why so."""

import os
import re
import tomllib
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]

project = "medmnist-hf"
author = "the medmnist-hf contributors"
copyright = "the medmnist-hf contributors"
version = release = installed_version("medmnist-hf")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "sphinx_design"]
suppress_warnings = ["toc.empty_glob"]  # a pattern whose pages are yet to come

html_theme = "pydata_sphinx_theme"
html_title = f"medmnist-hf {version}"
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 8,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

# Headings have the anchors that GitHub gives them.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
nb_execution_mode = "off"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


PAGES_OF = {"CHANGELOG.md": "/changelog.md", "README.md": "/index.md"}
"""What lies outside of docs/ and has a page here -> that page."""

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
