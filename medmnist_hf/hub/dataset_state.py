"""A repository on the Hub as it stands at one commit: read with patience, checked file by file, fetched for proof."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from huggingface_hub import DatasetCard, HfApi, constants, get_token, hf_hub_url, snapshot_download, utils
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from medmnist_hf.errors import BuildError, HubError, VerificationError
from medmnist_hf.hub.local_build import AUDIT_NAME, README_NAME, PushFile, held
from medmnist_hf.manifest import MANIFEST_NAME, Manifest, parse_manifest

KIND: Final = "dataset"
MAIN: Final = "main"
_TRIES: Final = 5
_FIRST_WAIT: Final = 0.5
"""Seconds before the second try; each further one waits twice as long."""

_LONGEST_WAIT: Final = 60.0
"""Seconds; a Hub that asks for more is told so to the person, who may come back later."""
_TRANSIENT: Final = {429, 500, 502, 503, 504}
_CONFIG: Final = re.compile(r"(\d+)/.+")
_Result = TypeVar("_Result")


def _http() -> Any:  # noqa: ANN401  (the HTTP library in use, by whatever name it is installed)
    return utils.httpx  # type: ignore[attr-defined]


def client_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client raises: errors of its own, of the HTTP library and of the Xet library."""
    return (OSError, ValueError, RuntimeError, _http().HTTPError)


_ADVICE: Final = {
    401: "the token is unknown or has expired: log in with `hf auth login`, or set HF_TOKEN",
    403: "the token may not do this: use one with write access to the namespace",
    404: "no such repository or revision, or the token may not see it: check the name and the token",
    409: "it is there already or in conflict: look at the repository and run again",
    412: "the repository has changed meanwhile: run again",
    413: "the request is too large: build with a smaller --max-shard-size",
    429: "too many requests: run again later, what is up there is not sent again",
}


def in_words(what: str, error: Exception) -> HubError:
    """One line for an error of the Hub's client, without any token."""
    response = getattr(error, "response", None)
    status = response.status_code if isinstance(error, HfHubHTTPError) and response is not None else 0
    if status:
        told = getattr(error, "server_message", None) or f"HTTP {status}"
        advice = _ADVICE.get(status, "run again" if status >= 500 else "check the arguments and run again")
        reason = f"HTTP {status}, {told.splitlines()[0]}" if told != f"HTTP {status}" else told
    else:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        advice, reason = "check the network and run again, what is up there is not sent again", lines[0]
    return HubError(_without_token(f"cannot {what} ({reason}): {advice}"), status)


def _without_token(text: str) -> str:
    token = get_token()
    text = text.replace(token, "***") if token else text
    return re.sub(r"hf_\w{6,}", "***", text)


def is_transient(error: Exception) -> bool:
    """The same call may succeed later: the network failed, or the Hub is busy or broken."""
    if isinstance(error, HfHubHTTPError):
        return error.response is not None and error.response.status_code in _TRANSIENT
    if isinstance(error, OfflineModeIsEnabled):
        return False
    return isinstance(error, (_http().TransportError, ConnectionError, TimeoutError))


def wait_before(error: Exception, attempt: int) -> bool:
    """Sleep as the Hub asks by Retry-After, or twice as long each time; False if it asks for too long."""
    asked = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    seconds = float(asked) if asked.isdecimal() else _FIRST_WAIT * 2**attempt
    if seconds > _LONGEST_WAIT:
        return False
    time.sleep(seconds)
    return True


def patiently(what: str, call: Callable[[], _Result], tries: int = _TRIES) -> _Result:
    """Call the Hub, again where it is busy or the network fails; only for calls that may be repeated.

    Args:
        what: What is tried, to follow "cannot" in an error.
        call: The call.
        tries: At most so often.

    Raises:
        HubError: It was refused, or all tries failed.
    """
    for attempt in range(tries):
        try:
            return call()
        except client_errors() as error:
            if attempt + 1 < tries and is_transient(error) and wait_before(error, attempt):
                continue
            raise in_words(what, error) from None
    raise AssertionError("unreachable")


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
        exists: There is such a repository.
        private: Only its owners see it.
        sha: The commit that was read, 40 hex digits; empty where there is no repository.
        has_branch: The branch that was asked for is there; where not, the files are those of the main branch.
        files: Path -> file.
    """

    repo_id: str
    exists: bool
    private: bool
    sha: str
    has_branch: bool
    files: dict[str, RemoteFile]

    def holds(self, path: str, file: PushFile) -> bool:
        """There is a file of that path and content."""
        return path in self.files and self.files[path].holds(file)


@dataclass(frozen=True, slots=True)
class RemoteState(RemoteTree):
    """What a revision of a data set's repository holds.

    Attributes:
        manifests: The configs, by ascending size.
        audits: Config name -> content of its audit.
        card: Text of the card; empty without one.
    """

    manifests: tuple[Manifest, ...]
    audits: dict[str, bytes]
    card: str


def config_of(path: str) -> str | None:
    """Name of the config that a file of a repository belongs to; None for a file beside the configs."""
    match = _CONFIG.fullmatch(path)
    return match[1] if match else None


def require_token(api: HfApi) -> None:
    """Raise `HubError` where there is no token to write with."""
    if not api.token and get_token() is None:
        raise HubError("no token for the Hub: log in with `hf auth login`, or set HF_TOKEN")


def read_tree(
    api: HfApi, repo_id: str, revision: str = MAIN, *, kind: str = KIND, may_lack: bool = False
) -> RemoteTree:
    """List a revision: all of it at one commit, whatever is pushed meanwhile.

    Args:
        api: The client.
        repo_id: ``namespace/name``.
        revision: Branch, tag or commit, or ``refs/pr/NUMBER`` for a pull request.
        kind: ``dataset``, ``model`` or ``space``.
        may_lack: A missing repository gives an empty tree, a missing branch that of the main branch.

    Raises:
        HubError: It cannot be read.
    """
    what, has_branch = f"read {repo_id}", True
    try:
        info = _info(api, repo_id, revision, kind)
    except RepositoryNotFoundError as error:
        if not may_lack or (error.response is not None and error.response.status_code == 401):
            raise in_words(what, error) from None
        return RemoteTree(repo_id, False, False, "", False, {})
    except RevisionNotFoundError as error:
        if not may_lack:
            raise in_words(f"{what} at {revision}", error) from None
        has_branch = False
        info = patiently(what, lambda: _info(api, repo_id, MAIN, kind))
    sha = str(info.sha)
    listed = patiently(what, lambda: list(api.list_repo_tree(repo_id, revision=sha, recursive=True, repo_type=kind)))
    files = {
        entry.path: RemoteFile(entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
        for entry in listed
        if isinstance(entry, RepoFile)
    }
    return RemoteTree(repo_id, True, bool(info.private), sha, has_branch, files)


def read_state(api: HfApi, repo_id: str, revision: str = MAIN, *, may_lack: bool = False) -> RemoteState:
    """Read a revision of a data set; arguments as in `read_tree`.

    Raises:
        HubError: It cannot be read, or has data that no manifest describes.
    """
    tree = read_tree(api, repo_id, revision, may_lack=may_lack)
    sha, files = tree.sha, tree.files
    found: dict[str, Manifest] = {}
    audits: dict[str, bytes] = {}
    for config in sorted({config for path in files if (config := config_of(path))}, key=int):
        if f"{config}/{MANIFEST_NAME}" not in files:
            continue
        text = read_file(api, repo_id, sha, f"{config}/{MANIFEST_NAME}", files)
        try:
            found[config] = parse_manifest(text.decode(), f"{repo_id}/{config}/{MANIFEST_NAME}")
        except (BuildError, UnicodeDecodeError):
            raise HubError(f"{repo_id} has no readable {config}/{MANIFEST_NAME}: push that config again") from None
        if f"{config}/{AUDIT_NAME}" in files:
            audits[config] = read_file(api, repo_id, sha, f"{config}/{AUDIT_NAME}", files)
    card = read_file(api, repo_id, sha, README_NAME, files).decode() if README_NAME in files else ""
    manifests = tuple(found.values())
    return RemoteState(repo_id, tree.exists, tree.private, sha, tree.has_branch, files, manifests, audits, card)


def _info(api: HfApi, repo_id: str, revision: str, kind: str) -> Any:  # noqa: ANN401  (DatasetInfo or SpaceInfo)
    """As `HfApi.repo_info`, which tells what is missing by its own exceptions; busy Hubs are asked again."""
    for attempt in range(_TRIES):
        try:
            return api.repo_info(repo_id, revision=revision, repo_type=kind)
        except (RepositoryNotFoundError, RevisionNotFoundError):
            raise
        except client_errors() as error:
            if attempt + 1 < _TRIES and is_transient(error) and wait_before(error, attempt):
                continue
            raise in_words(f"read {repo_id}", error) from None
    raise AssertionError("unreachable")


def read_file(api: HfApi, repo_id: str, sha: str, path: str, files: dict[str, RemoteFile]) -> bytes:
    """Content of a small file of a commit, which must be the one the commit names.

    Raises:
        HubError: It cannot be read.
        VerificationError: What came is not that file.
    """
    what = f"read {path} of {repo_id}"
    url = hf_hub_url(repo_id, path, repo_type=KIND, revision=sha, endpoint=api.endpoint)
    client: Any = utils  # whose functions are exported without saying so
    headers = client.build_hf_headers(token=api.token)

    def get() -> bytes:
        response = client.get_session().get(url, headers=headers, follow_redirects=True)
        client.hf_raise_for_status(response)
        return bytes(response.content)

    content = patiently(what, get)
    if not files[path].holds(held(content)):
        raise VerificationError(f"{path} of {repo_id} came down damaged: run again")
    return content


def check_state(state: RemoteState) -> None:
    """Prove that a commit is whole: each shard there by size and SHA-256, none beside them, each config on the card.

    Raises:
        VerificationError: Something differs; the message names the file.
    """
    where = f"{state.repo_id} at {state.sha[:12]}"
    known: set[str] = set()
    for manifest in state.manifests:
        for shard in manifest.shards:
            path = f"{manifest.config_name}/{shard.name}"
            known.add(path)
            file = state.files.get(path)
            if file is None:
                raise VerificationError(f"{where} lacks {path}: push again")
            if (file.size, file.sha256) != (shard.bytes, shard.sha256):
                raise VerificationError(f"{where} has a {path} that is not the manifest's: push again")
    for path in sorted(state.files):
        if path.endswith(".parquet") and path not in known:
            raise VerificationError(f"{where} has {path}, which is in no manifest: push with --replace")
        if path.endswith(".py"):
            raise VerificationError(f"{where} has {path}, and load_dataset refuses code: push with --replace")
    names = config_names(state.card, where)
    if names != [manifest.config_name for manifest in state.manifests]:
        raise VerificationError(f"{where} has a card with the configs {', '.join(names)}: push again")


def card_head(card: str, where: str) -> dict[str, Any]:
    """The metadata of a card whose configs are named by strings.

    Raises:
        VerificationError: Its head is no valid YAML, lists no configs or names one by anything but a string.
    """
    if not card.startswith("---"):
        raise VerificationError(f"{where} has no card with metadata: push again")
    try:
        data: Any = DatasetCard(card).data
        head: dict[str, Any] = data.to_dict()
        names = [config["config_name"] for config in head["configs"]]
    except Exception as error:  # the parser's errors share no base with those of a wrong shape
        why = str(error).partition("\n")[0]
        raise VerificationError(f"{where} has a card without valid metadata ({why}): render it again") from None
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise VerificationError(f"{where} has a card whose config_name {wrong[0]} is no string: quote it")
    return head


def config_names(card: str, where: str) -> list[str]:
    """Names of the configs on a card, in its order; errors as in `card_head`."""
    return [config["config_name"] for config in card_head(card, where)["configs"]]


def fetch_config(api: HfApi, state: RemoteState, manifest: Manifest) -> Path:
    """Download one config and the card of a commit into the user's cache, resuming what is there.

    Returns:
        The config's folder, as ``scripts/build.py`` would have left it.

    Raises:
        HubError: It cannot be downloaded.
    """
    wanted = [README_NAME, *(path for path in state.files if config_of(path) == manifest.config_name)]
    folder = patiently(
        f"download {state.repo_id}",
        lambda: snapshot_download(
            state.repo_id,
            repo_type=KIND,
            revision=state.sha,
            allow_patterns=wanted,
            endpoint=api.endpoint,
            token=api.token,
            cache_dir=constants.HF_HUB_CACHE,
        ),
    )
    return Path(str(folder)) / manifest.config_name
