"""The files of a repository on the Hub at one commit."""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from huggingface_hub import HfApi, hf_hub_download, hf_hub_url, snapshot_download, utils
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.tqdm import tqdm

from medmnist_hf.errors import HubError, VerificationError
from medmnist_hf.files import DOCUMENT_BYTES, read_document
from medmnist_hf.hub.client import MAIN, call_with_retries, to_hub_error
from medmnist_hf.hub.files import PushFile
from medmnist_hf.network import LargeResponseError

MOST_ENTRIES: Final = 200_000
"""Files and folders of a repository that is read; the Hub advises against more than 100,000 files."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a commit.

    Attributes:
        size: Size in bytes.
        oid: Git's name for it.
        sha256: SHA-256 of a large file; None for a regular one.
    """

    size: int
    oid: str
    sha256: str | None

    def holds(self, file: PushFile) -> bool:
        """The content is that of a local file, by its size and its SHA-256 or Git's name."""
        if self.size != file.size:
            return False
        return self.sha256 == file.sha256 if self.sha256 is not None else self.oid == file.git_oid()


@dataclass(frozen=True, slots=True)
class RemoteTree:
    """The files of a revision of a repository.

    Attributes:
        repo_id: ``namespace/name``.
        repo_type: ``dataset``, ``model`` or ``space``.
        exists: There is such a repository.
        private: Only its owners see it.
        sha: The commit that was read, 40 hex digits; empty where there is no repository.
        has_branch: The branch that was asked for is there; where not, the files are those of the main branch.
        files: Path -> file.
    """

    repo_id: str
    repo_type: str
    exists: bool
    private: bool
    sha: str
    has_branch: bool
    files: dict[str, RemoteFile]

    def holds(self, path: str, file: PushFile) -> bool:
        """There is a file of that path and content."""
        return path in self.files and self.files[path].holds(file)


def read_tree(
    api: HfApi, repo_id: str, revision: str = MAIN, *, repo_type: str, missing_ok: bool = False
) -> RemoteTree:
    """List a revision: all of it at one commit, whatever is pushed meanwhile.

    Args:
        api: The client.
        repo_id: ``namespace/name``.
        revision: Branch, tag or commit, or ``refs/pr/NUMBER`` for a pull request.
        repo_type: ``dataset``, ``model`` or ``space``.
        missing_ok: A missing repository gives an empty tree, a missing branch that of the main branch.

    Raises:
        HubError: It cannot be read.
    """
    what, has_branch = f"read {repo_id}", True
    try:
        info = _info(api, repo_id, revision, repo_type)
    except RepositoryNotFoundError as error:
        if not missing_ok or (error.response is not None and error.response.status_code == 401):
            raise to_hub_error(what, error) from None
        return RemoteTree(repo_id, repo_type, False, False, "", False, {})
    except RevisionNotFoundError as error:
        if not missing_ok:
            raise to_hub_error(f"{what} at {revision}", error) from None
        has_branch = False
        info = call_with_retries(what, lambda: _info(api, repo_id, MAIN, repo_type))
    sha = str(info.sha)
    listed = partial(api.list_repo_tree, repo_id, revision=sha, recursive=True, repo_type=repo_type)
    # A listing comes in pages, each of which names the next, so that it could go on for ever.
    entries = call_with_retries(what, lambda: list(islice(listed(), MOST_ENTRIES + 1)))
    if len(entries) > MOST_ENTRIES:
        raise HubError(f"cannot {what}: it lists more than {MOST_ENTRIES:,} files and folders, is it of this project?")
    files = {
        entry.path: RemoteFile(entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
        for entry in entries
        if isinstance(entry, RepoFile)
    }
    return RemoteTree(repo_id, repo_type, True, bool(info.private), sha, has_branch, files)


def _info(api: HfApi, repo_id: str, revision: str, repo_type: str) -> Any:
    """As `HfApi.repo_info`, which reports what is missing by its own exceptions; a busy Hub is asked again."""
    return call_with_retries(
        f"read {repo_id}",
        lambda: api.repo_info(repo_id, revision=revision, repo_type=repo_type),
        reraise=(RepositoryNotFoundError, RevisionNotFoundError),
    )


def read_file(api: HfApi, tree: RemoteTree, path: str) -> bytes:
    """Content of a small file of a commit, which must be the one the commit names.

    Args:
        api: The client.
        tree: The commit.
        path: Path of one of its files.

    Raises:
        HubError: It cannot be read, or the commit lists it with more bytes than a document may have.
        VerificationError: What came is not that file.
    """
    size = tree.files[path].size
    if size > DOCUMENT_BYTES:
        raise HubError(
            f"cannot read {path} of {tree.repo_id}: it has {size:,} bytes, and {DOCUMENT_BYTES:,} at most are read: "
            "push the config again"
        )
    url = hf_hub_url(tree.repo_id, path, repo_type=tree.repo_type, revision=tree.sha, endpoint=api.endpoint)
    client: Any = utils  # whose functions are exported without saying so
    headers = client.build_hf_headers(token=api.token)

    def get() -> bytes:
        response = client.get_session().get(url, headers=headers, follow_redirects=True)
        client.hf_raise_for_status(response)
        return bytes(response.content)

    content = call_with_retries(f"read {path} of {tree.repo_id}", get)
    if not tree.holds(path, PushFile.from_bytes(content)):
        raise VerificationError(f"{path} of {tree.repo_id} came down damaged: run again")
    return content


def download_document(repo_id: str, name: str, **options: Any) -> Path:
    """Download a small file into the cache of `huggingface_hub`, or find it there.

    Args:
        repo_id: The repository.
        name: Path of the file within it.
        **options: Passed on to `huggingface_hub.hf_hub_download`.

    Returns:
        Its path in the snapshot of its commit.

    Raises:
        LargeResponseError: It has more bytes than a document may have.
        OSError: What came is not the file that the Hub named; it is removed, since the client would ask no more.
        Exception: As `client_errors` lists.
    """
    path = Path(hf_hub_download(repo_id, name, tqdm_class=_DocumentBar, **options))
    blob = path.resolve()
    # The client names a file by what the Hub says it is, and does not look at what came.
    if _GIT_OID.fullmatch(blob.name) and PushFile.from_bytes(read_document(blob)).git_oid() != blob.name:
        for copy in (path, blob):
            copy.unlink(missing_ok=True)
        raise OSError(f"the answer for {name} is not that file")
    return path


_GIT_OID: Final = re.compile("[0-9a-f]{40}")


class _DocumentBar(tqdm):
    """The progress of a small file, which ends it where it is a large one: the client itself knows no limit."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._size = 0
        _check_document_size(options.get("total") or 0)
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]

    def update(self, n: float | None = 1) -> Any:
        self._size += int(n or 0)
        _check_document_size(self._size)
        return super().update(n)


def _check_document_size(size: int) -> None:
    if size > DOCUMENT_BYTES:
        raise LargeResponseError(f"it has more than {DOCUMENT_BYTES:,} bytes")


def download_files(repo_id: str, sha: str, names: Sequence[str], *, repo_type: str, **options: Any) -> Path:
    """Download some files of a commit into the cache of `huggingface_hub`; those that are there are not asked for.

    Args:
        repo_id: The repository.
        sha: The full hash of the commit.
        names: Paths of the files within it.
        repo_type: Its kind.
        **options: Passed on to `huggingface_hub.snapshot_download`.

    Returns:
        The folder of the snapshot. A file that the commit does not have is not in it.

    Raises:
        Exception: As `client_errors` lists.
    """
    folder = Path(snapshot_download(repo_id, repo_type=repo_type, revision=sha, allow_patterns=list(names), **options))
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        # The client keeps the listing of a commit for good, also one that an answer without files gave.
        (folder.parents[1] / "trees" / f"{sha}.json").unlink(missing_ok=True)
        for name in missing:
            with contextlib.suppress(EntryNotFoundError):
                hf_hub_download(repo_id, name, repo_type=repo_type, revision=sha, **options)
    return folder
