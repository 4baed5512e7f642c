"""Entries in a data set repository on the Hub: ``entries/NAME/``, each opened as a pull request and checked there."""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.constants import REPO_TYPE_DATASET

from medmnist_hf.errors import HubError, ScoreError, VerificationError, cannot_read, shorten
from medmnist_hf.files import read_document
from medmnist_hf.hub.client import MAIN, call_with_retries
from medmnist_hf.hub.commit import CommitOptions, Pushed, commit_plan
from medmnist_hf.hub.files import PushFile
from medmnist_hf.hub.plan import Change, FilePlan, changes_of
from medmnist_hf.hub.pull_requests import PullRequest, open_pull_requests
from medmnist_hf.hub.repo_id import split_repo_id
from medmnist_hf.hub.tree import RemoteTree, download_files, read_file, read_tree
from medmnist_hf.manifest import README_NAME
from medmnist_hf.submissions.card import render_card
from medmnist_hf.submissions.check import Checked
from medmnist_hf.submissions.entry import ENTRY_NAME
from medmnist_hf.submissions.folder import MOST_FILES, ROWS_NAME, files_in, largest, sort_files
from medmnist_hf.submissions.rows import ENTRIES, Row, parse_rows, rows_text

_DEPTH: Final = 2
"""Folders above the files of an entry: ``entries`` and its name."""


@dataclass(frozen=True, slots=True)
class EntryPlan(FilePlan):
    """Changes that the pull request of an entry makes to a repository.

    Attributes:
        pull_requests: The user's open pull requests.
    """

    pull_requests: tuple[PullRequest, ...] = ()

    @property
    def proposed(self) -> PullRequest | None:
        """The open pull request with exactly these changes."""
        return next((request for request in self.pull_requests if request.same), None)

    def lines(self) -> Iterator[str]:
        """Yield the lines of `FilePlan.lines`, then the open pull requests."""
        yield from super(EntryPlan, self).lines()
        yield from map(str, self.pull_requests)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a pull request changes.

    Attributes:
        tree: Its files.
        base: The files of the main branch from which it was made.
        main: The files of the main branch now.
        name: The entry that it adds or changes.
        faults: Other changes, a line each, which an entry must not make.
    """

    tree: RemoteTree
    base: RemoteTree
    main: RemoteTree
    name: str
    faults: tuple[str, ...]


def read_known(api: HfApi, tree: RemoteTree) -> list[Row]:
    """Read the recomputed rows of all entries of a repository.

    Raises:
        HubError: They cannot be read.
        ScoreError: The rows of an entry are not valid.
    """
    paths = [path for path in tree.files if _place_of(path)[1] == ROWS_NAME]
    rows: list[Row] = []
    with fetched(api, tree, paths) as folder:
        for path in paths:
            rows += parse_rows(read_document(folder / path), f"{path} of {tree.repo_id}")
    return rows


def entry_names(tree: RemoteTree) -> list[str]:
    """Names of the entries of a repository, sorted."""
    return sorted({name for name, file in map(_place_of, tree.files) if file == ENTRY_NAME})


def plan_entry(api: HfApi, folder: Path, checked: Checked, options: CommitOptions, *, replaces: bool) -> EntryPlan:
    """Compare an entry with a repository, without changing anything.

    Args:
        api: The client.
        folder: Folder of the entry.
        checked: Its check, without faults.
        options: Where to push; a pull request is opened in any case.
        replaces: Whether it may replace an entry of the same name.

    Raises:
        ScoreError: The entry has faults, or a file cannot be read.
        HubError: The repository cannot be read, holds other data, or an entry of that name.
    """
    if checked.faults:
        raise ScoreError(f"{checked.name} has faults: run medmnist-hf submit check {folder}")
    state = read_tree(api, options.repo_id, options.revision, repo_type=REPO_TYPE_DATASET, missing_ok=True)
    plan = _compare(api, state, _local_files(folder, checked), checked.name)
    if set(plan.paths("changed", "removed")) - {README_NAME} and not replaces:
        raise HubError(
            f"{options.repo_id} has an entry {checked.name}: rename the folder, or pass --replace if it is yours"
        )
    if state.exists and not plan.empty and (api.token or get_token()):
        found = open_pull_requests(api, options.repo_id, options.revision, plan.files, plan.paths("removed"))
        plan = replace(plan, pull_requests=found)
    return plan


def entry_lines(folder: Path, checked: Checked) -> Iterator[str]:
    """Yield the files of an entry by their paths in a repository, with their sizes, without reading the repository.

    Raises:
        ScoreError: A file cannot be read.
    """
    files = _local_files(folder, checked)
    width = max(map(len, files))
    yield from (f"{path:<{width}} {file.size:>13,}" for path, file in sorted(files.items()))


def push_entry(api: HfApi, plan: EntryPlan, checked: Checked, options: CommitOptions) -> Pushed:
    """Carry out a plan in a pull request, see `commit_plan`.

    Args:
        api: The client.
        plan: The plan that the user has seen.
        checked: The entry of the plan.
        options: The options of the plan.

    Raises:
        HubError: The Hub refuses or cannot be reached, or another push changed the same files.
    """
    files = {path: file for path, file in plan.files.items() if path != README_NAME}
    read = partial(read_tree, api, options.repo_id, repo_type=REPO_TYPE_DATASET)
    return commit_plan(
        api,
        plan,
        replace(options, create_pr=True),
        title=f"Entry {checked.name}: {checked.entry.method} on {', '.join(checked.entry.results)}",
        compare=lambda: _compare(api, read(options.revision), files, checked.name),
        read_back=read,
        proposed=plan.proposed,
    )


def read_proposal(api: HfApi, repo_id: str, number: int) -> Proposal:
    """Read which files a pull request changes, compared with the commit that it was made from.

    Raises:
        HubError: It cannot be read, is merged, removes an entry, or changes none or several.
    """
    read = partial(read_tree, api, repo_id, repo_type=REPO_TYPE_DATASET)
    tree, main = read(f"refs/pr/{number}"), read(MAIN)
    what = f"read the commits of {repo_id}"

    def commits(revision: str) -> list[str]:
        found = call_with_retries(
            what, lambda: api.list_repo_commits(repo_id, repo_type=REPO_TYPE_DATASET, revision=revision)
        )
        return [commit.commit_id for commit in found]

    merged = set(commits(main.sha))
    fork = next((sha for sha in commits(tree.sha) if sha in merged), None)
    if fork is None or fork == tree.sha:
        raise HubError(f"pull request {number} of {repo_id} adds nothing to its main branch: check its number")
    base = read(fork)
    changed = [path for path in {*tree.files, *base.files} if tree.files.get(path) != base.files.get(path)]
    names = sorted({name for name, _ in map(_place_of, changed) if name})
    if len(names) != 1:
        raise HubError(
            f"pull request {number} of {repo_id} changes {len(names)} entries ({', '.join(map(shorten, names[:5]))}): "
            "one is checked at a time, so ask for a pull request per entry"
        )
    if names[0] not in entry_names(tree):
        raise HubError(f"pull request {number} of {repo_id} removes the entry {shorten(names[0])}: nothing to check")
    starts = README_NAME not in base.files  # the first entry of a repository comes with its card
    faults = [
        f"{path}: not part of the entry {names[0]}: a pull request changes one entry and nothing else"
        for path in sorted(changed)
        if not _place_of(path)[0] and not (starts and path == README_NAME)
    ]
    return Proposal(tree, base, main, names[0], tuple(faults))


@contextmanager
def fetched_entry(api: HfApi, tree: RemoteTree, name: str) -> Iterator[Path]:
    """Download an entry into a folder of its name, which is removed afterwards.

    Files that do not belong to an entry are not downloaded, but empty ones have their names, so that a check reports
    them.

    Args:
        api: The client.
        tree: Commit of the repository.
        name: Name of the entry.

    Raises:
        HubError: A file cannot be read, or there are more than an entry can have.
    """
    prefix = f"{ENTRIES}/{name}/"
    paths = [path for path in tree.files if path.startswith(prefix)]
    if len(paths) > MOST_FILES:
        raise HubError(f"{prefix} of {tree.repo_id} holds more than {MOST_FILES:,} files, so it is not an entry")
    files, _ = sort_files(path.removeprefix(prefix) for path in paths)
    wanted = {prefix + path for path in (*(file.path for file in files), ENTRY_NAME, ROWS_NAME)} & {*paths}
    with fetched(api, tree, wanted) as folder:
        for path in {*paths} - wanted:
            _check_path(tree, path)
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).touch()
        yield folder / prefix


@contextmanager
def fetched_results(api: HfApi, tree: RemoteTree, flag: str) -> Iterator[Path]:
    """Download the descriptions of all entries and their prediction files of one subset, as in `fetched`."""
    wanted = []
    for path in tree.files:
        name, file = _place_of(path)
        if name and (file == ENTRY_NAME or any(each.name.flag == flag for each in sort_files([file])[0])):
            wanted.append(path)
    with fetched(api, tree, wanted) as folder:
        yield folder / ENTRIES


@contextmanager
def fetched(api: HfApi, tree: RemoteTree, paths: Collection[str]) -> Iterator[Path]:
    """Download files of a commit, by way of the user's cache, into a folder that is removed afterwards.

    Raises:
        HubError: A file is too large, or cannot be downloaded.
        VerificationError: A received file is not that of the commit.
    """
    for path in paths:
        _check_path(tree, path)
        if tree.files[path].size > largest(path):
            raise HubError(f"{path} of {tree.repo_id} has more than {largest(path):,} bytes: it is not read")
    with TemporaryDirectory(prefix="medmnist-entries-") as temporary:
        folder = Path(temporary)
        if paths:
            snapshot = call_with_retries(
                f"download entries of {tree.repo_id}",
                lambda: download_files(
                    tree.repo_id,
                    tree.sha,
                    list(paths),
                    repo_type=REPO_TYPE_DATASET,
                    endpoint=api.endpoint,
                    token=api.token,
                    cache_dir=constants.HF_HUB_CACHE,
                ),
            )
        for path in paths:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(snapshot / path, folder / path)
            if not tree.holds(path, PushFile.from_folder(folder, path)):
                raise VerificationError(f"{path} of {tree.repo_id} was damaged during the download: run again")
        yield folder


def _check_path(tree: RemoteTree, path: str) -> None:
    """Refuse a path that leads out of its folder, which Git cannot hold but a server can send."""
    if ".." in path.split("/"):
        raise HubError(f"{tree.repo_id} lists {shorten(path)}, which leads out of its folder: it is not read")


def _local_files(folder: Path, checked: Checked) -> dict[str, PushFile]:
    """The files of an entry by their paths in a repository, with the recomputed rows."""
    prefix = f"{ENTRIES}/{checked.name}"
    files = {f"{prefix}/{ROWS_NAME}": PushFile.from_bytes(rows_text(checked.rows).encode())}
    try:
        for path in files_in(folder):
            if path != ROWS_NAME:
                files[f"{prefix}/{path}"] = PushFile.from_folder(folder, path)
    except OSError as error:
        raise ScoreError(cannot_read(error.filename, error, "check the file")) from None
    return files


def _compare(api: HfApi, state: RemoteTree, entry: dict[str, PushFile], name: str) -> EntryPlan:
    """Compare the files of an entry with a repository, whose card is kept."""
    split_repo_id(state.repo_id)
    card = render_card(state.repo_id).encode()
    if README_NAME in state.files and entry_names(state):
        card = read_file(api, state, README_NAME)
    elif set(state.files) - {README_NAME, ".gitattributes"}:
        raise HubError(f"{state.repo_id} holds other files than entries: name another repository")
    files = entry | {README_NAME: PushFile.from_bytes(card)}
    prefix = f"{ENTRIES}/{name}/"
    removed = [
        Change(path, "removed", file.size)
        for path, file in state.files.items()
        if path.startswith(prefix) and path not in files
    ]
    changes = sorted((*changes_of(files, state.files), *removed), key=lambda change: change.path)
    return EntryPlan(state, tuple(changes), files)


def _place_of(path: str) -> tuple[str, str]:
    """Name of the entry to which a path of a repository belongs, and the rest; both empty for other files."""
    parts = path.split("/", _DEPTH)
    return (parts[1], parts[2]) if len(parts) > _DEPTH and parts[0] == ENTRIES else ("", "")
