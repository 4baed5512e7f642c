"""Names of repositories as people type them: ``NAMESPACE/NAME``, and ``NAMESPACE/NAME@REVISION``."""

import re
from typing import Final

from medmnist_hf.errors import HubError

_REPO_ID: Final = re.compile(r"(?!.*(?:--|\.\.))\b[\w.-]+\b/\b[\w.-]{1,96}\b(?<!\.git)", re.ASCII)
"""The rules of `huggingface_hub.utils.validate_repo_id`, whose import takes a second."""


def split_repo_id(repo_id: str, name: str = "", found_by: str = "") -> tuple[str, str]:
    """Namespace and name of a repository.

    Args:
        repo_id: ``NAMESPACE/NAME``.
        name: The only name that will do; any by default.
        found_by: What looks the repository up by that name, for the error.

    Raises:
        HubError: It is not a valid id, or has another name.
    """
    namespace, _, actual = repo_id.partition("/")
    if not _REPO_ID.fullmatch(repo_id) or name not in {"", actual}:
        why = f", so that {found_by} can find it" if found_by else ""
        raise HubError(f"{repo_id!r} is not a valid repository: name it NAMESPACE/{name or 'NAME'}{why}")
    return namespace, actual


def split_revision(text: str) -> tuple[str, str | None] | None:
    """Repository and revision of ``NAMESPACE/NAME[@REVISION]``, the latter None where it is left out.

    Returns:
        None where the text has another form, such as that of a path.
    """
    repo_id, at, revision = text.partition("@")
    if not _REPO_ID.fullmatch(repo_id) or bool(at) != bool(revision):
        return None
    return repo_id, revision or None
