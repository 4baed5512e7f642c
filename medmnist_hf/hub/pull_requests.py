"""Find the user's open pull requests, and whether one has the same changes as a push."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from huggingface_hub import HfApi
from huggingface_hub.constants import REPO_TYPE_DATASET

from medmnist_hf.hub.client import call_with_retries
from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.tree import read_tree


@dataclass(frozen=True, slots=True)
class PullRequest:
    """An open pull request.

    Attributes:
        url: URL of its page.
        revision: Git reference of its head, ``refs/pr/NUMBER``.
        same: Whether it has all files of the push, and none that the push would remove.
    """

    url: str
    revision: str
    same: bool

    def __str__(self) -> str:
        return f"{self.url} is open with {'the same changes' if self.same else 'other changes'}"


def open_pull_requests(
    api: HfApi, repo_id: str, base: str, files: Mapping[str, PushFile], removed: Sequence[str]
) -> tuple[PullRequest, ...]:
    """Return the open pull requests of the token's owner against a branch, latest first.

    Args:
        api: The client, with a token.
        repo_id: ``namespace/name`` of a data set.
        base: The branch.
        files: Path -> file of a push.
        removed: Paths that the push would remove.

    Raises:
        HubError: The pull requests cannot be read.
    """
    what = f"look for pull requests of {repo_id}"
    user = call_with_retries(what, api.whoami)["name"]
    pull_requests = []
    discussions = call_with_retries(
        what,
        lambda: list(
            api.get_repo_discussions(repo_id, author=user, discussion_type="pull_request", repo_type=REPO_TYPE_DATASET)
        ),
    )
    for discussion in discussions:
        # Filtering by status on the server may omit drafts, and pull requests opened by a client are drafts.
        if discussion.status not in {"open", "draft"} or _base_of(api, repo_id, discussion.num) != base:
            continue
        revision = f"refs/pr/{discussion.num}"
        tree = read_tree(api, repo_id, revision, repo_type=REPO_TYPE_DATASET)
        same = all(tree.holds(path, file) for path, file in files.items()) and not set(removed) & set(tree.files)
        pull_requests.append(PullRequest(discussion.url, revision, same))
    return tuple(pull_requests)


def _base_of(api: HfApi, repo_id: str, number: int) -> str:
    """Return the target branch of a pull request."""
    what = f"read pull request {number} of {repo_id}"
    details = call_with_retries(what, lambda: api.get_discussion_details(repo_id, number, repo_type=REPO_TYPE_DATASET))
    return (details.target_branch or "").removeprefix("refs/heads/")
