"""Push files to a repository of any type: upload missing ones, commit once, read back, then tag.

Large files are uploaded before the commit, so an interrupted push does not send them again. The parent of the commit
is the one that was compared; if another commit came first, the repository is compared again.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoCard
from huggingface_hub.constants import REPO_TYPE_SPACE
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import _http

from medmnist_hf.errors import HubError
from medmnist_hf.hub.client import (
    MAIN,
    call_with_retries,
    client_errors,
    is_transient,
    require_token,
    to_hub_error,
    wait_before,
)
from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.plan import FilePlan, tag_taken, tags_of
from medmnist_hf.hub.pull_requests import PullRequest
from medmnist_hf.hub.tree import RemoteTree
from medmnist_hf.manifest import README_NAME
from medmnist_hf.network import call_with_timeout, transfer_seconds
from medmnist_hf.redaction import redact

_ATTEMPTS: Final = 6
_BATCH_FILES: Final = 32
_BATCH_BYTES: Final = 1 << 29
_Plan = TypeVar("_Plan", bound=FilePlan)


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """Where and how files are pushed.

    Attributes:
        repo_id: ``namespace/name``.
        revision: Branch; created from the main branch if it is missing.
        private: Create the repository as private; an existing one must be private.
        create_pr: Open a pull request instead of committing to the branch.
        tag: Tag to set on the commit after verification; None for no tag.
        message: Title of the commit; by default it says what is pushed.
    """

    repo_id: str
    revision: str = MAIN
    private: bool = False
    create_pr: bool = False
    tag: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """Result of a push.

    Attributes:
        repo_id: The repository.
        sha: The verified commit.
        committed: Whether this push created the commit.
        pull_request: URL of the pull request with the commit; empty without one.
        tag: Tag of the commit; None without one.
    """

    repo_id: str
    sha: str
    committed: bool
    pull_request: str = ""
    tag: str | None = None

    def summary(self) -> str:
        """Return the result in one line."""
        commit = f"pull request {redact(self.pull_request)}" if self.pull_request else f"commit {self.sha[:12]}"
        if not self.committed:
            commit = f"unchanged, no commit made; {commit if self.pull_request else f'at {self.sha[:12]}'}"
        return f"{self.repo_id}: {commit}, all files checked{f', tagged {self.tag}' if self.tag else ''}"


def check_unchanged(planned: FilePlan, now: FilePlan) -> None:
    """Refuse to overwrite a file that another push has changed since the plan was made.

    Raises:
        HubError: Another push has changed a file of the plan.
    """
    for path, file in planned.files.items():
        before, after = planned.state.files.get(path), now.state.files.get(path)
        if path == README_NAME and not planned.state.exists:
            continue  # the Hub writes a card into a new Space
        if after is not None and after != before and not after.holds(file):
            raise changed_meanwhile(now, path)


def changed_meanwhile(now: FilePlan, name: str) -> HubError:
    """Return the error for a file or config that another push has changed."""
    return HubError(
        f"another push has changed {name} of {now.state.repo_id} meanwhile: run again to see what would change", 412
    )


def commit_plan(
    api: HfApi,
    plan: _Plan,
    options: CommitOptions,
    *,
    title: str,
    compare: Callable[[], _Plan],
    read_back: Callable[[str], RemoteTree],
    check_rival: Callable[[_Plan, _Plan], None] = check_unchanged,
    proposed: PullRequest | None = None,
    on_progress: Callable[[int], object] = lambda count: None,
) -> Pushed:
    """Carry out a plan, or what remains of it, and verify the files on the Hub.

    If it is interrupted, readers see either the complete old or the complete new state, and the same call finishes the
    push.

    Args:
        api: The client.
        plan: The plan that the user has seen; its files include a card.
        options: The options of the plan.
        title: Title of the commit if the options have none.
        compare: Reads the branch and makes a new plan.
        read_back: Reads the created commit or pull request and verifies that it is complete.
        check_rival: Called with the original and the new plan; raises `HubError` if another push has made changes that
            a person must decide on.
        proposed: An open pull request with exactly these changes, which is verified instead of creating a commit.
        on_progress: Called with the number of bytes of each uploaded batch, including files that were there before.

    Raises:
        HubError: The Hub refuses or cannot be reached, another push changed the same files, or a file on the Hub
            differs from the pushed one; in these cases the tag is not set.
    """
    require_token(api)
    if plan.empty and plan.state.has_branch:
        return _check_and_tag(api, plan, options, read_back(plan.state.sha))
    if proposed:
        return _check_and_tag(api, plan, options, read_back(proposed.revision), pull_request=proposed.url)
    _open_branch(api, plan, options)
    repo_type = plan.state.repo_type
    operations: dict[tuple[str, str], CommitOperationAdd] = {}
    lost = False
    for attempt in range(_ATTEMPTS):
        now = compare()
        check_rival(plan, now)
        _check_removals(plan, now)
        if now.empty:
            # Another push made these changes, or the response to our own commit was lost.
            return _check_and_tag(api, now, options, read_back(now.state.sha), committed=lost)
        additions = [_operation(operations, path, now.files[path]) for path in now.paths("new", "changed")]
        _upload(api, additions, options, repo_type, on_progress if attempt == 0 else lambda count: None)
        try:
            made = api.create_commit(
                options.repo_id,
                [*additions, *(CommitOperationDelete(path, is_folder=False) for path in now.paths("removed"))],
                commit_message=options.message or title,
                repo_type=repo_type,
                revision=options.revision,
                parent_commit=now.state.sha,
                create_pr=options.create_pr,
            )
        except client_errors() as error:
            if not _worth_another_try(error, options, attempt):
                raise to_hub_error(f"push to {options.repo_id}", error) from None
            lost = lost or not _is_stale(error)
            continue
        state = read_back(made.pr_revision or made.oid)
        return _check_and_tag(api, now, options, state, committed=True, pull_request=made.pr_url or "")
    raise HubError(f"cannot push to {options.repo_id}: others push to it all the time, run again later", 412)


def _check_and_tag(
    api: HfApi,
    plan: FilePlan,
    options: CommitOptions,
    state: RemoteTree,
    *,
    committed: bool = False,
    pull_request: str = "",
) -> Pushed:
    """Check that a commit holds all files of a plan, then tag it."""
    for path, file in plan.files.items():
        if not state.holds(path, file):
            raise HubError(f"{path} of {state.repo_id} differs from the pushed file: run again")
    if options.tag:
        set_tag(api, state, options.tag)
    return Pushed(state.repo_id, state.sha, committed, pull_request, options.tag)


def set_tag(api: HfApi, state: RemoteTree, tag: str) -> None:
    """Tag a commit, unless it has the tag already.

    Raises:
        HubError: The Hub refuses, or the tag points to another commit.
    """
    repo_id, repo_type = state.repo_id, state.repo_type
    tagged_sha = tags_of(api, repo_id, repo_type).get(tag)
    if tagged_sha is None:
        call_with_retries(
            f"tag {repo_id} as {tag}",
            lambda: api.create_tag(repo_id, tag=tag, revision=state.sha, repo_type=repo_type, exist_ok=True),
        )
        tagged_sha = tags_of(api, repo_id, repo_type).get(tag)
    if tagged_sha != state.sha:
        raise tag_taken(repo_id, tag, str(tagged_sha))


def _open_branch(api: HfApi, plan: FilePlan, options: CommitOptions) -> None:
    """Have the Hub validate the card, then create the repository and the branch if they are missing."""
    repo_id, repo_type = options.repo_id, plan.state.repo_type
    source = plan.files[README_NAME].source
    text = source.decode() if isinstance(source, bytes) else source.read_text(encoding="utf-8")

    def validate() -> None:
        # Not RepoCard.validate: before release 2 of the client, it asks huggingface.co, whatever the endpoint.
        body = {"repoType": repo_type, "content": text}
        response = _http.get_session().post(f"{api.endpoint}/api/validate-yaml", json=body)
        if response.status_code == HTTPStatus.BAD_REQUEST:
            raise ValueError(response.text)
        _http.hf_raise_for_status(response)

    call_with_retries(f"push the card of {repo_id}", validate)
    if not plan.state.exists:
        sdk = RepoCard(text).data["sdk"] if repo_type == REPO_TYPE_SPACE else None
        call_with_retries(
            f"create {repo_id}",
            lambda: api.create_repo(
                repo_id, repo_type=repo_type, private=options.private, space_sdk=sdk, exist_ok=True
            ),
        )
    if not plan.state.has_branch and options.revision != MAIN:
        call_with_retries(
            f"create branch {options.revision} of {repo_id}",
            lambda: api.create_branch(repo_id, branch=options.revision, repo_type=repo_type, exist_ok=True),
        )


def _check_removals(planned: FilePlan, now: FilePlan) -> None:
    """Refuse to remove a file that another push has added, since the plan did not show it."""
    unplanned = sorted(set(now.paths("removed")) - set(planned.paths("removed")))
    if unplanned:
        raise HubError(
            f"another push has added {unplanned[0]} to {now.state.repo_id} meanwhile, which this push would remove: "
            "run again to see what would change",
            412,
        )


def _worth_another_try(error: Exception, options: CommitOptions, attempt: int) -> bool:
    """Return whether to retry a failed commit.

    A commit that succeeded without a response is found by reading the branch again. A pull request is not, so it is
    retried only if the Hub asked to wait.
    """
    if _is_stale(error):
        return True
    rate_limited = isinstance(error, HfHubHTTPError) and error.response.status_code == 429
    if not is_transient(error) or (options.create_pr and not rate_limited):
        return False
    return attempt + 1 < _ATTEMPTS and wait_before(error, attempt)


def _is_stale(error: Exception) -> bool:
    """Return whether another commit came first."""
    return isinstance(error, HfHubHTTPError) and error.response.status_code == 412


def _operation(cache: dict[tuple[str, str], CommitOperationAdd], path: str, file: PushFile) -> CommitOperationAdd:
    """Return the operation that adds a file, cached across attempts because it records whether it was uploaded."""
    key = (path, file.sha256)
    if key not in cache:
        cache[key] = CommitOperationAdd(path, file.source)
        cache[key].upload_info.sha256 = bytes.fromhex(file.sha256)
    return cache[key]


def _batches(additions: Iterable[CommitOperationAdd]) -> Iterator[list[CommitOperationAdd]]:
    batch: list[CommitOperationAdd] = []
    for addition in additions:
        batch.append(addition)
        if len(batch) == _BATCH_FILES or sum(operation.upload_info.size for operation in batch) >= _BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def _upload(
    api: HfApi,
    additions: list[CommitOperationAdd],
    options: CommitOptions,
    repo_type: str,
    on_progress: Callable[[int], object],
) -> None:
    """Upload the large files that the Hub lacks; the client retries if the Hub is busy."""
    for batch in _batches(additions):
        upload = partial(
            api.preupload_lfs_files,
            options.repo_id,
            batch,
            repo_type=repo_type,
            revision=options.revision,
            create_pr=options.create_pr,
            free_memory=False,
        )
        size = sum(addition.upload_info.size for addition in batch)
        call_with_retries(
            f"upload to {options.repo_id}", partial(call_with_timeout, transfer_seconds(size), upload), tries=2
        )
        on_progress(size)
