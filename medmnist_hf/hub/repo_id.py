"""Parse repository ids: ``NAMESPACE/NAME`` and ``NAMESPACE/NAME@REVISION``."""

import re
from typing import Final

from medmnist_hf.errors import HubError

_REPO_ID: Final = re.compile(r"(?!.*(?:--|\.\.))\b[\w.-]+\b/\b[\w.-]{1,96}\b(?<!\.git)", re.ASCII)
"""Same rules as `huggingface_hub.utils.validate_repo_id`, whose import takes a second."""


def split_repo_id(repo_id: str, name: str = "", found_by: str = "") -> tuple[str, str]:
    """Split a repository id into namespace and name.

    Args:
        repo_id: ``NAMESPACE/NAME``.
        name: The required name; by default any name is accepted.
        found_by: What finds the repository by that name, for the error message.

    Raises:
        HubError: The id is not valid, or has another name.
    """
    namespace, _, actual = repo_id.partition("/")
    if not _REPO_ID.fullmatch(repo_id) or name not in {"", actual}:
        why = f", so that {found_by} can find it" if found_by else ""
        raise HubError(f"{repo_id!r} is not a valid repository: name it NAMESPACE/{name or 'NAME'}{why}")
    return namespace, actual


def split_revision(text: str) -> tuple[str, str | None] | None:
    """Split ``NAMESPACE/NAME[@REVISION]`` into repository and revision; the revision is None if it is left out.

    Returns:
        None if the text has another form, such as a path.
    """
    repo_id, at, revision = text.partition("@")
    if not _REPO_ID.fullmatch(repo_id) or bool(at) != bool(revision):
        return None
    return repo_id, revision or None
