"""Push a build to the Hub: planned, uploaded where it is missing, visible in one commit, checked, then tagged.

What is on the Hub already is merged: the card of a push describes the configs that stay as well as those that come.
Large files go up before the commit that shows them, so a push that was interrupted does not send them again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DatasetCard, HfApi
from huggingface_hub.errors import HfHubHTTPError

from medmnist_hf.errors import HubError
from medmnist_hf.hub.client import (
    KIND,
    MAIN,
    client_errors,
    in_words,
    is_transient,
    patiently,
    require_token,
    wait_before,
)
from medmnist_hf.hub.dataset_plan import Describe, Plan, PushOptions, compare
from medmnist_hf.hub.dataset_state import RemoteState, check_state, read_state
from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.local_build import LocalBuild
from medmnist_hf.hub.plan import tag_taken, tags_of
from medmnist_hf.manifest import README_NAME

COLLECTION_ABOUT: Final = "MedMNIST: standardized biomedical images in 2D and 3D, typed Parquet at all sizes."
_ATTEMPTS: Final = 6
_BATCH_FILES: Final = 32
_BATCH_BYTES: Final = 1 << 29


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push left.

    Attributes:
        repo_id: The repository.
        sha: The commit that was checked.
        committed: This push made it.
        pull_request: Address of the pull request that holds it; empty without one.
        configs: Names of the configs that are there.
    """

    repo_id: str
    sha: str
    committed: bool
    pull_request: str
    configs: tuple[str, ...]


def push(
    api: HfApi,
    build: LocalBuild,
    plan: Plan,
    options: PushOptions,
    describe: Describe,
    *,
    on_progress: Callable[[int], object] = lambda count: None,
) -> Pushed:
    """Carry a plan out, or what is left of it, and check what is on the Hub then, file by file.

    Interrupted at any moment, readers see the old state whole or the new one whole, and the same call goes on. Where
    another push comes in between, the repository is read and compared again; its configs stay.

    Args:
        api: The client.
        build: As planned.
        plan: As it was shown.
        options: As planned.
        describe: As planned.
        on_progress: Called with a number of bytes that are up, whether sent now or there already.

    Raises:
        HubError: The Hub refuses or cannot be reached, or another push changed the same configs.
        VerificationError: What is on the Hub then is not the build; the tag is not set.
    """
    require_token(api)
    if plan.empty and plan.state.has_branch:
        return _finish(api, plan, options, plan.state.sha, Pushed(plan.state.repo_id, "", False, "", plan.configs))
    if plan.proposed:
        done = Pushed(plan.state.repo_id, "", False, plan.proposed.url, plan.configs)
        return _finish(api, plan, options, plan.proposed.revision, done)
    patiently(
        f"push the card of {options.repo_id}",
        lambda: DatasetCard(_text(plan.files[README_NAME])).validate(repo_type=KIND),
    )
    _open_branch(api, plan.state, options)
    operations: dict[tuple[str, str], CommitOperationAdd] = {}
    lost = False
    for attempt in range(_ATTEMPTS):
        now = compare(read_state(api, options.repo_id, options.revision), build, options, describe)
        _check_rival(plan, now, build)
        if now.empty:
            # It came with another push, or with a commit of this one whose answer was lost.
            return _finish(api, now, options, now.state.sha, Pushed(options.repo_id, "", lost, "", now.configs))
        additions = [_operation(operations, path, now.files[path]) for path in now.paths("new", "changed")]
        _upload(api, additions, options, on_progress if attempt == 0 else lambda count: None)
        try:
            made = api.create_commit(
                options.repo_id,
                [*additions, *(CommitOperationDelete(path, is_folder=False) for path in now.paths("removed"))],
                commit_message=options.message or _title(build),
                repo_type=KIND,
                revision=options.revision,
                parent_commit=now.state.sha,
                create_pr=options.create_pr,
            )
        except client_errors() as error:
            if not _worth_another_try(error, options, attempt):
                raise in_words(f"push to {options.repo_id}", error) from None
            lost = lost or not _is_stale(error)
            continue
        done = Pushed(options.repo_id, "", True, made.pr_url or "", now.configs)
        return _finish(api, now, options, made.pr_revision or made.oid, done)
    raise HubError(f"cannot push to {options.repo_id}: others push to it all the time, run again later", 412)


def _worth_another_try(error: Exception, options: PushOptions, attempt: int) -> bool:
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


def _text(file: PushFile) -> str:
    return file.source.decode() if isinstance(file.source, bytes) else file.source.read_text(encoding="utf-8")


def _title(build: LocalBuild) -> str:
    return f"Push {build.subset.flag} at size {', '.join(one.config_name for one in build.manifests)}"


def _open_branch(api: HfApi, state: RemoteState, options: PushOptions) -> None:
    what = f"make {options.repo_id}"
    if not state.exists:
        private = options.private
        patiently(what, lambda: api.create_repo(options.repo_id, repo_type=KIND, private=private, exist_ok=True))
    if not state.has_branch and options.revision != MAIN:
        patiently(
            f"make branch {options.revision} of {options.repo_id}",
            lambda: api.create_branch(options.repo_id, branch=options.revision, repo_type=KIND, exist_ok=True),
        )


def _check_rival(planned: Plan, now: Plan, build: LocalBuild) -> None:
    """Another push may add; what it changed of ours, or what would go and was not shown, is for a person to decide."""
    before = {manifest.config_name: manifest for manifest in planned.state.manifests}
    after = {manifest.config_name: manifest for manifest in now.state.manifests}
    for ours in build.manifests:
        name = ours.config_name
        if name in after and after[name] not in (ours, before.get(name)):
            raise HubError(
                f"another push has changed {now.state.repo_id} {name} meanwhile: run again to see what would change",
                412,
            )
    surprise = sorted(set(now.paths("removed")) - set(planned.paths("removed")))
    if surprise:
        raise HubError(
            f"{now.state.repo_id} has got {surprise[0]} meanwhile, which this push would remove: "
            "run again to see what would change",
            412,
        )


def _operation(known: dict[tuple[str, str], CommitOperationAdd], path: str, file: PushFile) -> CommitOperationAdd:
    """The operation that adds a file, kept over attempts since it remembers what has been uploaded."""
    key = (path, file.sha256)
    if key not in known:
        known[key] = CommitOperationAdd(path, file.source)
        known[key].upload_info.sha256 = bytes.fromhex(file.sha256)
    return known[key]


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
    api: HfApi, additions: list[CommitOperationAdd], options: PushOptions, on_progress: Callable[[int], object]
) -> None:
    """Send the large files that the Hub has not got; the client itself asks again where it is busy."""
    for batch in _batches(additions):
        patiently(
            f"upload to {options.repo_id}",
            lambda batch=batch: api.preupload_lfs_files(  # type: ignore[misc]
                options.repo_id,
                batch,
                repo_type=KIND,
                revision=options.revision,
                create_pr=options.create_pr,
                free_memory=False,
            ),
            tries=2,
        )
        on_progress(sum(one.upload_info.size for one in batch))


def _finish(api: HfApi, plan: Plan, options: PushOptions, revision: str, done: Pushed) -> Pushed:
    """Check a commit against the manifests and the build, then tag it."""
    state = read_state(api, options.repo_id, revision)
    check_state(state)
    for path, file in plan.files.items():
        if not state.holds(path, file):
            raise HubError(f"{options.repo_id} has another {path} than was pushed: run again")
    if options.tag:
        set_tag(api, options.repo_id, options.tag, state.sha)
    return Pushed(done.repo_id, state.sha, done.committed, done.pull_request, done.configs)


def set_tag(api: HfApi, repo_id: str, tag: str, sha: str, kind: str = KIND) -> None:
    """Tag a commit, unless it has that tag.

    Raises:
        HubError: The Hub refuses, or the tag names another commit.
    """
    at = tags_of(api, repo_id, kind).get(tag)
    if at is None:
        patiently(
            f"tag {repo_id} as {tag}",
            lambda: api.create_tag(repo_id, tag=tag, revision=sha, repo_type=kind, exist_ok=True),
        )
        at = tags_of(api, repo_id, kind).get(tag)
    if at != sha:
        raise tag_taken(repo_id, tag, str(at))


def add_to_collection(api: HfApi, title: str, namespace: str, repo_ids: Sequence[str], *, private: bool) -> str:
    """Put repositories into a collection, which is made where there is none of that title.

    Args:
        api: The client.
        title: Title of the collection.
        namespace: User or organisation it belongs to.
        repo_ids: Repositories, in order; those in it already stay where they are.
        private: A collection that is made is private.

    Returns:
        Its slug, which follows ``collections/`` in its address.

    Raises:
        HubError: The Hub refuses or cannot be reached.
    """
    what = f"make the collection {title!r} of {namespace}"
    made = patiently(
        what,
        lambda: api.create_collection(
            title, namespace=namespace, description=COLLECTION_ABOUT, private=private, exists_ok=True
        ),
    )
    there = {item.item_id for item in patiently(what, lambda: api.get_collection(made.slug)).items}
    for repo_id in repo_ids:
        if repo_id not in there:
            patiently(
                f"add {repo_id} to the collection {title!r}",
                lambda repo_id=repo_id: api.add_collection_item(made.slug, repo_id, KIND, exists_ok=True),  # type: ignore[misc]
            )
    return made.slug
