"""What a push would change in a repository: one action per file, and the tags that are taken."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from huggingface_hub import HfApi

from medmnist_hf.errors import HubError
from medmnist_hf.hub.client import call_with_retries
from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.tree import RemoteFile, RemoteTree

ATTRIBUTES_NAME: Final = ".gitattributes"
"""File that the Hub itself puts into a repository; no push removes it."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a push does with one file.

    Attributes:
        path: Path in the repository.
        action: ``new``, ``changed``, ``same`` or ``removed``.
        size: Size in bytes, of the file that goes in the case of ``removed``.
    """

    path: str
    action: str
    size: int


@dataclass(frozen=True, slots=True)
class FilePlan:
    """What a push would do to the files of a repository as it stands.

    Attributes:
        state: The repository as it stands.
        changes: One for each file, ordered by path.
        files: Path -> every file that is to be there.
    """

    state: RemoteTree
    changes: tuple[Change, ...]
    files: dict[str, PushFile]

    def paths(self, *actions: str) -> list[str]:
        """Paths of the files with one of these actions."""
        return [change.path for change in self.changes if change.action in actions]

    def count(self, action: str) -> tuple[int, int]:
        """Number and bytes of the files with that action."""
        sizes = [change.size for change in self.changes if change.action == action]
        return len(sizes), sum(sizes)

    @property
    def empty(self) -> bool:
        """Everything is there as it should be."""
        return not self.paths("new", "changed", "removed")

    def lines(self) -> Iterator[str]:
        """The plan for a person: where to, a line for each file that changes, and how many there are."""
        state = self.state
        yield f"{state.repo_id} ({f'at {state.sha[:12]}' if state.exists else 'does not exist yet'})"
        changing = [change for change in self.changes if change.action != "same"]
        width = max((len(change.path) for change in changing), default=0)
        yield from (f"{change.action:<8} {change.path:<{width}} {change.size:>13,}" for change in changing)
        counts = {action: self.count(action) for action in ("new", "changed", "same", "removed")}
        yield ", ".join(f"{number} {action} ({size:,} bytes)" for action, (number, size) in counts.items())


def check_plan(api: HfApi, plan: FilePlan, *, private: bool, tag: str | None) -> None:
    """Refuse a plan whose repository is public and should not be, or has the tag on another commit.

    Raises:
        HubError: It is so, or the tags cannot be read.
    """
    state = plan.state
    if state.exists and private and not state.private:
        raise HubError(f"{state.repo_id} is public: make it private in its settings first, or drop --private")
    if tag and state.exists:
        at = tags_of(api, state.repo_id, state.repo_type).get(tag)
        if at is not None and not (plan.empty and at == state.sha):
            raise tag_taken(state.repo_id, tag, at)


def changes_of(files: Mapping[str, PushFile], there: Mapping[str, RemoteFile]) -> list[Change]:
    """What becomes of each file that is to be there: ``new``, ``changed`` or ``same``."""
    changes = []
    for path, file in files.items():
        now = there.get(path)
        action = "new" if now is None else "same" if now.holds(file) else "changed"
        changes.append(Change(path, action, file.size))
    return changes


def tags_of(api: HfApi, repo_id: str, repo_type: str) -> dict[str, str]:
    """Tag -> commit it names.

    Raises:
        HubError: They cannot be read.
    """
    refs = call_with_retries(f"read the tags of {repo_id}", lambda: api.list_repo_refs(repo_id, repo_type=repo_type))
    return {tag.name: tag.target_commit for tag in refs.tags}


def tag_taken(repo_id: str, tag: str, at: str) -> HubError:
    """The error of a tag that names another commit."""
    return HubError(f"{repo_id} has a tag {tag} at {at[:12]} already, and tags do not move: choose another name")
