"""Plan of a push to a repository of any type: one action per file, and checks of visibility and tags."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from huggingface_hub import HfApi

from medmnist_hf.errors import HubError
from medmnist_hf.hub.client import call_with_retries
from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.tree import RemoteFile, RemoteTree

ATTRIBUTES_NAME: Final = ".gitattributes"
"""File that the Hub adds to each repository; it is never removed."""


@dataclass(frozen=True, slots=True)
class Change:
    """Action of a push on one file.

    Attributes:
        path: Path in the repository.
        action: ``new``, ``changed``, ``same`` or ``removed``.
        size: Size in bytes; for ``removed``, of the file to remove.
    """

    path: str
    action: str
    size: int


@dataclass(frozen=True, slots=True)
class FilePlan:
    """Changes that a push would make to the files of a repository.

    Attributes:
        state: The repository before the push.
        changes: One per file, ordered by path.
        files: Path -> file, for all files that the push writes or leaves unchanged.
    """

    state: RemoteTree
    changes: tuple[Change, ...]
    files: dict[str, PushFile]

    def paths(self, *actions: str) -> list[str]:
        """Return the paths of the files with one of these actions."""
        return [change.path for change in self.changes if change.action in actions]

    def count(self, action: str) -> tuple[int, int]:
        """Return the number and the total size in bytes of the files with an action."""
        sizes = [change.size for change in self.changes if change.action == action]
        return len(sizes), sum(sizes)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to change."""
        return not self.paths("new", "changed", "removed")

    def lines(self) -> Iterator[str]:
        """Yield the plan as text: the repository, a line for each change, and totals."""
        state = self.state
        yield f"{state.repo_id} ({f'at {state.sha[:12]}' if state.exists else 'does not exist yet'})"
        changing = [change for change in self.changes if change.action != "same"]
        width = max((len(change.path) for change in changing), default=0)
        yield from (f"{change.action:<8} {change.path:<{width}} {change.size:>13,}" for change in changing)
        counts = {action: self.count(action) for action in ("new", "changed", "same", "removed")}
        yield ", ".join(f"{number} {action} ({size:,} bytes)" for action, (number, size) in counts.items())


def check_plan(api: HfApi, plan: FilePlan, *, private: bool, tag: str | None) -> None:
    """Refuse a plan whose repository is public but should be private, or has the tag on another commit.

    Raises:
        HubError: The plan is refused, or the tags cannot be read.
    """
    state = plan.state
    if state.exists and private and not state.private:
        raise HubError(f"{state.repo_id} is public: make it private in its settings first, or drop --private")
    if tag and state.exists:
        tagged_sha = tags_of(api, state.repo_id, state.repo_type).get(tag)
        if tagged_sha is not None and not (plan.empty and tagged_sha == state.sha):
            raise tag_taken(state.repo_id, tag, tagged_sha)


def changes_of(files: Mapping[str, PushFile], remote_files: Mapping[str, RemoteFile]) -> list[Change]:
    """Compare files with those in a repository: each is ``new``, ``changed`` or ``same``."""
    changes = []
    for path, file in files.items():
        remote_file = remote_files.get(path)
        action = "new" if remote_file is None else "same" if remote_file.holds(file) else "changed"
        changes.append(Change(path, action, file.size))
    return changes


def tags_of(api: HfApi, repo_id: str, repo_type: str) -> dict[str, str]:
    """Return the tags of a repository with their commits.

    Raises:
        HubError: The tags cannot be read.
    """
    refs = call_with_retries(f"read the tags of {repo_id}", lambda: api.list_repo_refs(repo_id, repo_type=repo_type))
    return {tag.name: tag.target_commit for tag in refs.tags}


def tag_taken(repo_id: str, tag: str, tagged_sha: str) -> HubError:
    """Return the error for a tag that points to another commit."""
    return HubError(f"{repo_id} already has the tag {tag} at {tagged_sha[:12]}, and tags never move: use another name")
