"""Community files of the repository: their facts match ``pyproject.toml``, and their commands exist."""

import re
import tomllib
from typing import Any

import yaml

from medmnist_hf.catalog import bibtex
from tests.fixtures.paths import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = PYPROJECT["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))


def test_changelog_and_citation_have_the_version_and_its_date() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## (\S+) - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert (PROJECT["version"],) * 2 == (newest[1], citation["version"])
    assert citation["date-released"] == newest[2]
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]


def test_the_citation_of_medmnist_is_that_of_the_catalog() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (paper,) = citation["references"]
    entry = bibtex().split("\n\n")[0]
    assert f"doi = {{{paper['doi']}}}" in entry and f"year = {{{paper['year']}}}" in entry
    authors = " and ".join(f"{person['family-names']}, {person['given-names']}" for person in paper["authors"])
    assert f"author = {{{authors}}}" in entry


def test_the_workflow_runs_every_python_that_is_supported() -> None:
    prefix = "Programming Language :: Python :: 3."
    supported = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if name.startswith(prefix)]
    matrix = WORKFLOW["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python-version"] == supported
    assert PROJECT["requires-python"] == f">={supported[0]}"
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos"}


def test_the_workflow_runs_targets_that_exist() -> None:
    steps = [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step]
    targets = {target for step in steps for target in re.findall(r"^make (\S+)", step)}
    assert {"lint", "docs", "test", "test-core", "test-flower", "test-minimum", "test-slow", "coverage"} == targets
    assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in targets)


def test_hooks_have_the_lower_bounds_of_the_development_environment() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    needed = {each for hook in hooks for each in hook["additional_dependencies"]}
    ours = {each for each in needed if each.startswith(("ruff", "typos"))}
    assert len(ours) == 2 and ours <= set(PROJECT["optional-dependencies"]["dev"])


def test_issue_forms_ask_for_something() -> None:
    forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 4
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name == "config.yml":
            assert all(link["url"].startswith("https://") for link in form["contact_links"])
        else:
            assert form["name"] and form["description"]
            assert any(field["validations"]["required"] for field in form["body"] if "validations" in field)


def test_coverage_has_a_floor() -> None:
    assert PYPROJECT["tool"]["coverage"]["report"]["fail_under"] >= 97
