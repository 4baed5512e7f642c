"""Origin of a report: date, release of this package and, in a checkout, its commit."""

import datetime
import os
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

import medmnist_hf

DATE: Final = "SOURCE_DATE_EPOCH"
"""Environment variable with the date to use instead of now, in seconds since 1970 (reproducible-builds.org), so that a
report can be reproduced byte for byte."""

_PATIENCE: Final = 10.0


def origin() -> str:
    """Describe the origin, such as ``Written on 2026-11-29 by medmnist-hf 0.2.0, commit 0123456789ab.``."""
    seconds = os.environ.get(DATE, "")
    now = datetime.datetime.now(datetime.UTC)
    when = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC) if seconds.isdecimal() else now
    release = f"Written on {when.date().isoformat()} by medmnist-hf {version('medmnist-hf')}"
    revision = commit(Path(medmnist_hf.__file__).parents[1])
    return f"{release}, commit {revision}." if revision else f"{release}."


def commit(folder: Path) -> str:
    """Commit checked out in a folder, followed by ``and changes`` if tracked files differ; empty without a commit."""
    if not (folder / ".git").exists():
        return ""
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{head} and changes" if changed else head


def _git(folder: Path, *arguments: str) -> str:
    process = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=_PATIENCE
    )
    return process.stdout.strip()
