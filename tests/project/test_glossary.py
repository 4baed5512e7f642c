"""No tracked text holds a turn of phrase that the project has settled against, see ``glossary.toml``."""

import re
import subprocess
import tomllib
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


@pytest.mark.parametrize("phrase", PHRASES, ids=[phrase["example"] for phrase in PHRASES])
def test_a_phrase_is_not_used(phrase: dict[str, str]) -> None:
    pattern = re.compile(phrase["pattern"], re.IGNORECASE)
    assert pattern.search(phrase["example"])
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in TEXTS.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, f"write {phrase['write']!r}:\n" + "\n".join(found)
