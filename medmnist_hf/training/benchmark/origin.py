"""When and by what a report was written: date, release of this package and, in a checkout, its commit."""

import datetime
import os
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

import medmnist_hf

DATE: Final = "SOURCE_DATE_EPOCH"
"""Variable that gives the date in place of the clock, in seconds since 1970 (reproducible-builds.org), so that a
report can be reproduced to the byte."""

_PATIENCE: Final = 10.0


def origin() -> str:
    """One sentence, such as ``Written on 2026-11-29 by medmnist-hf 0.2.0, commit 0123456789ab.``."""
    given = os.environ.get(DATE, "")
    now = datetime.datetime.now(datetime.UTC)
    when = datetime.datetime.fromtimestamp(int(given), datetime.UTC) if given.isdecimal() else now
    written = f"Written on {when.date().isoformat()} by medmnist-hf {version('medmnist-hf')}"
    found = commit(Path(medmnist_hf.__file__).parents[1])
    return f"{written}, commit {found}." if found else f"{written}."


def commit(folder: Path) -> str:
    """The commit that is checked out in a folder, with ``and changes`` if files differ; empty where there is none."""
    if not (folder / ".git").exists():
        return ""
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{head} and changes" if changed else head


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=_PATIENCE
    )
    return done.stdout.strip()
