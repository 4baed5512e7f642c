"""The API reference covers every public name."""

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

import medmnist_hf
from tests.fixtures.pages import PAGES, name_of
from tests.fixtures.paths import ROOT

API: Final = ROOT / "docs/api"
MODULES: Final = re.compile(r"^\.\. automodule:: ([\w.]+)$", flags=re.MULTILINE)
OBJECTS: Final = re.compile(r"^\.\. auto(?:class|data|exception|function):: ([\w.]+)$", flags=re.MULTILINE)


def packages_with_names() -> list[str]:
    """Packages other than `medmnist_hf` itself that define ``__all__``."""
    inits = (ROOT / "medmnist_hf").rglob("*/__init__.py")
    return [
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in sorted(inits)
        if "\n__all__ = " in path.read_text(encoding="utf-8")
    ]


def test_the_first_page_documents_exactly_the_public_names() -> None:
    documented = OBJECTS.findall((API / "medmnist_hf.md").read_text(encoding="utf-8"))
    assert sorted(documented) == sorted(f"medmnist_hf.{name}" for name in medmnist_hf.__all__)


@pytest.mark.parametrize("package", packages_with_names())
def test_a_package_with_public_names_has_a_page(package: str) -> None:
    documented = [name for page in API.glob("*.md") for name in MODULES.findall(page.read_text(encoding="utf-8"))]
    assert documented.count(package) == 1
    assert set(import_module(package).__all__) <= set(dir(import_module(package)))  # used by Sphinx


@pytest.mark.parametrize("page", sorted(API.glob("*.md")), ids=lambda page: page.name)
def test_the_index_lists_every_page(page: Path) -> None:
    listed = (API / "index.md").read_text(encoding="utf-8")
    assert page.name == "index.md" or (f"]({page.name})" in listed and f"\n{page.stem}\n" in listed)


@cache
def names_in(path: Path) -> frozenset[str]:
    """Top-level names of a module, including imports, read from its source, since importing can take ten seconds."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.ImportFrom():
                found.update(alias.asname or alias.name for alias in node.names)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return frozenset(found)


def is_name(dotted: str) -> bool:
    """Whether a module exists, or has the next name; names after that are not checked."""
    path = ROOT
    for part in dotted.split("."):
        if (path / part).is_dir():
            path = path / part
        elif (path / f"{part}.py").is_file():
            path = path / f"{part}.py"
        else:
            return part in names_in(path if path.suffix else path / "__init__.py")
    return True


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_names_on_a_page_exist(page: Path) -> None:
    for dotted in re.findall(r"(?<![\w./-])medmnist_hf(?:\.(?!md\b)\w+)+", page.read_text(encoding="utf-8")):
        assert is_name(dotted), dotted
