"""List, read and download the files of a repository on the Hub at one commit."""

import contextlib
import glob
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

MAX_ENTRIES: Final = 200_000
"""Most files and folders that are listed; the Hub advises against more than 100,000 files in a repository."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file in a commit.

    Attributes:
        size: Size in bytes.
        oid: Git's object id.
        sha256: SHA-256 of a file in large file storage; None for others.
    """

    size: int
    oid: str
    sha256: str | None

    def holds(self, file: PushFile) -> bool:
        """Return whether the content equals that of a local file, by size and SHA-256 or Git's object id."""
        if self.size != file.size:
            return False
        return self.sha256 == file.sha256 if self.sha256 is not None else self.oid == file.git_oid()


@dataclass(frozen=True, slots=True)
class RemoteTree:
    """The files of a repository at one revision.

    Attributes:
        repo_id: ``namespace/name``.
        repo_type: ``dataset``, ``model`` or ``space``.
        exists: Whether the repository exists.
        private: Whether only its owners can see it.
        sha: The commit that was read, 40 hex digits; empty if the repository does not exist.
        has_branch: Whether the requested branch exists; if not, the files are those of the main branch.
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
        """Return whether there is a file with that path and content."""
        return path in self.files and self.files[path].holds(file)


def read_tree(
    api: HfApi, repo_id: str, revision: str = MAIN, *, repo_type: str, missing_ok: bool = False
) -> RemoteTree:
    """List the files of a revision at one commit, even if there is a push meanwhile.

    Args:
        api: The client.
        repo_id: ``namespace/name``.
        revision: Branch, tag or commit, or ``refs/pr/NUMBER`` for a pull request.
        repo_type: ``dataset``, ``model`` or ``space``.
        missing_ok: Return an empty tree for a missing repository, and the main branch for a missing branch.

    Raises:
        HubError: The repository or the revision cannot be read.
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
    list_tree = partial(api.list_repo_tree, repo_id, revision=sha, recursive=True, repo_type=repo_type)
    # Each page of a listing names the next one, so a faulty server could send pages forever.
    entries = call_with_retries(what, lambda: list(islice(list_tree(), MAX_ENTRIES + 1)))
    if len(entries) > MAX_ENTRIES:
        raise HubError(
            f"cannot {what}: it lists more than {MAX_ENTRIES:,} files and folders, is it a MedMNIST repository?"
        )
    files = {
        entry.path: RemoteFile(entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
        for entry in entries
        if isinstance(entry, RepoFile)
    }
    return RemoteTree(repo_id, repo_type, True, bool(info.private), sha, has_branch, files)


def _info(api: HfApi, repo_id: str, revision: str, repo_type: str) -> Any:
    """Call `HfApi.repo_info` with retries; its own errors for a missing repository or revision are not converted."""
    return call_with_retries(
        f"read {repo_id}",
        lambda: api.repo_info(repo_id, revision=revision, repo_type=repo_type),
        reraise=(RepositoryNotFoundError, RevisionNotFoundError),
    )


def read_file(api: HfApi, tree: RemoteTree, path: str) -> bytes:
    """Return the content of a small file in a commit after checking its digest.

    Args:
        api: The client.
        tree: The commit.
        path: Path of one of its files.

    Raises:
        HubError: The file cannot be read, or exceeds the limit on documents.
        VerificationError: The received content is not that of the file.
    """
    size = tree.files[path].size
    if size > DOCUMENT_BYTES:
        raise HubError(
            f"cannot read {path} of {tree.repo_id}: it has {size:,} bytes, more than the limit of {DOCUMENT_BYTES:,}: "
            "push the config again"
        )
    url = hf_hub_url(tree.repo_id, path, repo_type=tree.repo_type, revision=tree.sha, endpoint=api.endpoint)
    client: Any = utils  # its functions are not declared as exported
    headers = client.build_hf_headers(token=api.token)

    def get() -> bytes:
        response = client.get_session().get(url, headers=headers, follow_redirects=True)
        client.hf_raise_for_status(response)
        return bytes(response.content)

    content = call_with_retries(f"read {path} of {tree.repo_id}", get)
    if not tree.holds(path, PushFile.from_bytes(content)):
        raise VerificationError(f"{path} of {tree.repo_id} was damaged during the download: run again")
    return content


def download_document(repo_id: str, name: str, **options: Any) -> Path:
    """Download a small file into the cache of `huggingface_hub` unless it is there.

    Args:
        repo_id: The repository.
        name: Path of the file within it.
        **options: Passed on to `huggingface_hub.hf_hub_download`.

    Returns:
        Path of the file in the snapshot of its commit.

    Raises:
        LargeResponseError: The file exceeds the limit on documents.
        OSError: The received content is not that of the file. It is removed from the cache; otherwise the client would
            keep using it.
        Exception: The errors in `client_errors`.
    """
    path = Path(hf_hub_download(repo_id, name, tqdm_class=_DocumentBar, **options))
    blob = path.resolve()
    # The client names the cached file after the digest that the Hub declares, without checking the content.
    if _GIT_OID.fullmatch(blob.name) and PushFile.from_bytes(read_document(blob)).git_oid() != blob.name:
        for copy in (path, blob):
            copy.unlink(missing_ok=True)
        raise OSError(f"the received content of {name} does not match its digest")
    return path


_GIT_OID: Final = re.compile("[0-9a-f]{40}")


class _DocumentBar(tqdm):
    """Progress bar that stops the download of a file above the limit on documents; the client has no such limit."""

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
    """Download some files of a commit into the cache of `huggingface_hub`, skipping those that are cached.

    Args:
        repo_id: The repository.
        sha: The full hash of the commit.
        names: Paths of the files within it.
        repo_type: ``dataset``, ``model`` or ``space``.
        **options: Passed on to `huggingface_hub.snapshot_download`.

    Returns:
        The folder of the snapshot, without files that the commit lacks.

    Raises:
        Exception: The errors in `client_errors`.
    """
    patterns = [glob.escape(name) for name in names]  # prediction files have brackets in their names
    folder = Path(snapshot_download(repo_id, repo_type=repo_type, revision=sha, allow_patterns=patterns, **options))
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        # The client caches the listing of a commit forever, even one from an empty response.
        (folder.parents[1] / "trees" / f"{sha}.json").unlink(missing_ok=True)
        for name in missing:
            with contextlib.suppress(EntryNotFoundError):
                hf_hub_download(repo_id, name, repo_type=repo_type, revision=sha, **options)
    return folder
