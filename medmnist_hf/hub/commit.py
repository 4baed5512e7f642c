"""Files go to a repository of any type: uploaded where missing, visible in one commit, read back, then tagged.

Large files go up before the commit that shows them, so an interrupted push does not send them again. The commit is
made on top of the one that was compared; where another commit came first, the repository is compared again.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoCard
from huggingface_hub.constants import REPO_TYPE_SPACE
from huggingface_hub.errors import HfHubHTTPError

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
        revision: Branch; made from the main branch where it is missing.
        private: A repository that is made is private; one that exists must be.
        create_pr: Open a pull request in place of a commit to the branch.
        tag: Tag to set on the commit once it has been checked; None for none.
        message: Title of the commit; by default one that says what is pushed.
    """

    repo_id: str
    revision: str = MAIN
    private: bool = False
    create_pr: bool = False
    tag: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push left.

    Attributes:
        repo_id: The repository.
        sha: The commit that was checked.
        committed: This push made it.
        pull_request: Address of the pull request that holds it; empty without one.
        tag: Tag of the commit; None without one.
    """

    repo_id: str
    sha: str
    committed: bool
    pull_request: str = ""
    tag: str | None = None

    def summary(self) -> str:
        """One line for a person."""
        commit = f"pull request {redact(self.pull_request)}" if self.pull_request else f"commit {self.sha[:12]}"
        if not self.committed:
            commit = f"unchanged, no commit made; {commit if self.pull_request else f'at {self.sha[:12]}'}"
        return f"{self.repo_id}: {commit}, all files checked{f', tagged {self.tag}' if self.tag else ''}"


def check_unchanged(planned: FilePlan, now: FilePlan) -> None:
    """Refuse to overwrite a file that another push has changed since the plan was made.

    Raises:
        HubError: There is one.
    """
    for path, file in planned.files.items():
        before, after = planned.state.files.get(path), now.state.files.get(path)
        if path == README_NAME and not planned.state.exists:
            continue  # the Hub writes a card into a new Space
        if after is not None and after != before and not after.holds(file):
            raise changed_meanwhile(now, path)


def changed_meanwhile(now: FilePlan, name: str) -> HubError:
    """The error of a push whose file or config another push has changed."""
    return HubError(
        f"another push has changed {now.state.repo_id} {name} meanwhile: run again to see what would change", 412
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
    """Carry a plan out, or what is left of it, and check what is on the Hub then, file by file.

    Interrupted at any moment, readers see the old state whole or the new one whole, and the same call completes it.

    Args:
        api: The client.
        plan: As it was shown; with a card among its files.
        options: As planned.
        title: Title of the commit where the options have none.
        compare: Reads the branch and compares it again.
        read_back: Called with the commit or pull request that was made, reads it and proves it whole.
        check_rival: Called with the plan as shown and as it is now, raises `HubError` if what another push has changed
            is for a person to decide.
        proposed: An open pull request with just these changes: checked in place of a new commit.
        on_progress: Called with a number of bytes that are up, whether sent now or there already.

    Raises:
        HubError: The Hub refuses or cannot be reached, another push changed the same files, or the Hub holds another
            file than was pushed; the tag is not set then.
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
            # It came with another push, or with a commit of this one whose answer was lost.
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
    """Check that a commit, as read back, holds all files of a plan, then tag it."""
    for path, file in plan.files.items():
        if not state.holds(path, file):
            raise HubError(f"{state.repo_id} has another {path} than was pushed: run again")
    if options.tag:
        set_tag(api, state, options.tag)
    return Pushed(state.repo_id, state.sha, committed, pull_request, options.tag)


def set_tag(api: HfApi, state: RemoteTree, tag: str) -> None:
    """Tag a commit, unless it has that tag.

    Raises:
        HubError: The Hub refuses, or the tag names another commit.
    """
    repo_id, repo_type = state.repo_id, state.repo_type
    at = tags_of(api, repo_id, repo_type).get(tag)
    if at is None:
        call_with_retries(
            f"tag {repo_id} as {tag}",
            lambda: api.create_tag(repo_id, tag=tag, revision=state.sha, repo_type=repo_type, exist_ok=True),
        )
        at = tags_of(api, repo_id, repo_type).get(tag)
    if at != state.sha:
        raise tag_taken(repo_id, tag, str(at))


def _open_branch(api: HfApi, plan: FilePlan, options: CommitOptions) -> None:
    """Have the Hub check the card, then make the repository and the branch where they are missing."""
    repo_id, repo_type = options.repo_id, plan.state.repo_type
    source = plan.files[README_NAME].source
    text = source.decode() if isinstance(source, bytes) else source.read_text(encoding="utf-8")

    def validate() -> RepoCard:
        card = RepoCard(text)
        card.validate(repo_type=repo_type)
        return card

    card = call_with_retries(f"push the card of {repo_id}", validate)
    if not plan.state.exists:
        sdk = card.data["sdk"] if repo_type == REPO_TYPE_SPACE else None
        call_with_retries(
            f"make {repo_id}",
            lambda: api.create_repo(
                repo_id, repo_type=repo_type, private=options.private, space_sdk=sdk, exist_ok=True
            ),
        )
    if not plan.state.has_branch and options.revision != MAIN:
        call_with_retries(
            f"make branch {options.revision} of {repo_id}",
            lambda: api.create_branch(repo_id, branch=options.revision, repo_type=repo_type, exist_ok=True),
        )


def _check_removals(planned: FilePlan, now: FilePlan) -> None:
    """What another push has added and this one would remove was not shown: a person decides."""
    surprise = sorted(set(now.paths("removed")) - set(planned.paths("removed")))
    if surprise:
        raise HubError(
            f"{now.state.repo_id} has got {surprise[0]} meanwhile, which this push would remove: "
            "run again to see what would change",
            412,
        )


def _worth_another_try(error: Exception, options: CommitOptions, attempt: int) -> bool:
    """After a failed commit; one that may have been made is found by reading again, but for a pull request."""
    if _is_stale(error):
        return True
    asked_to_wait = isinstance(error, HfHubHTTPError) and error.response.status_code == 429
    if not is_transient(error) or (options.create_pr and not asked_to_wait):
        return False
    return attempt + 1 < _ATTEMPTS and wait_before(error, attempt)


def _is_stale(error: Exception) -> bool:
    """Another commit came first."""
    return isinstance(error, HfHubHTTPError) and error.response.status_code == 412


def _operation(made: dict[tuple[str, str], CommitOperationAdd], path: str, file: PushFile) -> CommitOperationAdd:
    """The operation that adds a file, kept over attempts since it remembers what has been uploaded."""
    key = (path, file.sha256)
    if key not in made:
        made[key] = CommitOperationAdd(path, file.source)
        made[key].upload_info.sha256 = bytes.fromhex(file.sha256)
    return made[key]


def _batches(additions: Iterable[CommitOperationAdd]) -> Iterator[list[CommitOperationAdd]]:
    batch: list[CommitOperationAdd] = []
    for addition in additions:
        batch.append(addition)
        if len(batch) == _BATCH_FILES or sum(one.upload_info.size for one in batch) >= _BATCH_BYTES:
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
    """Send the large files that the Hub has not got; the client itself asks again where it is busy."""
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
