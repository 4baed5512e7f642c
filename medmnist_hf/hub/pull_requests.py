"""Pull requests of one's own that are still open: whether one proposes already what a push would propose."""

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
        url: Its address.
        revision: What it would merge, ``refs/pr/NUMBER``.
        same: It has all files that the push wants, and none that the push would remove.
    """

    url: str
    revision: str
    same: bool


def open_pull_requests(
    api: HfApi, repo_id: str, base: str, files: Mapping[str, PushFile], removed: Sequence[str]
) -> tuple[PullRequest, ...]:
    """The open pull requests of the token's owner against a branch, latest first.

    Args:
        api: The client, with a token.
        repo_id: ``namespace/name`` of a data set.
        base: The branch.
        files: Path -> file that a push wants to be there.
        removed: Paths that it would remove.

    Raises:
        HubError: They cannot be read.
    """
    what = f"look for pull requests of {repo_id}"
    me = call_with_retries(what, api.whoami)["name"]
    found = []
    listed = call_with_retries(
        what,
        lambda: list(
            api.get_repo_discussions(repo_id, author=me, discussion_type="pull_request", repo_type=REPO_TYPE_DATASET)
        ),
    )
    for one in listed:
        # A filter by status may leave drafts out, and what a client opens is a draft.
        if one.status not in {"open", "draft"} or _base_of(api, repo_id, one.num) != base:
            continue
        revision = f"refs/pr/{one.num}"
        tree = read_tree(api, repo_id, revision, repo_type=REPO_TYPE_DATASET)
        same = all(tree.holds(path, file) for path, file in files.items()) and not set(removed) & set(tree.files)
        found.append(PullRequest(one.url, revision, same))
    return tuple(found)


def _base_of(api: HfApi, repo_id: str, number: int) -> str:
    """The branch that a pull request goes to."""
    what = f"read pull request {number} of {repo_id}"
    found = call_with_retries(what, lambda: api.get_discussion_details(repo_id, number, repo_type=REPO_TYPE_DATASET))
    return (found.target_branch or "").removeprefix("refs/heads/")
