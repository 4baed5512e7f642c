"""No tracked text holds a turn of phrase that the project has settled against, see ``glossary.toml``."""

import re
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from tests.fixtures.paths import ROOT

GLOSSARY = Path(__file__).with_name("glossary.toml")
PHRASES: list[dict[str, str]] = tomllib.loads(GLOSSARY.read_text(encoding="utf-8"))["phrase"]
NOT_OURS = {".bib", ".npz", ".png", ".csv", ".parquet"}
"""Text of others, figures, and what is not text."""


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in tracked()
    if path.suffix not in NOT_OURS and path != GLOSSARY
}


def test_the_files_of_the_project_are_read() -> None:
    assert {"README.md", "medmnist_hf/catalog.toml", "tests/project/test_glossary.py"} <= TEXTS.keys()


def lines_with(pattern: str, text: str) -> list[int]:
    """Numbers of the lines in which a phrase begins; it may end in the next line, also of a comment."""
    lines = [line.rstrip() for line in text.splitlines()]
    return [
        number
        for number, (line, following) in enumerate(pairwise([*lines, ""]), 1)
        if any(
            match.start() <= len(line)
            for match in re.finditer(pattern, f"{line} {following.lstrip(' #%>')}", re.IGNORECASE)
        )
    ]


@pytest.mark.parametrize("between", [" ", "\n", "  \n    ", "\n# ", "\n> "])
def test_a_phrase_is_found_across_lines(between: str) -> None:
    assert lines_with(r"\bbroken wing\b", f"first\n# a broken{between}wing\nlast") == [2]
    assert lines_with(r"\bbroken wing\b", f"a broken{between}winglet") == []


@pytest.mark.parametrize("phrase", PHRASES, ids=[phrase["example"] for phrase in PHRASES])
def test_a_phrase_is_not_used(phrase: dict[str, str]) -> None:
    pattern = phrase["pattern"]
    assert lines_with(pattern, phrase["example"])
    found = [
        f"{name}:{number}: {text.splitlines()[number - 1].strip()}"
        for name, text in TEXTS.items()
        for number in lines_with(pattern, text)
    ]
    assert not found, f"write {phrase['write']!r}:\n" + "\n".join(found)
